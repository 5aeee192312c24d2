//! What goes into a bundle, and in which form (pages.md 5.8, 6).

use std::fs;

use engawa_model::ModuleKind;
use serde_json::Value;

use crate::support::workerd::{Workerd, get};
use crate::support::{Folder, build, build_with, builder, modules, pages, workers};

const DATE: &str = "2025-06-01";

/// A function `add` of two numbers.
const ADD_WASM: &[u8] = b"\0asm\x01\0\0\0\x01\x07\x01\x60\x02\x7f\x7f\x01\x7f\x03\x02\x01\0\x07\x07\x01\x03add\0\0\x0a\x09\x01\x07\0\x20\0\x20\x01\x6a\x0b";

pub(crate) fn every_kind_of_import() -> Folder {
    let folder = Folder::new(&[
        ("functions/a.txt", "text"),
        ("functions/b.html", "<b>html</b>"),
        ("functions/c.sql", "SELECT 1"),
        ("functions/d.bin", "\u{1}\u{2}"),
        ("functions/e.json", r#"{"e":[1]}"#),
        (
            "functions/lib/g.ts",
            "export enum Size { Small = 3 }; export default function named() {}",
        ),
        (
            "functions/lib/alias.ts",
            "export const alias = 'by tsconfig';",
        ),
        (
            "functions/jsx.jsx",
            "const h = (tag, props, ...kids) => `<${tag}>${kids.join('')}</${tag}>`;\n/** @jsx h */\nexport const html = <p>jsx {1 + 1}</p>;",
        ),
        ("functions/late.js", "export const late = 'late';"),
        (
            "functions/index.ts",
            r#"
            import wasm from "./add.wasm";
            import same from "./add.wasm?module";
            import text from "./a.txt";
            import html from "./b.html";
            import sql from "./c.sql";
            import data from "./d.bin";
            import json from "./e.json";
            import named, { Size } from "./lib/g";
            import { alias } from "@lib/alias";
            import { html as jsx } from "./jsx";
            import common from "common";
            import { form } from "conditional";
            export const onRequestGet: PagesFunction = async () => {
                const instance = await WebAssembly.instantiate(wasm, {});
                const { late } = await import("./late");
                const again = await import("./a.txt");
                return Response.json({
                    sum: (instance as any).exports.add(2, 3), same: same instanceof WebAssembly.Module,
                    text, html, sql, data: [data instanceof ArrayBuffer, ...new Uint8Array(data)], json,
                    name: named.name, size: Size.Small, alias, jsx, common, form, late,
                    again: again.default, env: process.env.NODE_ENV, agent: navigator.userAgent,
                });
            };"#,
        ),
        (
            "tsconfig.json",
            r#"{ "compilerOptions": { "baseUrl": ".", "paths": { "@lib/*": ["functions/lib/*"] } } }"#,
        ),
        (
            "node_modules/common/index.js",
            "exports.cjs = true; exports.inner = require('./inner');",
        ),
        ("node_modules/common/inner.js", "module.exports = 'inner';"),
        (
            "node_modules/conditional/package.json",
            r#"{ "exports": { "workerd": "./w.js", "browser": "./b.js", "default": "./d.js" } }"#,
        ),
        (
            "node_modules/conditional/w.js",
            "export const form = 'workerd';",
        ),
        (
            "node_modules/conditional/b.js",
            "export const form = 'browser';",
        ),
        (
            "node_modules/conditional/d.js",
            "export const form = 'default';",
        ),
    ]);
    folder.write("functions/add.wasm", ADD_WASM);
    folder
}

// pages.md 5.8
#[test]
fn every_kind_of_import_works_in_the_runtime() {
    let folder = every_kind_of_import();
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    let workerd = Workerd::start(modules(&built), DATE, &[]).unwrap_or_else(|log| panic!("{log}"));
    let answer = &workerd.ask(&[get("/")])[0];
    let body: Value = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(
        body,
        serde_json::json!({
            "sum": 5, "same": true, "text": "text", "html": "<b>html</b>", "sql": "SELECT 1",
            "data": [true, 1, 2], "json": { "e": [1] }, "name": "named", "size": 3,
            "alias": "by tsconfig", "jsx": "<p>jsx 2</p>",
            "common": { "cjs": true, "inner": "inner" }, "form": "workerd", "late": "late",
            "again": "text", "env": "development", "agent": "Cloudflare-Workers",
        })
    );
}

// wrangler: module-collection.ts
// docs: pages.md 9.7, U7
#[test]
fn extra_modules_are_named_by_their_sha1() {
    let folder = every_kind_of_import();
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    let extra: Vec<(&str, ModuleKind)> = modules(&built)[1..]
        .iter()
        .map(|module| (module.name.as_str(), module.kind))
        .collect();
    let text = "./372ea08cab33e71c02c651dbc83a474d32c676ea-a.txt";
    assert!(extra.contains(&(text, ModuleKind::Text)), "{extra:?}");
    assert_eq!(extra.len(), 5);
    for kind in [ModuleKind::Wasm, ModuleKind::Data] {
        assert_eq!(extra.iter().filter(|(_, known)| *known == kind).count(), 1);
    }
}

#[test]
fn the_source_map_names_the_users_files_and_holds_their_text() {
    let folder = every_kind_of_import();
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    let map = modules(&built)[0].source_map.as_ref().expect("a map");
    let map: Value = serde_json::from_slice(map).expect("JSON");
    let sources = map["sources"].as_array().unwrap();
    let index = sources
        .iter()
        .position(|source| source == "functions/index.ts")
        .unwrap_or_else(|| panic!("{sources:?}"));
    let content = map["sourcesContent"][index].as_str().unwrap();
    assert!(content.contains("PagesFunction"));
    assert!(sources.contains(&"node_modules/common/inner.js".into()));
}

#[test]
fn nothing_is_left_in_the_project() {
    let folder = every_kind_of_import();
    let list = || {
        let mut names: Vec<_> = walkdir::WalkDir::new(folder.path())
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .collect();
        names.sort();
        names
    };
    let before = list();
    build(&pages(&folder, DATE, &[])).unwrap();
    assert_eq!(list(), before);
}

#[test]
fn static_files_and_rules_come_with_the_version() {
    let folder = Folder::new(&[
        ("public/index.html", "<h1>x</h1>\n"),
        ("public/a/b.css", "a{}"),
        ("public/copy.html", "<h1>x</h1>\n"),
        ("public/_headers", "/*\n  X-A: 1\n"),
        ("public/_redirects", "/a /b\n"),
    ]);
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    let version = built.version;
    assert!(version.worker.is_none() && version.routes.is_none());
    assert_eq!(version.headers_file.as_deref(), Some("/*\n  X-A: 1\n"));
    assert_eq!(version.redirects_file.as_deref(), Some("/a /b\n"));
    assert_eq!(version.assets.entries.len(), 3);
    assert_eq!(
        &*version.assets.entries["/index.html"].key,
        "6e685e4883fed022eae92500f07d7f39"
    );
    // The same content is one file.
    assert_eq!(built.asset_files.len(), 2);
}

// pages.md 4.3
#[test]
fn a_projects_own_routes_replace_the_generated_ones() {
    let function = (
        "functions/api/[id].js",
        "export const onRequest = () => new Response();",
    );
    let generated = build(&pages(&Folder::new(&[function]), DATE, &[])).unwrap();
    assert_eq!(generated.version.routes.unwrap().include, ["/api/*"]);

    let own = r#"{ "version": 1, "include": ["/*"], "exclude": ["/static/*"] }"#;
    let folder = Folder::new(&[function, ("public/_routes.json", own)]);
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    assert_eq!(built.version.routes.unwrap().exclude, ["/static/*"]);
    assert!(built.version.assets.entries.is_empty());

    // Without a worker it means nothing.
    let folder = Folder::new(&[("public/_routes.json", own)]);
    assert!(
        build(&pages(&folder, DATE, &[]))
            .unwrap()
            .version
            .routes
            .is_none()
    );
}

// pages.md 6
#[test]
fn a_worker_file_is_bundled_and_takes_every_path() {
    let folder = Folder::new(&[
        (
            "public/_worker.js",
            r#"
            import { greet } from "greet";
            export default { fetch: (request, env) => new Response(greet(env.GREETING)) };"#,
        ),
        (
            "node_modules/greet/index.js",
            "export const greet = (name) => `greet ${name}`;",
        ),
        ("functions/broken.js", "this is not JavaScript"),
    ]);
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    assert!(built.version.routes.is_none());
    let workerd = Workerd::start(modules(&built), DATE, &[]).unwrap();
    assert_eq!(workerd.ask(&[get("/any")])[0]["body"], "greet hello");
}

// pages.md 6
// docs: pages.md 9.7, U6
#[test]
fn a_worker_folder_keeps_its_modules() {
    let folder = Folder::new(&[
        (
            "public/_worker.js/index.js",
            r#"
            import { fixed } from "./chunks/fixed.mjs";
            import { dep } from "dep";
            import text from "./data/t.txt";
            export default { async fetch(request) {
                const name = new URL(request.url).searchParams.get("name");
                const path = "./chunks/" + name + ".mjs";
                const chosen = await import(path);
                return Response.json([fixed, dep, text, chosen.default]);
            } };"#,
        ),
        (
            "public/_worker.js/chunks/fixed.mjs",
            "export const fixed = 'fixed';",
        ),
        (
            "public/_worker.js/chunks/lazy.mjs",
            "export default 'lazy';",
        ),
        (
            "public/_worker.js/functions/[id].func.js",
            "export default 'bracketed';",
        ),
        ("public/_worker.js/data/t.txt", "text"),
        ("public/_worker.js/ignored.json", "{}"),
        ("public/_worker.js/z.cjs", "module.exports = 1;"),
        ("public/_worker.js/index.js.map", "{}"),
        ("public/_worker.js/x.bin", "bytes"),
        ("public/_worker.js/unused.wasm", "\0asm\u{1}\0\0\0"),
        ("node_modules/dep/index.js", "export const dep = 'inlined';"),
    ]);
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    let names: Vec<&str> = modules(&built)
        .iter()
        .map(|module| module.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "index.js",
            "chunks/fixed.mjs",
            "chunks/lazy.mjs",
            "data/t.txt",
            "functions/[id].func.js",
            "unused.wasm",
            "x.bin",
        ]
    );
    let workerd = Workerd::start(modules(&built), DATE, &[]).unwrap_or_else(|log| panic!("{log}"));
    let answer = &workerd.ask(&[get("/?name=lazy")])[0];
    assert_eq!(
        answer["body"], r#"["fixed","inlined","text","lazy"]"#,
        "{answer}"
    );
}

