//! Functions over HTTP: every case of pages.md 9.6 by its number, and what only shows with
//! a running server.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use engawa_testkit::{Dev, TestProject};
use serde_json::{Value, json};

use crate::http::{ask, ask_at, get, parse};
use crate::start;
use engawa_testkit::oracle::{Oracle, packages};

pub(crate) const HEAD: &str =
    "name = \"f\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = \"public\"\n";

/// A function that answers its name, its parameters and its path.
pub(crate) fn named(name: &str, exports: &[&str]) -> String {
    let answer = format!(
        "({{ params, functionPath }}) => Response.json({{ name: {name:?}, params, functionPath }})"
    );
    exports.iter().fold(String::new(), |text, export| {
        let answer = answer.replace(&format!("{name:?}"), &format!("{:?}", marked(name, export)));
        text + &format!("export const {export} = {answer};\n")
    })
}

/// The name that a method's own handler answers, where a file has several.
fn marked(name: &str, export: &str) -> String {
    if name == "api/m" {
        format!("{name} {}", export.trim_start_matches("onRequest"))
    } else {
        name.to_owned()
    }
}

/// The tree of pages.md 9.6, and files of the cases that need one of their own (`own/…`).
fn tree() -> TestProject {
    let project = TestProject::new(&[
        ("wrangler.toml", HEAD),
        ("public/index.html", "asset index"),
        ("public/about.html", "asset about"),
        ("public/404.html", "asset 404"),
        ("public/assets/x.txt", "asset x"),
        ("public/_headers", "/*\n  X-A: 1\n"),
        ("public/_redirects", "/api/m /b 301\n/moved /about 302\n"),
        (
            "functions/_middleware.js",
            "const mark = (name) => async ({ next }) => { const answer = await next(); answer.headers.append('x-marks', name); return answer; };\n\
             export const onRequest = mark('root');\n\
             export const onRequestPost = mark('post');\n",
        ),
        (
            "functions/users/_middleware.js",
            "const mark = (name) => async ({ next, functionPath }) => { const answer = await next(); answer.headers.append('x-marks', name); answer.headers.set('x-function-path', functionPath); return answer; };\n\
             export const onRequest = [mark('u1'), mark('u2')];\n",
        ),
        (
            "functions/about.js",
            "export const onRequest = async ({ next }) => { const answer = await next(); return new Response(`fn+${answer.status} ${await answer.text()}`, { headers: { 'x-location': answer.headers.get('location') ?? '' } }); };\n",
        ),
        (
            "functions/own/text.js",
            "export const onRequest = () => 'a text';",
        ),
        (
            "functions/own/throws.js",
            "export const onRequest = () => { throw new Error('on purpose'); };",
        ),
        (
            "functions/assets/x.txt.js",
            "export const onRequest = (context) => { context.passThroughOnException(); throw new Error('on purpose'); };",
        ),
        (
            "functions/own/twice.js",
            "export const onRequest = [\n\
               async ({ next }) => Response.json({ first: await (await next()).text(), second: (await next()).status }),\n\
               () => new Response('the handler'),\n\
             ];",
        ),
        (
            "functions/own/data.js",
            "export const onRequest = (context) => { context.data.kept = 'yes'; let text; try { context.data = 1; } catch (error) { text = error.message; } return Response.json({ text, data: context.data }); };",
        ),
        (
            "functions/own/body.js",
            "export const onRequestPost = [\n\
               async ({ request, next, data }) => { data.first = await request.text(); return next(); },\n\
               async ({ request, data }) => Response.json({ first: data.first, second: await request.text() }),\n\
             ];",
        ),
        (
            "functions/own/elsewhere.js",
            "export const onRequest = ({ next }) => next('/about');",
        ),
        (
            "functions/own/assets.js",
            "export const onRequest = async ({ env, request }) => {\n\
               const of = async (answer) => ({ status: answer.status, text: await answer.text(), redirected: answer.redirected });\n\
               return Response.json({\n\
                 html: await of(await env.ASSETS.fetch(new URL('/about.html', request.url))),\n\
                 other: await of(await env.ASSETS.fetch('https://other.test/about')),\n\
                 post: await of(await env.ASSETS.fetch('https://other.test/about', { method: 'POST' })),\n\
               });\n\
             };",
        ),
        (
            "functions/own/keys.js",
            "export const onRequest = (context) => Response.json(Object.keys(context));",
        ),
        (
            "functions/own/headers.js",
            "export const onRequest = () => new Response('own');",
        ),
        (
            "functions/own/next.js",
            "export const onRequest = ({ next }) => next('/assets/plain.txt');",
        ),
        ("public/assets/plain.txt", "plain"),
        (
            "functions/own/echo.js",
            "export const onRequest = ({ request }) => {\n\
               if (request.headers.get('upgrade') !== 'websocket') return new Response('no', { status: 426 });\n\
               const { 0: client, 1: server } = new WebSocketPair();\n\
               server.accept();\n\
               server.addEventListener('message', ({ data }) => server.send(`echo ${data}`));\n\
               return new Response(null, { status: 101, webSocket: client });\n\
             };",
        ),
        (
            "functions/own/stream.js",
            "export const onRequestPost = ({ request }) => {\n\
               const { readable, writable } = new TransformStream({ transform: (chunk, controller) => controller.enqueue(chunk) });\n\
               request.body.pipeTo(writable);\n\
               return new Response(readable);\n\
             };",
        ),
        (
            "functions/own/digest.js",
            "export const onRequestPost = async ({ request }) => { const stream = new crypto.DigestStream('SHA-256'); await request.body.pipeTo(stream); return new Response([...new Uint8Array(await stream.digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')); };",
        ),
    ]);
    for (file, exports) in [
        ("index", &["onRequestGet"][..]),
        ("a.b", &["onRequest"]),
        ("api/[x]", &["onRequest"]),
        ("api/deep/[a]", &["onRequest"]),
        ("api/getonly", &["onRequestGet"]),
        ("api/m", &["onRequestGet", "onRequestPost", "onRequest"]),
        ("both", &["onRequestGet"]),
        ("both/index", &["onRequest"]),
        ("dup", &["onRequest"]),
        ("dup/index", &["onRequest"]),
        ("multi/[[rest]]/tail", &["onRequest"]),
        ("multi/[[rest]]/[[more]]", &["onRequest"]),
        ("users/special", &["onRequest"]),
        ("users/[user]", &["onRequest"]),
        ("users/[[catchall]]", &["onRequest"]),
    ] {
        project.write(&format!("functions/{file}.js"), named(file, exports));
    }
    project
}

