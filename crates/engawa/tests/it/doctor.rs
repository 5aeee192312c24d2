//! Damage: `engawa doctor` names it, the operations concerned say so, and everything else
//! goes on.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use engawa_testkit::{Dev, TestProject, engawa, output};

use crate::{program, project, start};

/// Answers with what an operation gives, or with its error.
const FIXTURE: &str = r#"
export async function onRequest({ env, request }) {
  const url = new URL(request.url);
  const key = url.searchParams.get("key"), length = Number(url.searchParams.get("length"));
  const bytes = new Uint8Array(length).fill(7);
  const size = (value) => value === null ? "nothing" : String(value.byteLength);
  try {
    switch (url.pathname) {
      case "/kv/put": await env.KV.put(key, bytes); break;
      case "/kv/get": return new Response(size(await env.KV.get(key, "arrayBuffer")));
      case "/kv/delete": await env.KV.delete(key); break;
      case "/r2/put": await env.BUCKET.put(key, bytes); break;
      case "/r2/get": return new Response(size(await (await env.BUCKET.get(key)).arrayBuffer()));
      case "/d1/put":
        await env.DB.prepare("CREATE TABLE IF NOT EXISTS t (key TEXT, value BLOB)").run();
        await env.DB.prepare("INSERT INTO t VALUES (?, ?)").bind(key, bytes).run();
        break;
      case "/d1/get": return new Response(String(await env.DB.prepare("SELECT count(*) AS n FROM t").first("n")));
    }
    return new Response("done");
  } catch (error) {
    return new Response(error.message, { status: 500 });
  }
}
"#;

fn filled() -> TestProject {
    let project = project(&[("functions/[[path]].js", FIXTURE)]);
    let mut dev = start(&project);
    fill(&dev);
    end(&mut dev);
    project
}

fn fill(dev: &Dev) {
    for product in ["kv", "r2", "d1"] {
        for (key, length) in [("small", 10), ("large", 100_000)] {
            done(dev, &format!("/{product}/put?key={key}&length={length}"));
        }
    }
}

fn done(dev: &Dev, path: &str) {
    assert_eq!(dev.get(path), (200, "done".to_owned()), "{path}");
}

fn end(dev: &mut Dev) {
    dev.signal("TERM");
    assert!(dev.wait().success(), "{}", dev.stderr());
}

fn doctor(project: &TestProject, arguments: &[&str]) -> (bool, String) {
    let mut command = engawa(program());
    command.arg("doctor").arg("--cwd").arg(project.path());
    let (success, stdout, stderr) = output(command.args(arguments));
    (success, format!("{stdout}{stderr}"))
}

/// The files below a folder of the one account, the largest first.
fn files(project: &TestProject, kind: &str) -> Vec<PathBuf> {
    let mut folders = vec![project.path().join(".engawa/accounts/local").join(kind)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((fs::metadata(&path).unwrap().len(), path));
            }
        }
    }
    files.sort_unstable();
    files.into_iter().rev().map(|(_, path)| path).collect()
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn the_doctor_finds_nothing_beside_a_server_or_without_one() {
    let project = project(&[("functions/[[path]].js", FIXTURE)]);
    let (success, said) = doctor(&project, &[]);
    assert!(success && said.contains("nothing is stored yet"), "{said}");
    assert!(!project.path().join(".engawa").exists());

    let mut dev = start(&project);
    fill(&dev);
    let (success, said) = doctor(&project, &[]);
    assert!(success, "{said}");
    let owner = format!("in use by engawa dev (process {})", dev.pid());
    assert!(said.contains(&owner), "{said}");
    assert!(said.contains("4 SQLite files and 2 blobs"), "{said}");
    fill(&dev);
    end(&mut dev);

    let (success, said) = doctor(&project, &["--json"]);
    assert!(success, "{said}");
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(found["data"]["findings"], serde_json::json!([]));
    assert_eq!(found["data"]["verified_bytes"], 200_000);
    let names: Vec<_> = found["machine"].as_array().unwrap().iter().collect();
    for name in ["syncs", "locks", "limits", "/proc", "sockets", "clock"] {
        assert!(names.iter().any(|check| check["name"] == name), "{said}");
    }
}

#[test]
fn a_second_server_says_which_one_has_the_folder() {
    let project = project(&[("functions/[[path]].js", FIXTURE)]);
    let dev = start(&project);
    let mut second = engawa(program());
    second.arg("dev").arg(project.path()).args(["--port", "0"]);
    let (success, _, said) = output(&mut second);
    assert!(!success);
    let owner = format!("in use by engawa dev (process {})", dev.pid());
    assert!(said.contains(&owner), "{said}");
    done(&dev, "/kv/put?key=a&length=1");
}

#[test]
fn a_flipped_byte_of_a_value_costs_that_value_only() {
    let project = filled();
    let blob = files(&project, "blobs/r2").remove(0);
    flip(&blob, 50_000);
    let dev = start(&project);
    let (status, said) = dev.get("/r2/get?key=large");
    assert_eq!(status, 500, "{said}");
    assert_eq!(dev.get("/r2/get?key=small"), (200, "10".to_owned()));
    assert_eq!(dev.get("/kv/get?key=large"), (200, "100000".to_owned()));
    done(&dev, "/r2/put?key=more&length=100000");

    let (success, said) = doctor(&project, &[]);
    assert!(!success);
    assert!(said.contains(blob.to_str().unwrap()), "{said}");
    assert!(
        said.contains("Lost: the value of \"large\" in the R2 bucket it-bucket"),
        "{said}"
    );
    // Written again, it is whole.
    done(&dev, "/r2/put?key=large&length=100000");
    assert_eq!(dev.get("/r2/get?key=large"), (200, "100000".to_owned()));
    let (success, said) = doctor(&project, &[]);
    assert!(success, "{said}");
}

