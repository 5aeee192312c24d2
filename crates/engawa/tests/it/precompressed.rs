//! Precompressed forms under `engawa dev`: made in the background, kept over a restart.

use std::io::Read as _;

use engawa_testkit::{Dev, TestProject, wait_until};

use crate::start;

const PAGE: &str =
    "name = \"p\"\npages_build_output_dir = \"public\"\ncompatibility_date = \"2026-08-01\"\n";

/// The coding and the plain text of an answer.
fn fetch(dev: &Dev, path: &str, accept: &str) -> (String, String) {
    let mut response = dev
        .agent()
        .get(dev.url(path))
        .header("Accept-Encoding", accept)
        .call()
        .expect("an answer");
    let encoding = response
        .headers()
        .get("content-encoding")
        .map_or(String::new(), |value| {
            value.to_str().expect("a text").to_owned()
        });
    let mut body = Vec::new();
    response
        .body_mut()
        .as_reader()
        .read_to_end(&mut body)
        .expect("a body");
    let mut text = String::new();
    let decoded = match &*encoding {
        "gzip" => flate2::read::GzDecoder::new(&*body).read_to_string(&mut text),
        "br" => brotli::Decompressor::new(&*body, 4096).read_to_string(&mut text),
        "zstd" => zstd::Decoder::new(&*body)
            .expect("a frame")
            .read_to_string(&mut text),
        _ => (&*body).read_to_string(&mut text),
    };
    decoded.expect("what was encoded");
    (encoding, text)
}

#[test]
fn static_files_are_compressed_behind_the_back_of_what_is_served() {
    let script = |line: &str| line.repeat(1000);
    let project = TestProject::new(&[
        ("wrangler.toml", PAGE),
        ("public/index.html", "<p>short</p>"),
        ("public/a.js", &script("console.log('one');\n")),
    ]);
    {
        let dev = start(&project);
        for accept in ["gzip", "br", "zstd"] {
            wait_until(&format!("a {accept} form is there"), || {
                let (encoding, text) = fetch(&dev, "/a.js", accept);
                assert_eq!(text, script("console.log('one');\n"));
                encoding == accept
            });
        }
        // An edit is served at once, and compressed later.
        project.write("public/a.js", script("console.log('two');\n"));
        wait_until("the edit is served and compressed", || {
            let (encoding, text) = fetch(&dev, "/a.js", "br");
            encoding == "br" && text == script("console.log('two');\n")
        });
        // A page that a browser goes to gets development's script, so it is sent plain.
        let navigation = dev
            .agent()
            .get(dev.url("/a.js"))
            .header("Accept-Encoding", "br")
            .header("Sec-Fetch-Dest", "document")
            .call()
            .expect("an answer");
        assert!(!navigation.headers().contains_key("content-encoding"));
    }
    // What is stored is found again, not made again: its file is the same one.
    let folder = project.path().join(".engawa");
    let forms = || {
        let found = walk(&folder).into_iter();
        let mut found: Vec<_> = found
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "forms")
            })
            .map(|path| {
                (
                    std::fs::metadata(&path)
                        .expect("a file")
                        .modified()
                        .expect("a time"),
                    path,
                )
            })
            .collect();
        found.sort();
        found
    };
    let before = forms();
    assert_eq!(before.len(), 2);
    let dev = start(&project);
    wait_until("the form is known", || fetch(&dev, "/a.js", "br").0 == "br");
    assert_eq!(forms(), before);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