pub(crate) fn assert_function(dev: &Dev, method: &str, path: &str, name: &str, params: &Value) {
    let answer = ask(dev, method, path, None);
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
    let given = answer.json();
    assert_eq!(
        (given["name"].as_str(), &given["params"]),
        (Some(name), params),
        "{method} {path}"
    );
}

// docs: pages.md 9.6 by its numbers; every row was run on Cloudflare's own code.
#[test]
fn the_cases_of_functions() {
    let project = tree();
    let dev = start(&project);
    let none = json!({});

    // F1–F4: the GET handler of the root, and assets behind the middleware.
    assert_function(&dev, "GET", "/", "index", &none);
    assert_eq!(get(&dev, "/").marks, "root");
    let head = ask(&dev, "HEAD", "/", None);
    assert_eq!(
        (head.status, head.text.as_str(), head.marks.as_str()),
        (200, "", "root"),
        "F2"
    );
    assert!(
        head.header("content-type").starts_with("text/html"),
        "F2: the asset's headers"
    );
    let post = ask(&dev, "POST", "/", None);
    assert_eq!(
        (post.status, post.marks.as_str()),
        (405, "post, root"),
        "F3"
    );
    let moved = get(&dev, "/index.html");
    assert_eq!(
        (moved.status, moved.header("location"), moved.marks.as_str()),
        (308, "/", "root"),
        "F4"
    );

    // F5–F10: parameters and catch-alls.
    for path in ["/users", "/users/"] {
        assert_function(&dev, "GET", path, "users/[[catchall]]", &none);
        assert_eq!(get(&dev, path).marks, "u2, u1, root", "F5 {path}");
    }
    let user = get(&dev, "/users/nevi");
    assert_eq!(
        user.json(),
        json!({ "name": "users/[user]", "params": { "user": "nevi" }, "functionPath": "/users/nevi" }),
        "F6"
    );
    assert_eq!(
        user.header("x-function-path"),
        "/users",
        "F6: of the middleware"
    );
    assert_function(&dev, "GET", "/users/special", "users/special", &none);
    assert_function(&dev, "GET", "/Users/Special", "users/special", &none);
    assert_function(
        &dev,
        "GET",
        "/users/a/b/c",
        "users/[[catchall]]",
        &json!({ "catchall": ["a", "b", "c"] }),
    );
    for raw in ["a%2Fb", "caf%C3%A9", "%E0%A4%A"] {
        assert_function(
            &dev,
            "GET",
            &format!("/users/{raw}"),
            "users/[user]",
            &json!({ "user": raw }),
        );
    }
    let folded = get(&dev, "/users//x");
    assert_eq!(
        (folded.status, folded.text.as_str()),
        (404, "asset 404"),
        "F10"
    );
    assert!(
        folded.marks.contains("u1"),
        "F10: the middleware of users ran: {}",
        folded.marks
    );

    // F11–F15: the order of routes, and methods.
    assert_function(&dev, "GET", "/api/zzz", "api/[x]", &json!({ "x": "zzz" }));
    assert_function(&dev, "GET", "/api/deep", "api/[x]", &json!({ "x": "deep" }));
    assert_function(
        &dev,
        "GET",
        "/api/deep/q",
        "api/deep/[a]",
        &json!({ "a": "q" }),
    );
    let api = get(&dev, "/api");
    assert_eq!(
        (api.status, api.text.as_str(), api.marks.as_str()),
        (404, "asset 404", "root"),
        "F12"
    );
    assert_function(
        &dev,
        "POST",
        "/api/getonly",
        "api/[x]",
        &json!({ "x": "getonly" }),
    );
    let head = ask(&dev, "HEAD", "/api/getonly", None);
    assert_eq!((head.status, head.text.as_str()), (200, ""), "F14");
    assert!(
        head.header("content-type").starts_with("application/json"),
        "F14: api/[x] answered"
    );
    for (method, name) in [
        ("GET", "api/m Get"),
        ("POST", "api/m Post"),
        ("PUT", "api/m "),
    ] {
        assert_function(&dev, method, "/api/m", name, &none);
    }
    let head = ask(&dev, "HEAD", "/api/m", None);
    assert_eq!((head.status, head.text.as_str()), (200, ""), "F15");

    // F16–F19: files and folders of one name, catch-alls within a path, dots.
    assert_function(&dev, "GET", "/both", "both", &none);
    assert_function(&dev, "POST", "/both", "both/index", &none);
    assert_function(&dev, "GET", "/dup", "dup/index", &none);
    assert_function(&dev, "GET", "/dup/", "dup/index", &none);
    assert_function(&dev, "GET", "/multi", "multi/[[rest]]/[[more]]", &none);
    assert_function(&dev, "GET", "/multi/tail", "multi/[[rest]]/tail", &none);
    assert_function(
        &dev,
        "GET",
        "/multi/1/2/tail",
        "multi/[[rest]]/tail",
        &json!({ "rest": ["1", "2"] }),
    );
    assert_function(
        &dev,
        "GET",
        "/multi/1/2",
        "multi/[[rest]]/[[more]]",
        &json!({ "rest": ["1", "2"] }),
    );
    assert_function(&dev, "GET", "/a.b", "a.b", &none);
    assert_eq!(get(&dev, "/aXb").status, 404, "F19");

    // F20, F21: next() to an asset.
    assert_eq!(get(&dev, "/about").text, "fn+200 asset about");
    let slash = get(&dev, "/about/");
    assert!(slash.text.starts_with("fn+308"), "F20: {}", slash.text);
    assert_eq!(slash.header("x-location"), "/about", "F20");
    assert!(
        ask(&dev, "POST", "/about", None).text.starts_with("fn+405"),
        "F21"
    );

    // F22, F23: exceptions.
    let text = get(&dev, "/own/text");
    assert_eq!(text.status, 500, "F22");
    assert!(text.text.contains("1101"), "F22: {}", text.text);
    dev.wait_for_stderr("Your Pages function should return a Response");
    let throws = get(&dev, "/own/throws");
    assert_eq!(throws.status, 500, "F23");
    assert!(throws.text.contains("1101"), "F23: {}", throws.text);
    let passed = get(&dev, "/assets/x.txt");
    assert_eq!(
        (passed.status, passed.text.as_str()),
        (200, "asset x"),
        "F23"
    );

    // F24–F27: chains of handlers.
    assert_eq!(
        get(&dev, "/own/twice").json(),
        json!({ "first": "the handler", "second": 404 }),
        "F24"
    );
    assert_eq!(
        get(&dev, "/own/data").json(),
        json!({ "text": "context.data must be an object", "data": { "kept": "yes" } }),
        "F25"
    );
    let body = ask(&dev, "POST", "/own/body", Some("the body"));
    assert_eq!(
        body.json(),
        json!({ "first": "the body", "second": "the body" }),
        "F26"
    );
    let elsewhere = get(&dev, "/own/elsewhere");
    assert_eq!(
        (elsewhere.status, elsewhere.text.as_str()),
        (200, "asset about"),
        "F27"
    );

    // F28–F31: ASSETS and the context.
    let assets = get(&dev, "/own/assets").json();
    assert_eq!(
        assets["html"],
        json!({ "status": 200, "text": "asset about", "redirected": true }),
        "F28"
    );
    assert_eq!(
        (&assets["other"]["status"], &assets["other"]["text"]),
        (&json!(200), &json!("asset about")),
        "F29"
    );
    assert_eq!(assets["post"]["status"], 405, "F30");
    assert_eq!(
        get(&dev, "/own/keys").json(),
        json!([
            "request",
            "functionPath",
            "next",
            "params",
            "data",
            "env",
            "waitUntil",
            "passThroughOnException"
        ]),
        "F31"
    );

    // F32, F33: `_redirects` and `_headers` are the assets' alone.
    assert_eq!(get(&dev, "/api/m").status, 200, "F32");
    assert_eq!(
        get(&dev, "/moved").header("location"),
        "/about",
        "a redirect of the assets, behind the middleware"
    );
    assert_eq!(get(&dev, "/own/headers").header("x-a"), "", "F33");
    let next = get(&dev, "/own/next");
    assert_eq!(
        (next.text.as_str(), next.header("x-a")),
        ("plain", "1"),
        "F33"
    );

    web_socket(&dev);
    streaming(&dev);
}

