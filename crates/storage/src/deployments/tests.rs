//! What is kept of a version, and what goes with the last deployment that had it.

use engawa_model::{AssetEntry, Module};

use super::*;
use crate::{Owner, Storage, StorageOptions};

fn open(data: &tempfile::TempDir) -> (Owner, Storage) {
    let owner = Owner::acquire(data.path(), "a test").unwrap();
    let storage = Storage::open(&owner, StorageOptions::new(data.path())).unwrap();
    (owner, storage)
}

/// A version with a page, code and every kind of binding.
fn version(id: &str, page: &'static str, code: &'static str) -> Version {
    let binding = |name: &str, kind| Binding {
        name: name.to_owned(),
        kind,
    };
    let mut assets = AssetManifest::default();
    let entry = AssetEntry {
        key: asset_key(page.as_bytes(), "html").into(),
        content_type: Some("text/html".into()),
        size_bytes: page.len() as u64,
    };
    assets.entries.insert("/index.html".into(), entry);
    Version {
        deployment: id.into(),
        account: AccountId::local(),
        project: "site".into(),
        kind: ProjectKind::Pages,
        environment: Environment::Preview,
        worker: Some(WorkerCode {
            modules: vec![Module {
                name: "worker.js".into(),
                kind: ModuleKind::EsModule,
                body: Bytes::from_static(code.as_bytes()),
                source_map: Some(Bytes::from(format!("map of {code}"))),
            }],
            compatibility_date: "2026-08-01".into(),
            effective_compatibility_date: "2026-07-01".into(),
            compatibility_flags: vec!["nodejs_compat".into()],
        }),
        bindings: vec![
            binding("TEXT", BindingKind::PlainText("text".into())),
            binding("JSON", BindingKind::Json(serde_json::json!({ "a": [1] }))),
            binding("SECRET", BindingKind::SecretText(Secret::new("s3cr3t"))),
            binding("KV", BindingKind::KvNamespace("kv".into())),
            binding("DB", BindingKind::D1("db".into())),
            binding("BUCKET", BindingKind::R2Bucket("bucket".into())),
            binding("AE", BindingKind::AnalyticsEngine("ae".into())),
            binding("OTHER", BindingKind::Service("other".into())),
            binding("FILES", BindingKind::Assets),
        ],
        assets,
        assets_config: None,
        routes: None,
        headers_file: Some("/*\n  X: 1".into()),
        redirects_file: None,
    }
}

async fn deploy(storage: &Storage, version: &Version, page: &'static str) {
    let asset = NewAsset {
        key: asset_key(page.as_bytes(), "html"),
        extensions: vec!["html".into()],
        bytes: Bytes::from_static(page.as_bytes()),
    };
    let (account, project) = (&version.account, &version.project);
    storage.assets().put(account, project, asset).await.unwrap();
    storage.deployments().record(version).await.unwrap();
}

#[tokio::test]
async fn a_deployment_is_kept_whole_but_for_its_secrets() {
    let data = tempfile::tempdir().unwrap();
    let (owner, storage) = open(&data);
    let deployed = version("d1", "page", "code");
    deploy(&storage, &deployed, "page").await;
    storage.close().await;
    drop(owner);
    for file in ["catalog.sqlite", "catalog.sqlite-wal"] {
        let bytes = std::fs::read(data.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(6).any(|window| window == b"s3cr3t"));
    }
    let (_owner, storage) = open(&data);
    let account = AccountId::local();
    let found = storage.deployments().get(&account, "d1").await.unwrap();
    let (summary, manifest) = found.unwrap();
    let listed = storage.deployments().list(&account).await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&summary));
    let mut expected = deployed;
    expected.bindings[2].kind = BindingKind::SecretText(Secret::new(""));
    for module in &mut expected.worker.as_mut().unwrap().modules {
        module.body = Bytes::new();
        module.source_map = None;
    }
    assert_eq!(manifest.outline(account, summary), expected);
    let stranger = AccountId::new("stranger");
    assert!(
        storage
            .deployments()
            .get(&stranger, "d1")
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(storage.deployments().list(&stranger).await.unwrap(), []);
}

#[tokio::test]
async fn old_deployments_go_with_the_files_that_only_they_had() {
    let data = tempfile::tempdir().unwrap();
    let (_owner, storage) = open(&data);
    let account = AccountId::local();
    let all = [
        ("d1", "page 1", "code 1"),
        ("d2", "page", "code 2"),
        ("d3", "page", "code"),
        ("d4", "page 4", "code"),
    ];
    for (id, page, code) in all {
        deploy(&storage, &version(id, page, code), page).await;
    }
    let mut elsewhere = version("e1", "page 1", "code 1");
    elsewhere.project = "another".into();
    deploy(&storage, &elsewhere, "page 1").await;

    let site = ProjectName::from("site");
    storage
        .deployments()
        .keep_last(&account, &site, 2)
        .await
        .unwrap();
    let listed = storage.deployments().list(&account).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|summary| summary.id.as_str()).collect();
    assert_eq!(ids, ["e1", "d4", "d3"]);
    let has = |project: &ProjectName, bytes: &str, extension: &str| {
        let key = asset_key(bytes.as_bytes(), extension);
        storage.assets().open(&account, project, &key).is_ok()
    };
    for (text, extension, is_kept) in [
        ("page 1", "html", false),
        ("page", "html", true),
        ("page 4", "html", true),
        ("code 1", "", false),
        ("map of code 1", "", false),
        ("code 2", "", false),
        ("code", "", true),
        ("map of code", "", true),
    ] {
        assert_eq!(has(&site, text, extension), is_kept, "{text}");
    }
    assert!(has(&"another".into(), "page 1", "html"));
    assert!(has(&"another".into(), "code 1", ""));
}
