//! What `_redirects` and `_headers` cost a request: 2,000 static and 100 dynamic redirects
//! with 100 header rules must stay below 10 µs. `cargo bench -p engawa-gateway`.

#![expect(missing_docs, reason = "criterion's macros make items without any")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by it")]

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use engawa_gateway::{AssetFiles, Body, FileCache, Place, Site, SiteOptions};
use engawa_model::{
    AccountId, AssetEntry, AssetManifest, DeploymentId, Encoding, Environment, ProjectKind,
    ProjectName, Version,
};
use http::Request;

/// Nothing is read: only HEAD is asked.
struct NoFiles;

impl AssetFiles for NoFiles {
    fn open(&self, _key: &str) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_encoded(&self, _key: &str, _encoding: Encoding) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn site(headers_file: Option<String>, redirects_file: Option<String>) -> Site {
    let mut assets = AssetManifest::default();
    for path in ["/index.html", "/docs/guide/page.html"] {
        let entry = AssetEntry {
            key: "0".repeat(32).into(),
            content_type: Some("text/html; charset=utf-8".into()),
            size_bytes: 1000,
        };
        assets.entries.insert(path.into(), entry);
    }
    let site = Site::new(SiteOptions {
        version: Arc::new(Version {
            deployment: DeploymentId::new("0a1b2c3d"),
            account: AccountId::local(),
            project: ProjectName::new("rules"),
            kind: ProjectKind::Pages,
            environment: Environment::Production,
            worker: None,
            bindings: Vec::new(),
            assets,
            assets_config: None,
            routes: None,
            headers_file,
            redirects_file,
        }),
        assets: Arc::new(NoFiles),
        worker: None,
        place: Place::default(),
        cache: FileCache::default(),
    });
    assert!(site.warnings().is_empty(), "{:?}", site.warnings());
    site
}

/// Rules of every shape, near the path that is asked for, of which ten headers apply.
fn rules() -> (String, String) {
    let mut redirects = String::new();
    for number in 0..2000 {
        writeln!(
            redirects,
            "/old/section/page-{number} /docs/guide/{number} 301"
        )
        .unwrap();
    }
    for number in 0..50 {
        writeln!(redirects, "/docs/guide/{number}/* /new/:splat 301").unwrap();
        writeln!(redirects, "/docs/:name/part-{number} /new/:name/{number}").unwrap();
    }
    let mut headers = String::new();
    for number in 0..30 {
        writeln!(headers, "/docs/guide/page-{number}\n  X-Exact: {number}").unwrap();
        writeln!(headers, "/docs/:name/page-{number}\n  X-Name: :name").unwrap();
        writeln!(
            headers,
            "https://:host.example.com/{number}/*\n  X-Host: :host"
        )
        .unwrap();
    }
    for number in 0..10 {
        writeln!(
            headers,
            "/{}*\n  X-All-{number}: :splat",
            &"docs/guide/"[..number]
        )
        .unwrap();
    }
    (headers, redirects)
}

fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (headers, redirects) = rules();
    let mut group = criterion.benchmark_group("a request of a static file");
    for (name, site) in [
        ("without rules", site(None, None)),
        (
            "2,100 redirects, 100 headers",
            site(Some(headers), Some(redirects)),
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let request = Request::head("http://a.example.com/docs/guide/page")
                    .body(Body::empty())
                    .unwrap();
                let answer = runtime.block_on(site.assets_fetch(black_box(request)));
                assert_eq!(answer.status(), 200);
                answer
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
