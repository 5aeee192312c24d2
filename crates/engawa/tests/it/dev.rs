//! `engawa dev`: a folder is served, and so is each edit of it.

use engawa_testkit::{Dev, lives, wait_until};

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
    assert_eq!(
        dev.get("/nothing").0,
        200,
        "without a 404.html a site is a single-page application"
    );
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
    assert_eq!(
        answer["object"]["etag"], "841a2d689ad86bd1611447453c22c6fc",
        "hex MD5 of the body"
    );
    assert_eq!(answer["keys"], serde_json::json!(["k"]));
    assert_eq!(answer["objects"], serde_json::json!(["o/1"]));
    assert_eq!(answer["asset"], "<h1>It</h1>");
}

#[test]
fn an_edit_of_a_function_or_a_page_is_served_without_a_failed_request() {
    let project = project(&[(
        "functions/f.js",
        "export const onRequest = () => new Response('one');",
    )]);
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
            project.write(
                "functions/f.js",
                format!("export const onRequest = () => new Response('{text}');"),
            );
            wait_until("the edit is served", || dev.get("/f").1 == text);
        }
        project.write("public/index.html", "<h1>New</h1>");
        wait_until("the page is served", || dev.get("/").1 == "<h1>New</h1>");
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let answers = answers.into_inner().unwrap();
    assert!(!answers.is_empty());
    for (status, text) in answers {
        assert!(
            status == 200 && ["one", "two", "three", "four"].contains(&text.as_str()),
            "{status} {text}"
        );
    }
}

#[test]
fn a_new_file_is_a_new_route() {
    let project = project(&[(
        "functions/f.js",
        "export const onRequest = () => new Response('f');",
    )]);
    let dev = start(&project);
    project.write(
        "functions/deep/g.js",
        "export const onRequest = () => new Response('g');",
    );
    wait_until("the new route is served", || dev.get("/deep/g").1 == "g");
    project.write("public/late.txt", "late");
    wait_until("the new page is served", || {
        dev.get("/late.txt").1 == "late"
    });
}

#[test]
fn a_broken_edit_keeps_the_good_version_and_shows_the_error() {
    let project = project(&[(
        "functions/f.js",
        "export const onRequest = () => new Response('good');",
    )]);
    let dev = start(&project);
    project.write(
        "functions/f.js",
        "export const onRequest = () => { return new Response('bad' };",
    );
    dev.wait_for_stderr("functions/f.js:1:");
    dev.wait_for_stderr("The last good version goes on serving.");
    assert_eq!(dev.get("/f"), (200, "good".to_owned()));
    project.write(
        "functions/f.js",
        "export const onRequest = () => new Response('mended');",
    );
    wait_until("the mended one is served", || dev.get("/f").1 == "mended");
}

#[test]
fn a_project_that_is_broken_at_the_start_shows_its_error_in_the_browser_until_it_is_mended() {
    let project = project(&[("functions/f.js", "export const onRequest = () => {")]);
    let dev = start(&project);
    let (status, page) = dev.get("/");
    assert_eq!(status, 500);
    assert!(page.contains("functions/f.js"), "{page}");
    project.write(
        "functions/f.js",
        "export const onRequest = () => new Response('mended');",
    );
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
        (
            "functions/f.js",
            "export const onRequest = ({ env }) => new Response(env.API_KEY);",
        ),
    ]);
    let dev = start(&project);
    assert_eq!(dev.get("/f").1, secret);
    let state = project.path().join(".engawa");
    assert_eq!(
        std::fs::read_to_string(state.join(".gitignore")).unwrap(),
        "*\n"
    );
    let (found, files, _) = engawa_testkit::output(
        std::process::Command::new("grep")
            .args(["--recursive", "--files-with-matches", secret])
            .arg(&state),
    );
    assert!(!found, "{files}");
}

#[test]
fn server_sent_events_arrive_one_by_one() {
    use std::io::{BufRead as _, BufReader};
    let project = project(&[
        (
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
        ),
        (
            "functions/go.js",
            "export const onRequest = async ({ env }) => { await env.KV.put('go', '1'); return new Response(); };",
        ),
    ]);
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
    let project = project(&[(
        "functions/f.js",
        "export const onRequest = ({ env }) => new Response(env.GREETING);",
    )]);
    let config = format!(
        "{}\n[env.preview.vars]\nGREETING = \"preview\"\n",
        crate::WRANGLER
    );
    project.write("wrangler.toml", config);
    let state = tempfile::tempdir().unwrap();
    let persist = state.path().to_str().unwrap();
    let dev = Dev::start_with(
        program(),
        project.path(),
        &["--env", "preview", "--persist-to", persist],
    );
    assert_eq!(dev.get("/f").1, "preview");
    // Search engines are to leave previews out: pages.md 1.6.
    let page = dev.agent().get(dev.url("/")).call().unwrap();
    assert_eq!(page.headers()["x-robots-tag"], "noindex");
    dev.wait_for_stderr("DB");
    assert!(state.path().join("engawa.lock").exists());
    assert!(!project.path().join(".engawa").exists());
}

