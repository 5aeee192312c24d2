//! `engawa kv … --local` and `engawa r2 object … --local`.

use serde_json::{Value, json};

use super::{command, run};
use crate::project;

#[test]
fn a_key_is_put_got_listed_and_deleted() {
    let project = project(&[]);
    let binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    project.write("value.bin", &binary);
    let key = "a/b c%20é";
    let kv = |arguments: &[&str]| {
        run(
            &project,
            &[&["kv", "key"], arguments, &["--binding", "KV"]].concat(),
        )
    };
    let put = kv(&[
        "put",
        key,
        "--path",
        "value.bin",
        "--metadata",
        "{\"a\":[1]}",
        "--ttl",
        "3600",
    ])
    .ok();
    assert_eq!(put.text(), "", "{put:?}");
    assert_eq!(kv(&["get", key]).ok().stdout, binary);
    kv(&["put", "other", "text", "--expiration", "4000000000"]).ok();
    assert_eq!(
        kv(&["get", "other"]).ok().text(),
        "text",
        "nothing but the value"
    );
    assert_eq!(kv(&["get", "other", "--text"]).ok().text(), "text\n");

    let listed = kv(&["list"]).ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed[0]["name"], key);
    assert_eq!(listed[0]["metadata"], json!({ "a": [1] }));
    assert!(
        listed[0]["expiration"].as_u64().unwrap() > 1_700_000_000,
        "{listed}"
    );
    assert_eq!(
        listed[1],
        json!({ "name": "other", "expiration": 4_000_000_000_u64 })
    );
    assert_eq!(
        kv(&["list", "--prefix", "a/"])
            .ok()
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    kv(&["delete", key]).ok();
    let said = kv(&["get", key]).refused();
    assert!(said.contains("not found"), "{said}");
    let by_id = run(
        &project,
        &[
            "kv",
            "key",
            "get",
            "other",
            "--namespace-id",
            "my/ Namespace",
        ],
    )
    .ok();
    assert_eq!(by_id.text(), "text");
}

#[test]
fn many_keys_are_put_got_and_deleted_from_files() {
    let project = project(&[]);
    // More than one page of a list, one bulk read, one bulk write.
    let names: Vec<String> = (0..1203).map(|number| format!("key-{number:04}")).collect();
    let pairs: Vec<Value> = names
        .iter()
        .map(|name| json!({ "key": name, "value": format!("value of {name}") }))
        .collect();
    project.write("put.json", Value::from(pairs).to_string());
    project.write(
        "more.json",
        json!([{ "key": "bin", "value": "AP8=", "base64": true, "metadata": 5 }]).to_string(),
    );
    project.write("get.json", json!(names[..150]).to_string());
    project.write(
        "get-named.json",
        json!([{ "name": "key-0001" }, { "name": "nope" }]).to_string(),
    );
    project.write("delete.json", json!(names[1..]).to_string());
    let kv = |kind: &str, arguments: &[&str]| {
        run(
            &project,
            &[&["kv", kind], arguments, &["--binding", "KV"]].concat(),
        )
    };
    kv("bulk", &["put", "put.json"]).ok();
    kv("bulk", &["put", "more.json"]).ok();
    assert_eq!(
        kv("key", &["list"]).ok().json().as_array().unwrap().len(),
        1204
    );
    assert_eq!(kv("key", &["get", "bin"]).ok().stdout, [0, 255]);
    let got = kv("bulk", &["get", "get.json"]).ok().json();
    assert_eq!(got.as_object().unwrap().len(), 150);
    // wrangler: `{ key: { value } }`, and null for what is not there
    assert_eq!(got["key-0149"], json!({ "value": "value of key-0149" }));
    let got = kv("bulk", &["get", "get-named.json"]).ok().json();
    assert_eq!(
        got,
        json!({ "key-0001": { "value": "value of key-0001" }, "nope": { "value": null } })
    );
    kv("bulk", &["delete", "delete.json"]).ok();
    let left = kv("key", &["list"]).ok().json();
    assert_eq!(
        left,
        json!([{ "name": "bin", "metadata": 5 }, { "name": "key-0000" }])
    );
}

#[test]
fn a_large_object_is_put_got_and_deleted() {
    let project = project(&[]);
    let large: Vec<u8> = (0..20_u32 << 20)
        .map(|i| (i ^ (i >> 9)).to_le_bytes()[0])
        .collect();
    project.write("large.bin", &large);
    let object = "it-bucket/dir/large é.bin";
    let r2 = |arguments: &[&str]| run(&project, &[&["r2"], arguments].concat());
    r2(&[
        "object",
        "put",
        object,
        "--file",
        "large.bin",
        "--content-type",
        "text/x-large",
    ])
    .ok();
    let got = r2(&["object", "get", object, "--file", "got.bin"]).ok();
    assert_eq!(got.text(), "");
    assert!(
        std::fs::read(project.path().join("got.bin")).unwrap() == large,
        "the file differs"
    );
    assert!(
        r2(&["object", "get", object, "--pipe"]).ok().stdout == large,
        "the pipe differs"
    );
    let buckets = r2(&["bucket", "list"]).ok();
    assert_eq!(buckets.json()[0]["name"], "it-bucket", "{buckets:?}");

    let mut piped = command(
        project.path(),
        &["r2", "object", "put", "it-bucket/piped", "--pipe"],
    );
    piped.stdin(std::fs::File::open(project.path().join("large.bin")).unwrap());
    assert!(piped.output().unwrap().status.success());
    assert!(
        r2(&["object", "get", "it-bucket/piped", "--pipe"])
            .ok()
            .stdout
            == large,
        "the pipe differs"
    );

    r2(&["object", "delete", object]).ok();
    let said = r2(&["object", "get", object, "--file", "gone.bin"]).refused();
    assert!(said.contains("does not exist"), "{said}");
    assert!(
        !project.path().join("gone.bin").exists(),
        "a file that has nothing to hold is not made"
    );
}
