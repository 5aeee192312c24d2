//! `engawa dev`: a folder is served, and so is each edit of it.

use engawa_testkit::{Dev, wait_until};

use crate::{program, project, start};

#[test]
fn a_page_and_a_function_are_served() {
    let project = project(&[(
        "functions/api/[name].ts",
        "interface Env { GREETING: string }\n\
         export const onRequestGet: PagesFunction<Env> = ({ env, params, request }) =>\n\
           Response.json({ text: `${env.GREETING} ${params.name}`, colo: request.cf!.colo, ray: request.headers.get('cf-ray') });\n",
    )]);
    let dev = start(&project);
    assert_eq!(dev.get("/"), (200, "<h1>It</h1>".to_owned()));
    let answer = dev.json("/api/you");
    assert_eq!(answer["text"], "hello you");
    assert_eq!(answer["colo"].as_str().unwrap().len(), 3);
    assert_eq!(answer["ray"].as_str().unwrap().len(), 20);
    assert_eq!(dev.get("/nothing").0, 200, "without a 404.html a site is a single-page application");
}

#[test]
fn every_binding_answers() {
    let project = project(&[(
        "functions/all.js",
        r#"export async function onRequest({ env }) {
  await env.KV.put("k", "v", { metadata: { a: "é" } });
  await env.DB.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)");
  const inserted = await env.DB.prepare("INSERT INTO t (s) VALUES (?)").bind("x").run();
  await env.BUCKET.put("o/1", "body", { customMetadata: { q: "1" } });
  const object = await env.BUCKET.get("o/1");
  env.AE.writeDataPoint({ blobs: ["a"], doubles: [1], indexes: ["i"] });
  const asset = await env.ASSETS.fetch("https://any.test/");
  return Response.json({
    kv: await env.KV.getWithMetadata("k"),
    row: await env.DB.prepare("SELECT * FROM t").first(),
    changes: inserted.meta.changes,
    object: { text: await object.text(), custom: object.customMetadata, etag: object.etag },
    keys: (await env.KV.list()).keys.map((key) => key.name),
    objects: (await env.BUCKET.list()).objects.map((object) => object.key),
    asset: await asset.text(),
  });
}"#,
    )]);
    let dev = start(&project);
    let answer = dev.json("/all");
    assert_eq!(answer["kv"]["value"], "v");
    assert_eq!(answer["kv"]["metadata"]["a"], "é");
    assert_eq!(answer["row"], serde_json::json!({ "id": 1, "s": "x" }));
    assert_eq!(answer["changes"], 1);
    assert_eq!(answer["object"]["text"], "body");
    assert_eq!(answer["object"]["custom"]["q"], "1");
    assert_eq!(answer["object"]["etag"], "841a2d689ad86bd1611447453c22c6fc", "hex MD5 of the body");
    assert_eq!(answer["keys"], serde_json::json!(["k"]));
    assert_eq!(answer["objects"], serde_json::json!(["o/1"]));
    assert_eq!(answer["asset"], "<h1>It</h1>");
}

#[test]
fn an_edit_of_a_function_or_a_page_is_served_without_a_failed_request() {
    let project = project(&[("functions/f.js", "export const onRequest = () => new Response('one');")]);
    let dev = start(&project);
    assert_eq!(dev.get("/f").1, "one");
    let answers = std::sync::Mutex::new(Vec::new());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                answers.lock().unwrap().push(dev.get("/f"));
            }
        });
        for text in ["two", "three", "four"] {
            project.write("functions/f.js", format!("export const onRequest = () => new Response('{text}');"));
            wait_until("the edit is served", || dev.get("/f").1 == text);
        }
        project.write("public/index.html", "<h1>New</h1>");
        wait_until("the page is served", || dev.get("/").1 == "<h1>New</h1>");
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let answers = answers.into_inner().unwrap();
    assert!(!answers.is_empty());
    for (status, text) in answers {
        assert!(status == 200 && ["one", "two", "three", "four"].contains(&text.as_str()), "{status} {text}");
    }
}

#[test]
fn a_new_file_is_a_new_route() {
    let project = project(&[("functions/f.js", "export const onRequest = () => new Response('f');")]);
    let dev = start(&project);
    project.write("functions/deep/g.js", "export const onRequest = () => new Response('g');");
    wait_until("the new route is served", || dev.get("/deep/g").1 == "g");
    project.write("public/late.txt", "late");
    wait_until("the new page is served", || dev.get("/late.txt").1 == "late");
}

