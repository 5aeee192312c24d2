use std::fs;
use std::path::Path;

use engawa_model::{ProjectKind, asset_key};

use super::mime::content_type;
use super::{AssetCache, AssetError};

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    folder
}

fn names(folder: &Path, kind: ProjectKind) -> Vec<String> {
    let assets = AssetCache::default().collect(folder, kind, &[]).unwrap();
    let names = assets.manifest.entries.keys();
    names.map(ToString::to_string).collect()
}

#[test]
fn a_key_does_not_depend_on_how_a_file_is_read() {
    let content = vec![7_u8; 200_001];
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.bin"), &content).unwrap();
    let assets = AssetCache::default()
        .collect(folder.path(), ProjectKind::Pages, &[])
        .unwrap();
    assert_eq!(&*assets.files[0].key, asset_key(&content, "bin"));
    assert_eq!(assets.files[0].size_bytes, 200_001);
}

// pages.md 1.8; the package's own answers for odd names
#[test]
fn content_types_are_those_of_mime_3() {
    for (name, expected) in [
        ("index.html", "text/html; charset=utf-8"),
        ("a/x.min.js", "application/javascript"),
        ("x.mjs", "application/javascript"),
        ("x.cjs", "application/node"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("a.xml", "application/xml"),
        ("v.ts", "video/mp2t"),
        ("x.tsx", "application/octet-stream"),
        ("x.md", "text/markdown; charset=utf-8"),
        ("x.yaml", "text/yaml; charset=utf-8"),
        ("f.woff2", "font/woff2"),
        ("x.sql", "application/x-sql"),
        ("A.HTML", "text/html; charset=utf-8"),
        ("noext", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("d/.html", "application/octet-stream"),
        ("d/html", "application/octet-stream"),
        ("html", "text/html; charset=utf-8"),
        ("x.lock", "application/octet-stream"),
    ] {
        let given = content_type(name, ProjectKind::Pages);
        assert_eq!(given.as_deref(), Some(expected), "{name}");
    }
}

// workers-shared: helpers.ts, `getContentType` of the absolute path, by `mime` 4
#[test]
fn content_types_of_workers_are_those_of_mime_4() {
    for (name, expected) in [
        ("index.html", Some("text/html; charset=utf-8")),
        ("noext", None),
        ("html", None),
        ("x.tsx", None),
        ("a/b.json", Some("application/json")),
        ("a.js", Some("text/javascript; charset=utf-8")),
        ("a.jxl", Some("image/jxl")),
        ("a.es", None),
    ] {
        let given = content_type(name, ProjectKind::Workers);
        assert_eq!(given.as_deref(), expected, "{name}");
    }
}

// wrangler: pages/validate.ts; pages.md 1.10
// docs: pages.md 9.7, U3 and U4
#[test]
fn pages_leaves_out_its_own_files() {
    let folder = folder(&[
        "index.html",
        "_headers",
        "_redirects",
        "_routes.json",
        "_worker.js/index.js",
        "functions/a.js",
        ".wrangler/x",
        ".engawa/x",
        ".DS_Store",
        "a/.DS_Store",
        "a/node_modules/m.js",
        ".git/HEAD",
        "sub/_headers",
        "sub/_worker.js",
        "sub/functions/b.js",
        ".x/node_modules/y",
        ".well-known/z",
        ".assetsignore",
        "wrangler.toml",
    ]);
    assert_eq!(
        names(folder.path(), ProjectKind::Pages),
        [
            "/.assetsignore",
            "/.well-known/z",
            "/.x/node_modules/y",
            "/index.html",
            "/sub/_headers",
            "/sub/_worker.js",
            "/sub/functions/b.js",
            "/wrangler.toml",
        ]
    );
}

// workers-shared: helpers.ts, createAssetsIgnoreFunction
#[test]
fn workers_leave_out_what_assetsignore_names() {
    let folder = folder(&[
        "index.html",
        "_headers",
        "_redirects",
        "a/_headers",
        "secret/a.txt",
        "keep.map",
        "b.map",
        "functions/f.js",
    ]);
    fs::write(
        folder.path().join(".assetsignore"),
        "# comment\nsecret\n*.map\n!keep.map\n",
    )
    .unwrap();
    assert_eq!(
        names(folder.path(), ProjectKind::Workers),
        ["/a/_headers", "/functions/f.js", "/index.html", "/keep.map"]
    );
}

// deploy-helpers: assets.ts
#[test]
fn a_worker_is_not_served_as_a_file() {
    let folder = folder(&["_worker.js"]);
    let mut cache = AssetCache::default();
    let result = cache.collect(folder.path(), ProjectKind::Workers, &[]);
    assert!(matches!(result, Err(AssetError::WorkerExposed(_))));
    fs::write(folder.path().join(".assetsignore"), "_worker.js").unwrap();
    assert!(
        cache
            .collect(folder.path(), ProjectKind::Workers, &[])
            .is_ok()
    );
}

#[test]
fn links_are_followed_but_not_in_circles() {
    let folder = folder(&["a/x.txt"]);
    let root = folder.path();
    std::os::unix::fs::symlink(root.join("a"), root.join("b")).unwrap();
    assert_eq!(names(root, ProjectKind::Pages), ["/a/x.txt", "/b/x.txt"]);
    std::os::unix::fs::symlink(root, root.join("a/up")).unwrap();
    let result = AssetCache::default().collect(root, ProjectKind::Pages, &[]);
    assert!(matches!(result, Err(AssetError::Loop(path)) if path.ends_with("a/up")));
}

// docs: pages limits
#[test]
fn a_file_above_25_mib_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.bin");
    let file = fs::File::create(&path).unwrap();
    let mut cache = AssetCache::default();
    file.set_len(25 * 1024 * 1024 + 1).unwrap();
    let error = cache
        .collect(folder.path(), ProjectKind::Pages, &[])
        .unwrap_err();
    assert!(error.to_string().contains("big.bin is 25.0 MiB"), "{error}");
    file.set_len(25 * 1024 * 1024).unwrap();
    assert!(
        cache
            .collect(folder.path(), ProjectKind::Pages, &[])
            .is_ok()
    );
}

// docs: pages limits
#[test]
fn the_file_after_20000_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..20_000 {
        fs::File::create(folder.path().join(n.to_string())).unwrap();
    }
    let mut cache = AssetCache::default();
    let assets = cache
        .collect(folder.path(), ProjectKind::Pages, &[])
        .unwrap();
    assert_eq!(
        (assets.manifest.entries.len(), assets.files.len()),
        (20_000, 1)
    );
    fs::write(folder.path().join("more"), "").unwrap();
    let error = cache
        .collect(folder.path(), ProjectKind::Pages, &[])
        .unwrap_err();
    assert!(matches!(error, AssetError::TooMany { .. }));
    assert!(
        error.to_string().contains("more than 20000 files"),
        "{error}"
    );
}

#[test]
fn a_changed_file_gets_a_new_key_and_an_unchanged_one_is_not_read_again() {
    let folder = folder(&["a.txt", "b.txt"]);
    let mut cache = AssetCache::default();
    let key = |cache: &mut AssetCache, name: &str| {
        let assets = cache
            .collect(folder.path(), ProjectKind::Pages, &[])
            .unwrap();
        assets.manifest.entries[name].key.clone()
    };
    let first = key(&mut cache, "/a.txt");
    fs::write(folder.path().join("a.txt"), "longer than before").unwrap();
    assert_ne!(key(&mut cache, "/a.txt"), first);

    // Same length, time and inode, other bytes: only a file that is read would tell.
    let path = folder.path().join("b.txt");
    let before = key(&mut cache, "/b.txt");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"B").unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(key(&mut cache, "/b.txt"), before);
}

#[test]
fn a_missing_folder_is_named() {
    let result = AssetCache::default().collect(Path::new("/no/such"), ProjectKind::Pages, &[]);
    assert_eq!(
        result.unwrap_err().to_string(),
        "there is no folder /no/such"
    );
}