#[test]
fn a_workers_main_is_bundled() {
    let folder = Folder::new(&[
        (
            "src/index.ts",
            r#"
            import { name } from "./name";
            export class Extra {}
            export default { async fetch(): Promise<Response> { return new Response(name); } };"#,
        ),
        ("src/name.ts", "export const name: string = 'main';"),
    ]);
    let built = build(&workers(&folder, "src/index.ts", DATE, &[])).unwrap();
    let workerd = Workerd::start(modules(&built), DATE, &[]).unwrap();
    assert_eq!(workerd.ask(&[get("/")])[0]["body"], "main");
}

// issue: `[[...route]].ts` is accepted with a warning
#[test]
fn the_specifications_catch_all_works() {
    let folder = Folder::new(&[(
        "functions/api/v1/[[...route]].ts",
        "export const onRequest = ({ params }: any) => Response.json(params.route);",
    )]);
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    assert_eq!(built.diagnostics.len(), 1, "{:?}", built.diagnostics);
    let workerd = Workerd::start(modules(&built), DATE, &[]).unwrap();
    assert_eq!(
        workerd.ask(&[get("/api/v1/files/k")])[0]["body"],
        r#"["files","k"]"#
    );
}

#[test]
fn an_edit_is_seen_by_the_same_builder() {
    let folder = Folder::new(&[
        (
            "functions/a.js",
            "export const onRequest = () => new Response('one');",
        ),
        ("functions/b.js", "export const helper = 1;"),
    ]);
    let mut builder = builder();
    let config = pages(&folder, DATE, &[]);
    let routes = |builder: &mut _| {
        let built = build_with(builder, &config).unwrap();
        let text = String::from_utf8(modules(&built)[0].body.to_vec()).unwrap();
        (built.version.routes.unwrap().include, text)
    };
    assert_eq!(routes(&mut builder).0, ["/a"]);
    folder.write(
        "functions/a.js",
        "export const onRequest = () => new Response('second');",
    );
    assert!(routes(&mut builder).1.contains("second"));
    folder.write(
        "functions/b.js",
        "export const onRequestGet = () => new Response('b now');",
    );
    assert_eq!(routes(&mut builder).0, ["/b", "/a"]);
    fs::remove_file(folder.path().join("functions/a.js")).unwrap();
    assert_eq!(routes(&mut builder).0, ["/b"]);
}

#[test]
fn what_was_read_is_watched() {
    let folder = Folder::new(&[
        (
            "functions/api/a.js",
            "export { onRequest } from '../../src/lib.js';",
        ),
        (
            "src/lib.js",
            "export const onRequest = () => new Response();",
        ),
        ("public/img/x.png", ""),
    ]);
    let root = fs::canonicalize(folder.path()).unwrap();
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    for path in [
        "",
        "functions",
        "functions/api",
        "functions/api/a.js",
        "src/lib.js",
        "public",
        "public/img",
    ] {
        assert!(
            built.watch.contains(&root.join(path)),
            "{path}: {:?}",
            built.watch
        );
    }
}
