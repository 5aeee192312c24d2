//! What takes requests instead of a plain `functions/` folder: `_routes.json`,
//! `_worker.js`, a Workers project; and what the modules of a worker may import.

use engawa_testkit::TestProject;
use serde_json::json;

use crate::functions::HEAD;
use crate::http::get;
use crate::start;

// pages.md 9.5: J16; 4.3
#[test]
fn routes_json_says_what_goes_to_functions() {
    let project = TestProject::new(&[
        ("wrangler.toml", HEAD),
        ("public/index.html", "asset index"),
        ("public/404.html", "asset 404"),
        ("public/date.html", "asset date"),
        (
            "public/_routes.json",
            r#"{ "version": 1, "include": ["/", "/greeting/*", "/greeting*", "/date"], "exclude": ["/bye*", "/date", "/*.*"] }"#,
        ),
        (
            "functions/[[all]].js",
            "export const onRequest = () => new Response('function');",
        ),
    ]);
    let dev = start(&project);
    for (path, text) in [
        ("/", "function"),
        ("/date", "asset date"),
        ("/greetings", "function"),
        ("/greeting/x", "function"),
        ("/greeting/test.json", "asset 404"),
        ("/zzz", "asset 404"),
    ] {
        assert_eq!(get(&dev, path).text, text, "{path}");
    }
}

// pages.md 6
#[test]
fn a_worker_file_takes_every_request_and_functions_are_not_used() {
    let project = TestProject::new(&[
        ("wrangler.toml", HEAD),
        ("public/index.html", "asset index"),
        (
            "public/_worker.js",
            "import { greeting } from '../lib/greeting.js';\n\
             export default { async fetch(request, env) {\n\
               const { pathname } = new URL(request.url);\n\
               if (pathname === '/api') return new Response(greeting);\n\
               return env.ASSETS.fetch(request);\n\
             } };",
        ),
        (
            "lib/greeting.js",
            "export const greeting = 'from the worker';",
        ),
        (
            "functions/api.js",
            "export const onRequest = () => new Response('never');",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(get(&dev, "/api").text, "from the worker");
    assert_eq!(get(&dev, "/").text, "asset index");
    assert_eq!(
        get(&dev, "/_worker.js").text,
        "asset index",
        "it is no asset (and this site is a single page)"
    );
}

// pages.md 6: the folder's modules stay apart, also those that only a computed import names.
#[test]
fn a_worker_folder_keeps_its_modules() {
    let project = TestProject::new(&[
        ("wrangler.toml", HEAD),
        ("public/index.html", "asset index"),
        (
            "public/_worker.js/index.js",
            "import text from './text.txt';\n\
             import { a } from './chunks/a.mjs';\n\
             export default { async fetch(request, env) {\n\
               const name = new URL(request.url).searchParams.get('chunk');\n\
               if (!name) return env.ASSETS.fetch(request);\n\
               const { value } = await import(`./chunks/${name}.mjs`);\n\
               return Response.json({ a, text, value });\n\
             } };",
        ),
        ("public/_worker.js/text.txt", "a text"),
        ("public/_worker.js/chunks/a.mjs", "export const a = 'a';"),
        (
            "public/_worker.js/chunks/late.mjs",
            "export const value = 'late';",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(
        get(&dev, "/?chunk=late").json(),
        json!({ "a": "a", "text": "a text", "value": "late" })
    );
    assert_eq!(get(&dev, "/").text, "asset index");
}

#[test]
fn a_workers_project_serves_its_main() {
    let project = TestProject::new(&[
        (
            "wrangler.jsonc",
            r#"{
  // A Workers project: no pages_build_output_dir.
  "name": "w",
  "main": "src/index.ts",
  "compatibility_date": "2026-08-01",
  "kv_namespaces": [{ "binding": "KV", "id": "w" }],
}"#,
        ),
        (
            "src/index.ts",
            "export default {\n\
               async fetch(request: Request, env: { KV: KVNamespace }): Promise<Response> {\n\
                 await env.KV.put('path', new URL(request.url).pathname);\n\
                 return new Response(`main ${await env.KV.get('path')}`);\n\
               },\n\
             };",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(get(&dev, "/any/path").text, "main /any/path");
}

// docs/compatibility.md, "Not supported": what is not there says so and breaks nothing.
#[test]
fn what_is_not_supported_yet_answers_as_documented() {
    let project = TestProject::new(&[
        (
            "wrangler.toml",
            &format!("{HEAD}[[services]]\nbinding = \"OTHER\"\nservice = \"other\"\n"),
        ),
        ("public/index.html", "page"),
        (
            "functions/f.js",
            "export const onRequest = async ({ env }) => {\n\
               const service = await env.OTHER.fetch('http://any.test/');\n\
               return Response.json({\n\
                 service: [service.status, await service.text()],\n\
               });\n\
             };",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(
        dev.json("/f"),
        json!({
            "service": [503, "The service other of this binding does not run here."],
        })
    );
}

/// A project with Node's modules at a date.
fn node_project(date: &str) -> TestProject {
    TestProject::new(&[
        (
            "wrangler.toml",
            &format!(
                "name = \"n\"\ncompatibility_date = \"{date}\"\ncompatibility_flags = [\"nodejs_compat\"]\npages_build_output_dir = \"public\"\n"
            ),
        ),
        ("public/index.html", "page"),
        (
            "functions/node.js",
            "import { createHash } from 'node:crypto';\n\
             import { Buffer } from 'node:buffer';\n\
             import path from 'path';\n\
             import { EventEmitter } from 'events';\n\
             import fs from 'node:fs';\n\
             export const onRequest = () => {\n\
               let seen; new EventEmitter().on('x', (value) => { seen = value; }).emit('x', 1);\n\
               return Response.json({\n\
                 hash: createHash('sha256').update('a').digest('hex').slice(0, 8),\n\
                 buffer: Buffer.from('é').toString('base64'),\n\
                 path: path.join('a', '..', 'b'),\n\
                 globals: [typeof process.env, typeof globalThis.Buffer],\n\
                 fs: typeof fs.readFileSync,\n\
               });\n\
             };",
        ),
    ])
}

// pages.md 5.8: before 2025 most modules are stubs in the bundle, by mid-2026 workerd has
// them all; from 2026-08-04 the flag is implied, and naming it is allowed.
#[test]
fn nodes_modules_work_at_an_early_and_a_late_date() {
    for date in ["2024-12-15", "2026-08-10"] {
        let project = node_project(date);
        let dev = start(&project);
        let answer = dev.json("/node");
        assert_eq!(
            answer,
            json!({ "hash": "ca978112", "buffer": "w6k=", "path": "b", "globals": ["object", "function"], "fs": "function" }),
            "{date}: {}",
            dev.stderr()
        );
    }
}
