//! wrangler's own commands for a bucket's rules, against our REST API.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use engawa_api::{Access, Api};
use engawa_model::{AccountId, BucketName};
use engawa_storage::{Owner, Storage, StorageOptions};
use engawa_testkit::output;
use hyper_util::rt::TokioIo;

use engawa_testkit::oracle::packages;

/// The API on a port of the loopback, until the runtime ends.
async fn listen(api: Api) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let access = Arc::new(Access {
        account: AccountId::local(),
        creates_missing: false,
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (api, access) = (api.clone(), access.clone());
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let (api, access) = (api.clone(), access.clone());
                    async move { Ok::<_, std::convert::Infallible>(api.handle(&access, request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

/// Runs `wrangler r2 bucket …` and gives what it said.
fn wrangler(packages: &Path, home: &Path, api: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(packages.join("node/bin/node"));
    command
        .arg(packages.join("wrangler/bin/wrangler.js"))
        .args(["r2", "bucket"])
        .args(arguments)
        .current_dir(home)
        // Nothing of the caller's reaches it: no token, no proxy, no settings.
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("CI", "1")
        .env("NO_COLOR", "1")
        .env("WRANGLER_SEND_METRICS", "false")
        .env("CLOUDFLARE_API_BASE_URL", format!("http://{api}/client/v4"))
        .env("CLOUDFLARE_API_TOKEN", "a-token")
        .env("CLOUDFLARE_ACCOUNT_ID", "local")
        .stdin(Stdio::null());
    let (success, stdout, stderr) = output(&mut command);
    (success, stdout + &stderr)
}

// wrangler: packages/wrangler/src/r2/{lifecycle,cors}.ts; control-plane-api.md 8.1
#[test]
fn wrangler_lists_adds_and_removes_the_rules_of_a_bucket() {
    let Some(packages) = packages() else {
        eprintln!("wrangler is not installed (cargo xtask test installs it): nothing was run");
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (data, home) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let owner = Owner::acquire(data.path(), "a test").expect("nobody else has it");
    let storage = Storage::open(&owner, StorageOptions::new(data.path())).expect("it opens");
    let bucket = BucketName::from("media");
    let (account, catalog) = (AccountId::local(), storage.catalog());
    runtime
        .block_on(catalog.ensure_r2_bucket(&account, &bucket))
        .expect("a bucket");
    let api = runtime.block_on(listen(Api::new(storage.clone())));
    let run = |arguments: &[&str]| {
        let (success, said) = wrangler(&packages, home.path(), api, arguments);
        assert!(success, "{arguments:?}: {said}");
        said
    };

    run(&[
        "lifecycle",
        "add",
        "media",
        "tidy",
        "tmp/",
        "--expire-days",
        "3",
        "--force",
    ]);
    let rules = runtime.block_on(catalog.get_r2_lifecycle(&account, &bucket));
    let rules = rules.expect("a read").expect("the bucket");
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[1].id, "tidy");
    assert!(rules[1].enabled && rules[1].delete_objects_transition.is_some());
    let said = run(&["lifecycle", "list", "media"]);
    for part in [
        "Default Multipart Abort Rule",
        "Abort incomplete multipart uploads after 7 days",
        "tmp/",
        "Expire objects after 3 days",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    std::fs::write(
        home.path().join("cors.json"),
        r#"{"rules":[{"allowed":{"origins":["https://a.example"],"methods":["GET"]},"maxAgeSeconds":60}]}"#,
    )
    .expect("a file");
    run(&["cors", "set", "media", "--file", "cors.json", "--force"]);
    let rules = runtime.block_on(catalog.get_r2_cors(&account, &bucket));
    let rules = rules.expect("a read").expect("the bucket");
    assert_eq!(rules[0].allowed.origins, ["https://a.example"]);
    // Each start of wrangler takes seconds.
    if std::env::var_os("ENGAWA_TEST_FULL").is_some() {
        let said = run(&["cors", "list", "media"]);
        assert!(said.contains("https://a.example"), "{said}");
        run(&["lifecycle", "remove", "media", "--name", "tidy"]);
        let rules = runtime.block_on(catalog.get_r2_lifecycle(&account, &bucket));
        assert_eq!(rules.expect("a read").expect("the bucket").len(), 1);
        run(&["cors", "delete", "media", "--force"]);
        let (success, said) = wrangler(&packages, home.path(), api, &["cors", "list", "media"]);
        assert!(
            !success && said.contains("The CORS configuration does not exist. [code: 10059]"),
            "{said}"
        );
    }
}
