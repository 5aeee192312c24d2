//! Processes: nothing is left behind, and nothing that was promised is cut off.

use engawa_testkit::{Dev, lives, wait_until};

use crate::{program, project, start};

const LATER: &str = r#"export function onRequest({ env, request, waitUntil }) {
  const key = new URL(request.url).searchParams.get("key");
  if (request.method === "POST") {
    waitUntil((async () => { await scheduler.wait(2000); await env.KV.put(key, "written later"); })());
    env.AE.writeDataPoint({ indexes: [key] });
    return new Response("answered");
  }
  return env.KV.get(key).then((value) => new Response(value ?? "nothing"));
}"#;

#[test]
fn a_killed_engawa_takes_its_workers_along() {
    let project = project(&[(
        "functions/f.js",
        "export const onRequest = () => new Response('f');",
    )]);
    let mut dev = start(&project);
    assert_eq!(dev.get("/f").0, 200);
    let workers = dev.workers();
    assert_eq!(workers.len(), 1, "one process for one deployment");
    dev.signal("KILL");
    dev.wait();
    wait_until("the workers are gone", || {
        !workers.iter().any(|pid| lives(*pid))
    });
    assert_eq!(
        start(&project).get("/f").0,
        200,
        "and the next start is clean"
    );
}

#[test]
fn wait_until_survives_an_edit_and_a_normal_stop() {
    let project = project(&[("functions/later.js", LATER)]);
    let mut dev = start(&project);
    assert_eq!(
        dev.agent()
            .post(dev.url("/later?key=edit"))
            .send_empty()
            .unwrap()
            .status(),
        200
    );
    project.write("functions/later.js", format!("{LATER}\n// edited"));
    dev.wait_for_stderr("Reloaded.");
    wait_until("the old version has written", || {
        dev.get("/later?key=edit").1 == "written later"
    });

    assert_eq!(
        dev.agent()
            .post(dev.url("/later?key=stop"))
            .send_empty()
            .unwrap()
            .status(),
        200
    );
    dev.signal("TERM");
    assert!(dev.wait().success());
    let dev = start(&project);
    assert_eq!(dev.get("/later?key=stop").1, "written later");
}

#[test]
fn a_second_signal_cuts_the_waiting_short() {
    let forever = "export function onRequest({ waitUntil }) { waitUntil(scheduler.wait(1e9)); return new Response('f'); }";
    let project = project(&[("functions/f.js", forever)]);
    let mut dev = start(&project);
    assert_eq!(dev.get("/f").0, 200);
    let workers = dev.workers();
    dev.signal("INT");
    dev.wait_for_stderr("Press Ctrl-C again");
    dev.signal("INT");
    assert!(dev.wait().success());
    wait_until("the workers are gone", || {
        !workers.iter().any(|pid| lives(*pid))
    });
}

#[test]
fn a_worker_that_ends_itself_is_started_again_by_the_next_request() {
    let project = project(&[(
        "functions/f.js",
        "import { abortIsolate } from 'cloudflare:workers';\n\
         export const onRequest = ({ request }) => { if (request.method === 'POST') abortIsolate('enough'); return new Response('alive'); };",
    )]);
    let dev = start(&project);
    assert_eq!(dev.get("/f").1, "alive");
    let first = dev.workers();
    let status = dev
        .agent()
        .post(dev.url("/f"))
        .send_empty()
        .unwrap()
        .status()
        .as_u16();
    assert!(status >= 500, "{status}");
    wait_until("it is alive again", || {
        dev.get("/f") == (200, "alive".to_owned())
    });
    assert_ne!(dev.workers(), first);
}

#[test]
fn with_logs_off_nothing_is_gathered_and_everything_works() {
    let project = project(&[(
        "functions/f.js",
        "export const onRequest = () => { console.log('secret text'); return new Response('f'); };",
    )]);
    let dev = Dev::start_with(program(), project.path(), &["--log-level", "none"]);
    assert_eq!(dev.get("/f").1, "f");
    assert!(!dev.stderr().contains("secret text"));
}