#[test]
fn hosts_that_a_page_could_abuse_are_refused_unless_named() {
    let project = project(&[]);
    let dev = Dev::start_with(program(), project.path(), &["--host", "My.Test"]);
    let status = |host: &str| {
        let mut response = dev
            .agent()
            .get(dev.url("/"))
            .header("host", host)
            .call()
            .unwrap();
        (
            response.status().as_u16(),
            response.body_mut().read_to_string().unwrap(),
        )
    };
    assert_eq!(status("my.test:80").0, 200);
    assert_eq!(status("a.localhost").0, 200);
    let (code, text) = status("evil.test");
    assert_eq!(code, 403);
    assert!(text.contains("--host evil.test"), "{text}");
}

#[test]
fn an_output_folder_that_a_build_tool_replaces_is_served_each_time_and_watched_on() {
    let project = project(&[("build/out/index.html", "zero"), ("functions/f.js", ECHO)]);
    let config = crate::WRANGLER.replace("\"public\"", "\"build/out\"");
    project.write("wrangler.toml", config);
    let dev = start(&project);
    assert_eq!(dev.get("/").1, "zero");
    let out = project.path().join("build/out");
    for round in ["one", "two"] {
        // As `next build` does: another folder takes the name.
        project.write("build/new/index.html", round);
        project.write("build/new/deep/er/page.html", round);
        std::fs::remove_dir_all(&out).unwrap();
        std::fs::rename(project.path().join("build/new"), &out).unwrap();
        wait_until("the new folder is served", || dev.get("/").1 == round);
        let edited = format!("{round} edited");
        project.write("build/out/deep/er/page.html", &edited);
        wait_until("an edit in it is served", || {
            dev.get("/deep/er/page").1 == edited
        });
    }
    // All of it goes, also what it lay in, and comes back in its own time.
    std::fs::remove_dir_all(project.path().join("build")).unwrap();
    dev.wait_for_stderr("there is no folder");
    assert_eq!(dev.get("/").1, "two", "the last good version goes on");
    project.write("build/out/index.html", "back");
    wait_until("it is served", || dev.get("/").1 == "back");
}

const ECHO: &str = "export const onRequest = () => new Response('f');";

#[test]
fn a_project_that_is_its_own_output_folder_is_served_with_each_edit() {
    let project = project(&[("index.html", "zero")]);
    project.write(
        "wrangler.toml",
        crate::WRANGLER.replace("\"public\"", "\".\""),
    );
    let dev = start(&project);
    for text in ["one", "two"] {
        // In place, with neither a new name nor a new file.
        project.write("index.html", text);
        wait_until("the edit is served", || dev.get("/").1 == text);
    }
}

#[test]
fn of_edits_in_a_row_the_last_one_is_served() {
    let project = project(&[("functions/f.js", ECHO)]);
    let dev = start(&project);
    for round in 0..3 {
        // Each comes while another is built.
        let mut last = String::new();
        for edit in 0..15 {
            last = format!("{round}/{edit}");
            let text = format!("export const onRequest = () => new Response('{last}');");
            project.write("functions/.f.js.tmp", text);
            let at = |name: &str| project.path().join(name);
            std::fs::rename(at("functions/.f.js.tmp"), at("functions/f.js")).unwrap();
            dev.get("/f");
        }
        wait_until("the last edit is served", || dev.get("/f").1 == last);
    }
}

#[test]
fn edits_do_not_cut_off_what_the_version_before_still_answers() {
    use std::io::Read as _;
    let stream = |n: usize| {
        format!(
            r#"export function onRequest({{ env }}) {{
  const {{ readable, writable }} = new TransformStream();
  (async () => {{
    const writer = writable.getWriter();
    await writer.write(new TextEncoder().encode("{n}"));
    while (await env.KV.get("go") === null) await scheduler.wait(20);
    await writer.write(new TextEncoder().encode(" whole"));
    await writer.close();
  }})();
  return new Response(readable);
}}"#
        )
    };
    let go = "export const onRequest = async ({ env }) => { await env.KV.put('go', '1'); return new Response(); };";
    let project = project(&[("functions/s.js", &stream(0)), ("functions/go.js", go)]);
    let dev = start(&project);
    let mut open = Vec::new();
    for n in 0..5 {
        project.write("functions/s.js", stream(n));
        wait_until("the edit is served", || {
            let mut body = dev
                .agent()
                .get(dev.url("/s"))
                .call()
                .unwrap()
                .into_body()
                .into_reader();
            let mut first = [0];
            body.read_exact(&mut first).unwrap();
            let served = first == n.to_string().as_bytes();
            if served {
                open.push(body);
            }
            served
        });
    }
    assert_eq!(dev.get("/go").0, 200);
    // The live version and the three before it; the oldest had to make room.
    for (n, mut body) in open.into_iter().enumerate().skip(1) {
        let mut rest = String::new();
        body.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, " whole", "of version {n}");
    }
}

