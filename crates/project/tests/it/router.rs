//! The router, request by request (pages.md 9.6; the numbers are those of its table).

use engawa_model::Module;
use serde_json::{Value, json};

use crate::support::workerd::{Request, Workerd, get};
use crate::support::{Folder, build, modules, pages};

pub(crate) const DATE: &str = "2025-06-01";

/// The tree of pages.md 9.6: each handler tells its name and parameters.
pub(crate) fn tree() -> Folder {
    let folder = Folder::new(&[
        ("public/index.html", "index page"),
        (
            "functions/_middleware.js",
            r#"
            import { mark } from "../lib.js";
            export const onRequest = mark("root");
            export const onRequestPost = mark("post");"#,
        ),
        (
            "lib.js",
            r#"
            export const tell = (name) => ({ params, functionPath }) =>
                Response.json({ name, params, functionPath });
            export const mark = (name) => async (context) => {
                const path = context.functionPath;
                const response = await context.next();
                response.headers.append("x-marks", name);
                response.headers.append("x-paths", path);
                return response;
            };"#,
        ),
        (
            "functions/about.js",
            r#"
            export async function onRequest({ next }) {
                const response = await next();
                return new Response("fn+" + response.status + (await response.text()), response);
            }"#,
        ),
        (
            "functions/api/m.js",
            r#"
            import { tell } from "../../lib.js";
            export const onRequestGet = tell("get"), onRequestPost = tell("post"), onRequest = tell("any");"#,
        ),
        (
            "functions/users/_middleware.js",
            r#"
            import { mark } from "../../lib.js";
            export const onRequest = [mark("u1"), mark("u2")];"#,
        ),
        // F22 to F31
        (
            "functions/string.js",
            "export const onRequest = () => 'text';",
        ),
        (
            "functions/throws.js",
            "export function onRequest() { throw new Error('as told'); }",
        ),
        (
            "functions/assets/x.txt.js",
            r#"
            export function onRequest({ passThroughOnException }) { passThroughOnException(); throw new Error("hidden"); }"#,
        ),
        (
            "functions/twice.js",
            r#"
            export const onRequest = [
                async ({ next }) => { const a = await next(); const b = await next(); return new Response((await a.text()) + "|" + b.status); },
                () => new Response("second"),
            ];"#,
        ),
        (
            "functions/data.js",
            r#"
            export const onRequest = [
                (context) => { context.data = { user: "u" }; context.data.more = 1; return context.next(); },
                (context) => {
                    let message = "";
                    try { context.data = 1; } catch (error) { message = error.message; }
                    return Response.json({ data: context.data, message });
                },
            ];"#,
        ),
        (
            "functions/body.js",
            r"
            export const onRequestPost = [
                async ({ request, next }) => { const text = await request.text(); const r = await next(); return new Response(text + (await r.text())); },
                async ({ request }) => new Response(await request.text()),
            ];",
        ),
        (
            "functions/request.js",
            r#"
            export const onRequest = [
                async (context) => {
                    const inner = await (await context.next()).json();
                    context.request.headers.set("x-one", "1");
                    return Response.json([context.request.headers.get("x-one"), context.request.headers.get("x-two"), ...inner]);
                },
                ({ request }) => {
                    request.headers.set("x-two", "2");
                    return Response.json([request.headers.get("x-one"), request.headers.get("x-two")]);
                },
            ];"#,
        ),
        (
            "functions/other.js",
            "export const onRequest = ({ next }) => next('/about');",
        ),
        (
            "functions/fetch.js",
            r#"
            export async function onRequest({ env, request }) {
                const followed = await env.ASSETS.fetch(new URL("/about.html", request.url));
                const elsewhere = await env.ASSETS.fetch("https://other.test/about");
                const posted = await env.ASSETS.fetch("https://a.test/about", { method: "POST" });
                return Response.json([followed.status, followed.redirected, elsewhere.status, posted.status]);
            }"#,
        ),
        (
            "functions/keys.js",
            "export const onRequest = (context) => Response.json([Object.keys(context), context.env.GREETING]);",
        ),
        (
            "functions/wait.js",
            r"
            let done = false;
            export const onRequest = ({ waitUntil, request }) => {
                waitUntil(Promise.resolve().then(() => { done = true; }));
                return new Response(String(done));
            };",
        ),
        (
            "functions/null.js",
            "export const onRequest = async () => new Response(null, { status: 204 });",
        ),
        (
            "functions/secure/_middleware.js",
            "export const onRequest = ({ functionPath }) => new Response('guarded ' + functionPath, { status: 403 });",
        ),
        ("functions/helper.ts", "export const nothing: number = 1;"),
    ]);
    for (file, name, exports) in [
        ("index", "index", "onRequestGet"),
        ("a.b", "a.b", "onRequest"),
        ("api/[x]", "api/[x]", "onRequest"),
        ("api/deep/[a]", "deep/[a]", "onRequest"),
        ("api/getonly", "getonly", "onRequestGet"),
        ("both", "both", "onRequestGet"),
        ("both/index", "both/index", "onRequest"),
        ("dup", "dup", "onRequest"),
        ("dup/index", "dup/index", "onRequest"),
        ("multi/[[rest]]/tail", "tail", "onRequest"),
        ("multi/[[rest]]/[[more]]", "more", "onRequest"),
        ("users/special", "special", "onRequest"),
        ("users/[user]", "[user]", "onRequest"),
        ("users/[[catchall]]", "[[catchall]]", "onRequest"),
    ] {
        let up = "../".repeat(file.matches('/').count() + 1);
        folder.write(
            &format!("functions/{file}.js"),
            format!(
                "import {{ tell }} from \"{up}lib.js\"; export const {exports} = tell({name:?});"
            ),
        );
    }
    folder
}