#[test]
fn a_broken_edit_keeps_the_good_version_and_shows_the_error() {
    let project = project(&[("functions/f.js", "export const onRequest = () => new Response('good');")]);
    let dev = start(&project);
    project.write("functions/f.js", "export const onRequest = () => { return new Response('bad' };");
    dev.wait_for_stderr("functions/f.js:1:");
    dev.wait_for_stderr("The last good version goes on serving.");
    assert_eq!(dev.get("/f"), (200, "good".to_owned()));
    project.write("functions/f.js", "export const onRequest = () => new Response('mended');");
    wait_until("the mended one is served", || dev.get("/f").1 == "mended");
}

#[test]
fn a_project_that_is_broken_at_the_start_shows_its_error_in_the_browser_until_it_is_mended() {
    let project = project(&[("functions/f.js", "export const onRequest = () => {")]);
    let dev = start(&project);
    let (status, page) = dev.get("/");
    assert_eq!(status, 500);
    assert!(page.contains("functions/f.js"), "{page}");
    project.write("functions/f.js", "export const onRequest = () => new Response('mended');");
    wait_until("the mended one is served", || dev.get("/f").1 == "mended");
}

#[test]
fn logs_and_exceptions_have_the_request_and_the_place_in_the_users_file() {
    let project = project(&[(
        "functions/f.ts",
        "const nothing: any = undefined;\n\
         export const onRequest = ({ request }: any) => {\n\
           console.log('seen', { a: 1 });\n\
           return nothing.field;\n\
         };\n",
    )]);
    let dev = start(&project);
    assert_eq!(dev.get("/f?x=1").0, 500);
    dev.wait_for_stderr("GET /f?x=1");
    dev.wait_for_stderr("seen {\"a\":1}");
    dev.wait_for_stderr("Uncaught TypeError");
    dev.wait_for_stderr("functions/f.ts:4:");
}

#[test]
fn secrets_come_from_dev_vars_and_are_in_no_file_of_the_state_folder() {
    let secret = "correct-horse-battery-staple";
    let project = project(&[
        (".dev.vars", &format!("API_KEY={secret}\n")),
        ("functions/f.js", "export const onRequest = ({ env }) => new Response(env.API_KEY);"),
    ]);
    let dev = start(&project);
    assert_eq!(dev.get("/f").1, secret);
    let state = project.path().join(".engawa");
    assert_eq!(std::fs::read_to_string(state.join(".gitignore")).unwrap(), "*\n");
    let (found, files, _) = engawa_testkit::output(
        std::process::Command::new("grep").args(["--recursive", "--files-with-matches", secret]).arg(&state),
    );
    assert!(!found, "{files}");
}

#[test]
fn server_sent_events_arrive_one_by_one() {
    use std::io::{BufRead as _, BufReader};
    let project = project(&[(
        "functions/events.js",
        r#"export function onRequest({ env }) {
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const say = (text) => writer.write(new TextEncoder().encode(`data: ${text}\n\n`));
  (async () => {
    await say("one");
    // The second comes only after the reader has told that it has the first.
    while (await env.KV.get("go") === null) await scheduler.wait(5);
    await say("two");
    await writer.close();
  })();
  return new Response(readable, { headers: { "content-type": "text/event-stream" } });
}"#,
    ), ("functions/go.js", "export const onRequest = async ({ env }) => { await env.KV.put('go', '1'); return new Response(); };")]);
    let dev = start(&project);
    let response = dev.agent().get(dev.url("/events")).call().unwrap();
    let mut lines = BufReader::new(response.into_body().into_reader()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "data: one");
    assert_eq!(dev.get("/go").0, 200);
    assert_eq!(lines.next().unwrap().unwrap(), "");
    assert_eq!(lines.next().unwrap().unwrap(), "data: two");
}

#[test]
fn the_environment_is_chosen_and_state_can_lie_elsewhere() {
    let project = project(&[("functions/f.js", "export const onRequest = ({ env }) => new Response(env.GREETING);")]);
    let config = format!("{}\n[env.preview.vars]\nGREETING = \"preview\"\n", crate::WRANGLER);
    project.write("wrangler.toml", config);
    let state = tempfile::tempdir().unwrap();
    let persist = state.path().to_str().unwrap();
    let dev = Dev::start_with(program(), project.path(), &["--env", "preview", "--persist-to", persist]);
    assert_eq!(dev.get("/f").1, "preview");
    dev.wait_for_stderr("DB");
    assert!(state.path().join("engawa.lock").exists());
    assert!(!project.path().join(".engawa").exists());
}

#[test]
fn hosts_that_a_page_could_abuse_are_refused_unless_named() {
    let project = project(&[]);
    let dev = Dev::start_with(program(), project.path(), &["--host", "My.Test"]);
    let status = |host: &str| {
        let mut response = dev.agent().get(dev.url("/")).header("host", host).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    };
    assert_eq!(status("my.test:80").0, 200);
    assert_eq!(status("a.localhost").0, 200);
    let (code, text) = status("evil.test");
    assert_eq!(code, 403);
    assert!(text.contains("--host evil.test"), "{text}");
}