/// What both are asked: all that has an answer of the project's own (error pages and
/// repeated slashes are each server's).
const ASKED: &[(&str, &str)] = &[
    ("GET", "/"),
    ("HEAD", "/"),
    ("POST", "/"),
    ("GET", "/index.html"),
    ("GET", "/users"),
    ("GET", "/users/"),
    ("GET", "/users/nevi"),
    ("GET", "/users/nevi/"),
    ("GET", "/users/special"),
    ("GET", "/Users/Special"),
    ("GET", "/users/a/b/c"),
    ("GET", "/users/a%2Fb"),
    ("GET", "/users/caf%C3%A9"),
    ("GET", "/users/%E0%A4%A"),
    ("GET", "/api"),
    ("GET", "/api/zzz"),
    ("GET", "/api/deep"),
    ("GET", "/api/deep/q"),
    ("POST", "/api/getonly"),
    ("HEAD", "/api/getonly"),
    ("GET", "/api/m"),
    ("POST", "/api/m"),
    ("PUT", "/api/m"),
    ("HEAD", "/api/m"),
    ("GET", "/both"),
    ("POST", "/both"),
    ("GET", "/dup"),
    ("GET", "/dup/"),
    ("GET", "/multi"),
    ("GET", "/multi/tail"),
    ("GET", "/multi/1/2/tail"),
    ("GET", "/multi/1/2"),
    ("GET", "/a.b"),
    ("GET", "/aXb"),
    ("GET", "/about"),
    ("GET", "/about/"),
    ("POST", "/about"),
    ("GET", "/assets/x.txt"),
    ("GET", "/assets/plain.txt"),
    ("GET", "/own/twice"),
    ("GET", "/own/data"),
    ("POST", "/own/body"),
    ("GET", "/own/elsewhere"),
    ("GET", "/own/assets"),
    ("GET", "/own/keys"),
    ("GET", "/own/headers"),
    ("GET", "/own/next"),
    ("GET", "/moved"),
    ("GET", "/nothing/at/all"),
    ("DELETE", "/nothing/at/all"),
];