pub(crate) fn requests() -> Vec<Request<'static>> {
    let mut requests: Vec<Request<'static>> = [
        "/",
        "/index.html",
        "/users",
        "/users/",
        "/users/nevi",
        "/users/nevi/",
        "/users/special",
        "/Users/Special",
        "/users/a/b/c",
        "/users/a%2Fb",
        "/users/caf%C3%A9",
        "/users/%E0%A4%A",
        "/users//x",
        "//users/nevi",
        "/api/zzz",
        "/api/deep",
        "/api/deep/q",
        "/api",
        "/api/m",
        "/both",
        "/dup",
        "/dup/",
        "/multi",
        "/multi/tail",
        "/multi/1/2/tail",
        "/multi/1/2",
        "/a.b",
        "/aXb",
        "/about",
        "/about/",
        "/string",
        "/throws",
        "/assets/x.txt",
        "/twice",
        "/data",
        "/request",
        "/other",
        "/fetch",
        "/keys",
        "/wait",
        "/wait",
        "/null",
        "/secure",
        "/secure/x",
        "//secure//x",
        "/secured",
        "/helper",
        "/nothing/here?x=1",
    ]
    .into_iter()
    .map(get)
    .collect();
    for (method, path) in [
        ("HEAD", "/"),
        ("POST", "/"),
        ("POST", "/api/getonly"),
        ("HEAD", "/api/getonly"),
        ("POST", "/api/m"),
        ("PUT", "/api/m"),
        ("HEAD", "/api/m"),
        ("POST", "/both"),
        ("POST", "/about"),
    ] {
        requests.push(Request {
            method,
            path,
            body: None,
        });
    }
    requests.push(Request {
        method: "POST",
        path: "/body",
        body: Some("b"),
    });
    requests
}

struct Answers(Vec<(String, Value)>);

impl Answers {
    fn of(modules: &[Module]) -> Self {
        let workerd = Workerd::start(modules, DATE, &[]).unwrap_or_else(|log| panic!("{log}"));
        let requests = requests();
        let names = requests.iter().map(|r| format!("{} {}", r.method, r.path));
        Self(names.zip(workerd.ask(&requests)).collect())
    }

