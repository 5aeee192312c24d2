//! What a user does wrong is told, with what to do, and loses nothing.

use engawa_testkit::{Dev, TestProject, engawa, output};

use crate::{program, project, start};

fn refused(dir: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = engawa(program());
    command
        .arg("dev")
        .arg(dir)
        .args(["--port", "0"])
        .args(arguments);
    match Dev::spawn(command) {
        Ok(_) => panic!("engawa dev became ready"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let project = project(&[]);
    let mut command = engawa(program());
    command
        .arg("dev")
        .arg(project.path())
        .args(["--port", &port]);
    let said = format!("{:#}", Dev::spawn(command).err().expect("it is refused"));
    assert!(
        said.contains(&format!("Port {port} of 127.0.0.1 is in use")) && said.contains("--port 0"),
        "{said}"
    );
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let said = refused(std::path::Path::new("/nowhere/at/all"), &[]);
    assert!(said.contains("/nowhere/at/all is not a folder"), "{said}");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_refused_with_the_way_out() {
    let project = project(&[("state", "a file where a folder should be")]);
    let state = project.path().join("state");
    let said = refused(project.path(), &["--persist-to", state.to_str().unwrap()]);
    assert!(
        said.contains("cannot be written to") && said.contains("--persist-to"),
        "{said}"
    );
}

#[test]
fn a_second_server_says_who_has_the_folder() {
    let project = project(&[]);
    let first = start(&project);
    let said = refused(project.path(), &[]);
    assert!(
        said.contains(&format!("process {}", first.pid())) && said.contains("engawa dev"),
        "{said}"
    );
    assert_eq!(first.get("/").0, 200);
}

#[test]
fn a_wrong_wrangler_file_is_shown_with_its_line() {
    let project = TestProject::new(&[(
        "wrangler.toml",
        "name = \"x\"\ncompatibility_date = \"2026-08-01\"\npages_build_output_dir = 3\n",
    )]);
    let dev = start(&project);
    dev.wait_for_stderr("wrangler.toml:3:");
    let (status, page) = dev.get("/");
    assert_eq!(status, 500);
    assert!(page.contains("pages_build_output_dir"), "{page}");
}

#[test]
fn a_worker_that_does_not_start_shows_workerds_own_text() {
    let project = project(&[(
        "functions/f.js",
        "throw new Error('at the top');\nexport const onRequest = () => {};",
    )]);
    let dev = start(&project);
    dev.wait_for_stderr("at the top");
    let (status, page) = dev.get("/");
    assert_eq!(status, 500);
    assert!(page.contains("at the top"), "{page}");
}

#[test]
fn a_function_that_throws_gives_error_1101_and_the_next_request_works() {
    let project = project(&[(
        "functions/f.js",
        "export const onRequest = ({ request }) => { if (request.url.endsWith('?bad')) throw new Error('no'); return new Response('ok'); };",
    )]);
    let dev = start(&project);
    let (status, page) = dev.get("/f?bad");
    assert_eq!(status, 500);
    assert!(page.contains("1101"), "{page}");
    assert_eq!(dev.get("/f"), (200, "ok".to_owned()));
}

#[test]
fn errors_of_bindings_have_cloudflares_texts() {
    let project = project(&[(
        "functions/errors.js",
        r#"const text = async (call) => { try { await call(); return "no error"; } catch (error) { return String(error.message); } };
export async function onRequest({ env }) {
  return Response.json({
    key: await text(() => env.KV.get("k".repeat(513))),
    ttl: await text(() => env.KV.put("k", "v", { expirationTtl: 5 })),
    metadata: await text(() => env.KV.put("k", "v", { metadata: "m".repeat(1030) })),
    value: await text(() => env.KV.put("k", new Uint8Array(25 * 1024 * 1024 + 1))),
    table: await text(() => env.DB.prepare("SELECT * FROM nope").all()),
    pragma: await text(() => env.DB.prepare("PRAGMA journal_mode = DELETE").run()),
    digest: await text(() => env.BUCKET.put("o", "x", { md5: "00000000000000000000000000000000" })),
    range: await text(async () => { await env.BUCKET.put("o", "x"); await env.BUCKET.get("o", { range: { offset: 5 } }); }),
  });
}"#,
    )]);
    let dev = start(&project);
    let errors = dev.json("/errors");
    // workerd: kv.c++; miniflare: kv validator.worker.ts, r2 errors.worker.ts; storage.md 1.2, 2.5, 3.7
    assert_eq!(
        errors["key"],
        "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512."
    );
    assert_eq!(
        errors["ttl"],
        "KV PUT failed: 400 Invalid expiration_ttl of 5. Expiration TTL must be at least 60."
    );
    assert_eq!(
        errors["metadata"],
        "KV PUT failed: 413 Metadata length of 1032 exceeds limit of 1024."
    );
    assert_eq!(
        errors["value"],
        "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400."
    );
    assert_eq!(
        errors["table"],
        "D1_ERROR: no such table: nope: SQLITE_ERROR"
    );
    assert_eq!(errors["pragma"], "D1_ERROR: not authorized: SQLITE_AUTH");
    assert!(
        errors["digest"]
            .as_str()
            .unwrap()
            .starts_with("put: The MD5 checksum you specified did not match what we received."),
        "{errors}"
    );
    assert_eq!(
        errors["range"],
        "get: The requested range is not satisfiable (10039)"
    );
}

#[test]
fn an_upload_that_stops_half_way_stores_nothing() {
    use std::io::Write as _;
    let project = project(&[(
        "functions/put.js",
        r#"export async function onRequest({ env, request }) {
  if (request.method === "PUT") { await env.KV.put("k", request.body); return new Response("stored"); }
  return Response.json({ value: await env.KV.get("k") });
}"#,
    )]);
    let dev = start(&project);
    assert_eq!(
        dev.agent()
            .put(dev.url("/put"))
            .send("old")
            .unwrap()
            .status(),
        200
    );
    let mut half = std::net::TcpStream::connect(dev.address).unwrap();
    write!(
        half,
        "PUT /put HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{}",
        "x".repeat(500_000)
    )
    .unwrap();
    drop(half);
    // Another upload on the same path goes through the same queue, so that the broken one
    // has been dealt with, or never will be.
    assert_eq!(dev.json("/put")["value"], "old");
    assert_eq!(
        dev.agent()
            .put(dev.url("/put"))
            .send("new")
            .unwrap()
            .status(),
        200
    );
    assert_eq!(dev.json("/put")["value"], "new");
}

#[test]
fn a_missing_migrations_folder_is_named() {
    let project = project(&[]);
    let (ok, _, said) = output(
        engawa(program())
            .args(["d1", "migrations", "list", "it-db", "--cwd"])
            .arg(project.path()),
    );
    assert!(!ok);
    assert!(said.contains("migrations"), "{said}");
}

#[test]
fn a_full_disk_is_told_service_by_service_and_loses_nothing() {
    let project = project(&[(
        "functions/disk.js",
        r#"const attempt = async (call) => { try { await call(); return "stored"; } catch (error) { return String(error.message); } };
export async function onRequest({ env, request }) {
  const url = new URL(request.url);
  if (url.searchParams.has("fill")) {
    await env.DB.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, b BLOB)");
    let stored = 0, error = "stored";
    while (error === "stored" && stored < 1000) {
      error = await attempt(() => env.KV.put(`k${stored}`, new Uint8Array(100_000).fill(stored % 256)));
      if (error === "stored") stored++;
    }
    const big = new Uint8Array(1_000_000);
    return Response.json({ stored, kv: error,
      r2: await attempt(() => env.BUCKET.put("o", big)),
      d1: await attempt(() => env.DB.prepare("INSERT INTO t (b) VALUES (zeroblob(1000000))").run()) });
  }
  if (url.searchParams.has("after")) {
    return Response.json({ kv: await attempt(() => env.KV.put("after", "v")),
      d1: await attempt(() => env.DB.prepare("INSERT INTO t (b) VALUES (1)").run()) });
  }
  const value = await env.KV.get(url.searchParams.get("key"), "arrayBuffer");
  return Response.json({ length: value?.byteLength ?? null, first: value ? new Uint8Array(value)[0] : null });
}"#,
    )]);
    let state = tempfile::tempdir().unwrap();
    // A small file system of its own, which goes with the process that mounted it.
    let mut command = engawa(std::path::Path::new("unshare"));
    let script = format!(
        "mount -t tmpfs -o size=14m none {0} && head -c 2000000 /dev/zero > {0}/ballast && exec {1} dev {2} --port 0 --persist-to {0}",
        state.path().display(),
        program().display(),
        project.path().display()
    );
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    let dev = Dev::spawn(command)
        .expect("a user may have a mount namespace (kernel.unprivileged_userns_clone)");
    let full = dev.json("/disk?fill");
    assert!(full["stored"].as_u64().unwrap() > 10, "{full}");
    for service in ["kv", "r2", "d1"] {
        assert!(
            full[service]
                .as_str()
                .unwrap()
                .to_lowercase()
                .contains("full"),
            "{service}: {full}"
        );
    }
    let last = full["stored"].as_u64().unwrap() - 1;
    let value = dev.json(&format!("/disk?key=k{last}"));
    assert_eq!(
        value,
        serde_json::json!({ "length": 100_000, "first": last % 256 }),
        "what was acknowledged is there"
    );
    // The operator makes room.
    let ballast = format!("/proc/{}/root{}/ballast", dev.pid(), state.path().display());
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(
        dev.json("/disk?after"),
        serde_json::json!({ "kv": "stored", "d1": "stored" })
    );
}