#[test]
fn a_worker_that_never_comes_up_keeps_nobody_from_leaving() {
    let project = project(&[("functions/f.js", ECHO)]);
    let mut dev = start(&project);
    project.write("functions/f.js", format!("while (true);\n{ECHO}"));
    wait_until("the new worker starts", || dev.workers().len() > 1);
    dev.signal("TERM");
    assert!(dev.wait().success());
}

#[test]
fn an_edit_mends_a_worker_that_never_comes_up_without_waiting_for_it() {
    let project = project(&[("functions/f.js", ECHO)]);
    let dev = start(&project);
    let good = dev.workers();
    project.write("functions/f.js", format!("while (true);\n{ECHO}"));
    wait_until("the new worker starts", || dev.workers().len() > 1);
    let hung: Vec<u32> = dev
        .workers()
        .into_iter()
        .filter(|pid| !good.contains(pid))
        .collect();
    project.write("functions/f.js", ECHO.replace("'f'", "'mended'"));
    wait_until("the mended one is served", || dev.get("/f").1 == "mended");
    let said = dev.stderr();
    assert!(
        !said.contains("goes on serving"),
        "it was waited for: {said}"
    );
    wait_until("the hung one is gone", || {
        !hung.iter().any(|pid| lives(*pid))
    });
}

#[test]
fn warnings_are_told_once_and_not_with_every_edit() {
    let project = project(&[("functions/f.js", ECHO)]);
    project.write(
        "wrangler.toml",
        format!("unheard_of = 1\n{}", crate::WRANGLER),
    );
    let dev = start(&project);
    let told = || dev.stderr().matches("unheard_of").count();
    let at_start = told();
    assert_ne!(at_start, 0);
    for text in ["one", "two"] {
        project.write("public/index.html", text);
        wait_until("the edit is served", || dev.get("/").1 == text);
    }
    assert_eq!(told(), at_start);
}

/// Acceptance: "edit a function, see the new answer: median below 300 ms over 20 edits".
/// `ENGAWA_TEST_PROGRAM` names another program to measure, such as a release build.
#[test]
#[ignore = "it measures, which means nothing on a busy machine"]
fn measure_the_time_from_an_edit_to_its_answer() {
    let project = project(&[("functions/f.js", ECHO)]);
    let other = std::env::var_os("ENGAWA_TEST_PROGRAM").map(std::path::PathBuf::from);
    let dev = Dev::start(other.as_deref().unwrap_or(program()), &project);
    let mut times_ms: Vec<u128> = (0..20)
        .map(|edit| {
            let text = format!("export const onRequest = () => new Response('{edit}');");
            let began = std::time::Instant::now();
            project.write("functions/f.js", text);
            while dev.get("/f").1 != edit.to_string() {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            began.elapsed().as_millis()
        })
        .collect();
    times_ms.sort_unstable();
    eprintln!(
        "edit to answer, ms: median {}, all {times_ms:?}",
        times_ms[10]
    );
    assert!(times_ms[10] < 300, "{times_ms:?}");
}

#[test]
fn the_place_of_visitors_can_be_set() {
    let project = project(&[
        (
            "functions/f.js",
            "export const onRequest = ({ request }) => Response.json(request.cf);",
        ),
        (
            "cf.json",
            r#"{ "colo": "NRT", "country": "JP", "city": "\u4eac\u90fd", "asn": 64512 }"#,
        ),
    ]);
    let file = project.path().join("cf.json");
    let arguments = ["--cf", file.to_str().unwrap()];
    let dev = Dev::start_with(program(), project.path(), &arguments);
    let cf = dev.json("/f");
    assert_eq!(cf["colo"], "NRT");
    assert_eq!(cf["country"], "JP");
    assert_eq!(cf["city"], "京都");
    assert_eq!(cf["asn"], 64512);
    assert_eq!(
        cf["timezone"], "America/Chicago",
        "what the file leaves out"
    );
}