    fn get(&self, name: &str) -> &Value {
        &self
            .0
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name}"))
            .1
    }

    /// Handler, parameters, functionPath and marks of a request.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a literal at each call")]
    fn told(&self, request: &str, name: &str, params: Value, path: &str, marks: &str) {
        let answer = self.get(request);
        let body = answer["body"]
            .as_str()
            .unwrap_or_else(|| panic!("{request}: {answer}"));
        let told: Value =
            serde_json::from_str(body).unwrap_or_else(|_| panic!("{request}: {answer}"));
        assert_eq!(
            told,
            json!({ "name": name, "params": params, "functionPath": path }),
            "{request}"
        );
        assert_eq!(answer["headers"]["x-marks"], marks, "{request}");
    }

    #[track_caller]
    fn is(&self, request: &str, status: u16, body: &str, marks: &str) {
        let answer = self.get(request);
        assert_eq!(answer["status"], status, "{request}: {answer}");
        assert_eq!(answer["body"], body, "{request}");
        assert_eq!(
            answer["headers"]["x-marks"].as_str().unwrap_or(""),
            marks,
            "{request}"
        );
    }
}

// pages.md 9.6
#[test]
fn requests_reach_the_handlers_that_pages_would_choose() {
    let folder = tree();
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    assert_eq!(built.version.routes.as_ref().unwrap().include, ["/*"]);
    let answers = Answers::of(modules(&built));

    answers.told("GET /", "index", json!({}), "/", "root"); // F1
    answers.is("HEAD /", 200, "", "root"); // F2
    answers.is("POST /", 405, "", "post, root"); // F3
    answers.is("GET /index.html", 308, "", "root"); // F4
    for path in ["/users", "/users/"] {
        let request = format!("GET {path}");
        answers.told(&request, "[[catchall]]", json!({}), path, "u2, u1, root"); // F5
    }
    let nevi = json!({ "user": "nevi" });
    answers.told(
        "GET /users/nevi",
        "[user]",
        nevi.clone(),
        "/users/nevi",
        "u2, u1, root",
    ); // F6
    answers.told(
        "GET /users/nevi/",
        "[user]",
        nevi,
        "/users/nevi/",
        "u2, u1, root",
    );
    assert_eq!(
        answers.get("GET /users/nevi")["headers"]["x-paths"],
        "/users, /users, /"
    );
    for path in ["/users/special", "/Users/Special"] {
        let request = format!("GET {path}");
        answers.told(&request, "special", json!({}), path, "u2, u1, root"); // F7
    }
    let segments = json!({ "catchall": ["a", "b", "c"] });
    answers.told(
        "GET /users/a/b/c",
        "[[catchall]]",
        segments,
        "/users/a/b/c",
        "u2, u1, root",
    ); // F8
    for raw in ["a%2Fb", "caf%C3%A9", "%E0%A4%A"] {
        let path = format!("/users/{raw}");
        let params = json!({ "user": raw });
        answers.told(
            &format!("GET {path}"),
            "[user]",
            params,
            &path,
            "u2, u1, root",
        ); // F9
    }
    answers.is("GET /users//x", 404, "404 page", "u2, u1, root"); // F10
    answers.is("GET //users/nevi", 404, "404 page", "u2, u1, root");
    answers.told(
        "GET /api/zzz",
        "api/[x]",
        json!({ "x": "zzz" }),
        "/api/zzz",
        "root",
    ); // F11
    answers.told(
        "GET /api/deep",
        "api/[x]",
        json!({ "x": "deep" }),
        "/api/deep",
        "root",
    );
    answers.told(
        "GET /api/deep/q",
        "deep/[a]",
        json!({ "a": "q" }),
        "/api/deep/q",
        "root",
    );
    answers.is("GET /api", 404, "404 page", "root"); // F12
    answers.told(
        "POST /api/getonly",
        "api/[x]",
        json!({ "x": "getonly" }),
        "/api/getonly",
        "post, root",
    ); // F13
    answers.is("HEAD /api/getonly", 200, "", "root"); // F14
    for (request, name, marks) in [
        ("GET /api/m", "get", "root"),
        ("POST /api/m", "post", "post, root"),
        ("PUT /api/m", "any", "root"),
    ] {
        answers.told(request, name, json!({}), "/api/m", marks); // F15
    }
    answers.is("HEAD /api/m", 200, "", "root");
    answers.told("GET /both", "both", json!({}), "/both", "root"); // F16
    answers.told("POST /both", "both/index", json!({}), "/both", "post, root");
    answers.told("GET /dup", "dup/index", json!({}), "/dup", "root"); // F17
    answers.told("GET /dup/", "dup/index", json!({}), "/dup/", "root");
    answers.told("GET /multi", "more", json!({}), "/multi", "root"); // F18
    answers.told("GET /multi/tail", "tail", json!({}), "/multi/tail", "root");
    let rest = json!({ "rest": ["1", "2"] });
    answers.told(
        "GET /multi/1/2/tail",
        "tail",
        rest.clone(),
        "/multi/1/2/tail",
        "root",
    );
    answers.told("GET /multi/1/2", "more", rest, "/multi/1/2", "root");
    answers.told("GET /a.b", "a.b", json!({}), "/a.b", "root"); // F19
    answers.is("GET /aXb", 404, "404 page", "root");
    answers.is("GET /about", 200, "fn+200about page", "root"); // F20
    answers.is("GET /about/", 308, "fn+308", "root");
    assert_eq!(answers.get("GET /about/")["headers"]["location"], "/about");
    answers.is("POST /about", 405, "fn+405", "post, root"); // F21
    assert_eq!(
        answers.get("GET /string")["error"],
        "Your Pages function should return a Response"
    ); // F22
    assert_eq!(answers.get("GET /throws")["error"], "as told"); // F23
    answers.is("GET /assets/x.txt", 200, "x", "");
    answers.is("GET /twice", 200, "second|404", "root"); // F24
    answers.is(
        "GET /data",
        200,
        r#"{"data":{"user":"u","more":1},"message":"context.data must be an object"}"#,
        "root",
    ); // F25
    answers.is("POST /body", 200, "bb", "post, root"); // F26
    // Each handler's request is its own, and its headers can be changed.
    answers.is("GET /request", 200, r#"["1",null,null,"2"]"#, "root");
    answers.is("GET /other", 200, "about page", "root"); // F27
    answers.is("GET /fetch", 200, "[200,true,200,405]", "root"); // F28 to F30
    answers.is(
        "GET /keys",
        200,
        r#"[["request","functionPath","next","params","data","env","waitUntil","passThroughOnException"],"hello"]"#,
        "root",
    ); // F31
    assert_eq!(
        answers
            .0
            .iter()
            .rfind(|(name, _)| name == "GET /wait")
            .unwrap()
            .1["body"],
        "true"
    );
    answers.is("GET /null", 204, "", "root");
    // pages.md 5.5: a guard also guards the path with repeated slashes.
    for (path, at) in [
        ("/secure", "/secure"),
        ("/secure/x", "/secure"),
        ("//secure//x", "//secure"),
    ] {
        answers.is(
            &format!("GET {path}"),
            403,
            &format!("guarded {at}"),
            "root",
        );
    }
    answers.is("GET /secured", 404, "404 page", "root");
    answers.is("GET /helper", 404, "404 page", "root");
}

// pages.md 9.6, F34
#[test]
fn a_route_that_can_not_be_compiled_fails_every_request() {
    let folder = Folder::new(&[
        (
            "functions/[a][b].js",
            "export const onRequest = () => new Response('never');",
        ),
        (
            "functions/fine.js",
            "export const onRequest = () => new Response('never');",
        ),
    ]);
    let built = build(&pages(&folder, DATE, &[])).unwrap();
    assert!(
        built.diagnostics[0]
            .message
            .contains("makes every request fail")
    );
    let workerd = Workerd::start(modules(&built), DATE, &[]).unwrap();
    for answer in workerd.ask(&[get("/x"), get("/fine"), get("/")]) {
        assert_eq!(
            answer["error"],
            "Must have text between two parameters, missing text after \"a\""
        );
    }
}