#[test]
fn a_damaged_page_or_a_truncated_file_costs_that_resource_only() {
    let project = filled();
    let kv = files(&project, "kv").remove(0);
    let r2 = files(&project, "r2").remove(0);
    // The kind of a page's tree.
    flip(&kv, 4096);
    let half = fs::metadata(&r2).unwrap().len() / 2;
    let file = fs::File::options().write(true).open(&r2).unwrap();
    file.set_len(half - half % 4096 - 100).unwrap();

    let (success, said) = doctor(&project, &[]);
    assert!(!success);
    for (path, lost) in [(&kv, "the KV namespace"), (&r2, "the R2 bucket it-bucket")] {
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains(lost), "{said}");
    }
    let dev = start(&project);
    assert_eq!(dev.get("/kv/get?key=small").0, 500);
    assert_eq!(dev.get("/r2/get?key=small").0, 500);
    assert_eq!(dev.get("/d1/get"), (200, "2".to_owned()));
    done(&dev, "/d1/put?key=more&length=10");
}

#[test]
fn a_damaged_catalog_is_named_at_the_start() {
    let project = filled();
    let catalog = project.path().join(".engawa/catalog.sqlite");
    fs::write(&catalog, [7; 8192]).unwrap();
    let mut command = engawa(program());
    command.arg("dev").arg(project.path()).args(["--port", "0"]);
    let (success, _, said) = output(&mut command);
    assert!(!success);
    assert!(said.contains("catalog.sqlite is corrupt"), "{said}");
    let (success, said) = doctor(&project, &[]);
    assert!(!success && said.contains("catalog.sqlite"), "{said}");
}

/// `engawa` with its arguments, after a script with the right to mount. `None`: this
/// machine does not allow that.
fn mounting(script: &str, arguments: &[&str]) -> Option<Command> {
    let (allowed, ..) = output(Command::new("unshare").args(["-rm", "true"]));
    if !allowed {
        crate::load::print("this machine allows no mounts: not tested");
        return None;
    }
    let inner = engawa(program());
    let mut command = Command::new("unshare");
    command.env_clear();
    for (name, value) in inner.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
        .args(["-rm", "--kill-child", "sh", "-ec"])
        .arg(format!("{script}\nexec \"$@\""))
        .args(["sh".as_ref(), program().as_os_str()])
        .args(arguments);
    Some(command)
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads_and_deletions_make_room() {
    let project = project(&[("functions/[[path]].js", FIXTURE)]);
    let folder = project.path().to_str().unwrap();
    let state = project.path().join("small-disk");
    fs::create_dir(&state).unwrap();
    let state = state.to_str().unwrap();
    let script = format!("mount -t tmpfs -o size=16m none '{state}'");
    let arguments = ["dev", folder, "--port", "0", "--persist-to", state];
    let Some(command) = mounting(&script, &arguments) else {
        return;
    };
    let dev = Dev::spawn(command).unwrap();
    fill(&dev);
    // A value takes a megabyte, and there are not twenty.
    let put = |number: usize| dev.get(&format!("/kv/put?key=big{number}&length=1000000"));
    let full = (0..20).find(|number| put(*number).0 != 200).unwrap();
    let refused = |path: &str| {
        let (status, said) = dev.get(path);
        assert_eq!(status, 500, "{path}");
        assert!(said.contains("disk is full"), "{path}: {said}");
    };
    refused(&format!("/kv/put?key=big{full}&length=1000000"));
    refused("/r2/put?key=big&length=1000000");
    refused("/d1/put?key=big&length=1000000");
    for product in ["kv", "r2"] {
        let path = format!("/{product}/get?key=large");
        assert_eq!(dev.get(&path), (200, "100000".to_owned()));
    }
    assert_eq!(dev.get("/d1/get"), (200, "2".to_owned()));
    // What was refused is not there in part.
    let path = format!("/kv/get?key=big{full}");
    assert_eq!(dev.get(&path), (200, "nothing".to_owned()));
    for number in 0..full {
        done(&dev, &format!("/kv/delete?key=big{number}"));
    }
    fill(&dev);
    done(&dev, "/kv/put?key=big&length=1000000");
}

#[test]
fn a_folder_that_cannot_be_written_refuses_what_needs_it() {
    let project = filled();
    let folder = project.path().to_str().unwrap();
    let read_only = |path: &Path| {
        let path = path.to_str().unwrap();
        format!("mount --bind '{path}' '{path}'\nmount -o remount,ro,bind '{path}'")
    };
    // Large values have a folder of their own.
    let script = read_only(&project.path().join(".engawa/accounts/local/blobs"));
    let Some(command) = mounting(&script, &["dev", folder, "--port", "0"]) else {
        return;
    };
    let dev = Dev::spawn(command).unwrap();
    let (status, said) = dev.get("/kv/put?key=large&length=100000");
    assert_eq!(status, 500, "{said}");
    done(&dev, "/kv/put?key=small&length=20");
    assert_eq!(dev.get("/kv/get?key=large"), (200, "100000".to_owned()));
    assert_eq!(dev.get("/kv/get?key=small"), (200, "20".to_owned()));
    drop(dev);

    let script = read_only(&project.path().join(".engawa"));
    let mut command = mounting(&script, &["dev", folder, "--port", "0"]).unwrap();
    let (success, _, said) = output(&mut command);
    assert!(!success);
    assert!(
        said.contains(".engawa") && said.contains("ead-only"),
        "{said}"
    );
    let mut command = mounting(&script, &["doctor", "--cwd", folder]).unwrap();
    let (success, said, _) = output(&mut command);
    assert!(!success);
    assert!(said.contains("cannot be written to and synced"), "{said}");
}
