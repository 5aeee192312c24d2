//! Node's modules in the real runtime, by compatibility date and flags (pages.md 5.8).

use serde_json::Value;

use crate::support::workerd::{Workerd, get};
use crate::support::{Folder, build, modules, pages};

/// Uses modules that the runtime has, modules that it has from a later date only, globals,
/// and `require()`.
pub(crate) fn uses_of_node() -> Folder {
    Folder::new(&[
        (
            "functions/index.js",
            r#"
            import { EventEmitter } from "node:events";
            import path from "path";
            import { Buffer } from "buffer";
            import * as os from "node:os";
            import http from "http";
            import { AsyncLocalStorage } from "async_hooks";
            import common from "common";
            const als = new AsyncLocalStorage();
            export const onRequest = () => als.run("stored", () => Response.json({
                events: typeof EventEmitter, joined: path.join("a", "..", "b"),
                buffer: Buffer.from("hi").toString("hex"), os: typeof os.EOL, http: typeof http.request,
                store: als.getStore(), process: typeof process.nextTick, global: typeof global,
                env: typeof process.env, performance: typeof performance.now, common,
            }));"#,
        ),
        (
            "node_modules/common/index.js",
            r#"
            const Emitter = require("events");
            const util = require("node:util");
            const inherits = require("inherits");
            const fs = require("fs");
            class Mine extends Emitter {}
            function Old() {} function Base() {}
            inherits(Old, Base);
            module.exports = {
                emitter: new Mine().listenerCount("x"), util: util.format("%s!", "a"),
                inherited: new Old() instanceof Base, fs: typeof fs.readFile,
            };"#,
        ),
    ])
}

fn answer(folder: &Folder, date: &str, flags: &[&str]) -> Value {
    let built =
        build(&pages(folder, date, flags)).unwrap_or_else(|error| panic!("{date}: {error}"));
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    let workerd =
        Workerd::start(modules(&built), date, &flags).unwrap_or_else(|log| panic!("{date}: {log}"));
    workerd.ask(&[get("/")]).remove(0)
}

#[test]
fn version_two_works_at_every_date() {
    let folder = uses_of_node();
    let expected = serde_json::json!({
        "events": "function", "joined": "b", "buffer": "6869", "os": "string", "http": "function",
        "store": "stored", "process": "function", "global": "object", "env": "object",
        "performance": "function",
        "common": { "emitter": 0, "util": "a!", "inherited": true, "fs": "function" },
    });
    for (date, flags) in [
        ("2024-01-01", &["nodejs_compat_v2"][..]),
        ("2024-09-23", &["nodejs_compat"]),
        ("2025-09-01", &["nodejs_compat"]),
        ("2025-10-01", &["nodejs_compat"]),
        ("2026-02-19", &["nodejs_compat"]),
        ("2026-08-04", &[]),
        (
            "2026-11-17",
            &["disable_nodejs_fs_module", "disable_nodejs_os_module"],
        ),
    ] {
        let answer = answer(&folder, date, flags);
        let body = answer["body"]
            .as_str()
            .unwrap_or_else(|| panic!("{date}: {answer}"));
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{date}: {answer}"));
        assert_eq!(body, expected, "{date}");
    }
}

#[test]
fn version_one_has_the_runtimes_modules_by_their_full_names() {
    let folder = Folder::new(&[(
        "functions/index.js",
        r#"
        import { EventEmitter } from "node:events";
        export const onRequest = () => new Response(typeof EventEmitter + typeof process);"#,
    )]);
    let answer = answer(&folder, "2024-09-22", &["nodejs_compat"]);
    assert_eq!(answer["body"], "functionundefined", "{answer}");
}

#[test]
fn nodejs_als_has_async_hooks_only() {
    let folder = Folder::new(&[(
        "functions/index.js",
        r#"
        import { AsyncLocalStorage } from "node:async_hooks";
        export const onRequest = () => new Response(typeof AsyncLocalStorage);"#,
    )]);
    assert_eq!(
        answer(&folder, "2025-06-01", &["nodejs_als"])["body"],
        "function"
    );
    folder.write(
        "functions/b.js",
        "import 'node:fs'; export const onRequest = () => new Response();",
    );
    let error = build(&pages(&folder, "2025-06-01", &["nodejs_als"])).unwrap_err();
    assert!(error.to_string().contains("node:fs"), "{error}");
}

// pages.md 11.3: `SvelteKit`
#[test]
fn an_import_that_is_caught_does_not_fail_the_build() {
    let folder = Folder::new(&[(
        "functions/index.js",
        r#"
        let found = "no";
        const ready = import("node:async_hooks").then(() => { found = "yes"; }).catch(() => {});
        export const onRequest = async () => { await ready; return new Response(found); };"#,
    )]);
    assert_eq!(answer(&folder, "2025-06-01", &[])["body"], "no");
    assert_eq!(
        answer(&folder, "2025-06-01", &["nodejs_als"])["body"],
        "yes"
    );
}

#[test]
fn npm_packages_named_like_a_module_with_a_slash_behind_still_work() {
    let folder = Folder::new(&[
        (
            "functions/index.js",
            r#"
            import { Buffer } from "buffer/";
            export const onRequest = () => new Response(Buffer.from("a").toString("hex"));"#,
        ),
        (
            "node_modules/buffer/index.js",
            "exports.Buffer = { from: () => 'package' };",
        ),
    ]);
    assert_eq!(
        answer(&folder, "2025-06-01", &["nodejs_compat"])["status"],
        200
    );
}