#[test]
fn functions_answer_as_under_wrangler() {
    let Some(packages) = packages() else {
        eprintln!("wrangler is not installed (cargo xtask test installs it): nothing was compared");
        return;
    };
    let (mine, its) = (tree(), tree());
    let oracle = Oracle::start(&packages, its.path());
    let dev = start(&mine);
    let mut wrong = Vec::new();
    for (method, path) in ASKED {
        let body = (*method == "POST").then_some("the body");
        let seen = [dev.address, oracle.address()].map(|address| {
            let answer = ask_at(address, method, path, "", body);
            let headers = [
                "content-type",
                "location",
                "x-a",
                "x-location",
                "x-function-path",
            ]
            .map(|name| format!("{name}: {}", answer.header(name)));
            format!(
                "{} [{}] {headers:?} {}",
                answer.status, answer.marks, answer.text
            )
        });
        if seen[0] != seen[1] {
            wrong.push(format!(
                "{method} {path}\n  here:   {}\n  oracle: {}",
                seen[0], seen[1]
            ));
        }
    }
    assert!(wrong.is_empty(), "these differ:\n{}", wrong.join("\n"));
}

// RFC 6455; workerd: api/web-socket.h
fn web_socket(dev: &Dev) {
    let mut stream = TcpStream::connect(dev.address).unwrap();
    stream
        .set_read_timeout(Some(engawa_testkit::PATIENCE))
        .unwrap();
    write!(
        stream,
        "GET /own/echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream
            .read_exact(&mut byte)
            .expect("the head of the answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    for text in ["one", "two"] {
        // A final text frame, masked with zeros.
        let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        stream.write_all(&frame).unwrap();
        let expected = format!("echo {text}");
        let mut answer = vec![0; 2 + expected.len()];
        stream.read_exact(&mut answer).expect("an echo");
        assert_eq!(answer[..2], [0x81, u8::try_from(expected.len()).unwrap()]);
        assert_eq!(answer[2..], *expected.as_bytes());
    }
}

/// What comes in goes out while more is still to come, and a long body arrives whole.
fn streaming(dev: &Dev) {
    let mut stream = TcpStream::connect(dev.address).unwrap();
    stream
        .set_read_timeout(Some(engawa_testkit::PATIENCE))
        .unwrap();
    write!(stream, "POST /own/stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut received = Vec::new();
    for part in ["first", "second", "third"] {
        write!(stream, "{:x}\r\n{part}\r\n", part.len()).unwrap();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&received).contains(part) {
            let read = stream.read(&mut chunk).expect("what was sent");
            assert!(
                read > 0,
                "the answer ended early: {}",
                String::from_utf8_lossy(&received)
            );
            received.extend_from_slice(&chunk[..read]);
        }
    }
    write!(stream, "0\r\n\r\n").unwrap();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(parse(&received).text, "firstsecondthird");

    // sha256 of 8 MiB of zeros
    let digest = ask(
        dev,
        "POST",
        "/own/digest",
        Some(&"\0".repeat(8 * 1024 * 1024)),
    );
    assert_eq!(
        digest.text,
        "2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74"
    );
}

// pages.md 9.6, F34: a route that path-to-regexp refuses breaks every request.
#[test]
fn two_parameters_in_one_name_are_an_error() {
    let project = TestProject::new(&[
        ("wrangler.toml", HEAD),
        ("public/index.html", "page"),
        (
            "functions/[a][b].js",
            "export const onRequest = () => new Response('ab');",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(get(&dev, "/anything").status, 500, "{}", dev.stderr());
}

// The specification's spelling, which wrangler refuses.
#[test]
fn three_dots_in_a_catch_all_are_taken_with_a_warning() {
    let project = TestProject::new(&[
        ("wrangler.toml", HEAD),
        ("public/index.html", "page"),
        (
            "functions/api/v1/[[...route]].ts",
            "export const onRequest: PagesFunction = ({ params }) => Response.json(params);",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(
        dev.json("/api/v1/files/a.txt"),
        json!({ "route": ["files", "a.txt"] })
    );
    assert_eq!(dev.json("/api/v1"), json!({}));
    dev.wait_for_stderr("[[route]]");
}
