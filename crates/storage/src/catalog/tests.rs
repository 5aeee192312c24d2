use std::path::PathBuf;

use bytes::Bytes;
use engawa_model::ErrorKind;

use super::*;
use crate::KvPutOptions;
use crate::tests::Fixture;

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

async fn put(fixture: &Fixture, account: &AccountId, id: &NamespaceId, value: Vec<u8>) {
    let kv = fixture.storage.kv();
    let staged = kv.stage_bytes(account, Bytes::from(value)).await.unwrap();
    kv.put(account, id, "k", staged, KvPutOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn resources_belong_to_their_account_and_outlive_a_restart() {
    let fixture = Fixture::new();
    let catalog = fixture.storage.catalog().clone();
    let (a, b) = (AccountId::new("a"), AccountId::new("b"));
    let namespace = catalog.create_kv_namespace(&a, "cache").await.unwrap();
    assert_eq!(namespace.id.as_str().len(), 32);
    let database = catalog.create_d1_database(&a, "main").await.unwrap();
    assert_eq!(database.id.as_str().len(), 36);
    let files = BucketName::from("files");
    let bucket = catalog
        .create_r2_bucket(&a, &files, "InfrequentAccess")
        .await
        .unwrap();
    catalog.create_kv_namespace(&b, "cache").await.unwrap();

    let fixture = fixture.restart().await;
    let catalog = fixture.storage.catalog();
    let ids: Vec<_> = catalog.list_accounts().await.unwrap();
    assert_eq!(
        ids.iter()
            .map(|account| account.id.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(
        catalog.list_kv_namespaces(&a).await.unwrap(),
        *std::slice::from_ref(&namespace)
    );
    assert_eq!(
        catalog.list_d1_databases(&a).await.unwrap(),
        *std::slice::from_ref(&database)
    );
    assert_eq!(
        catalog.list_r2_buckets(&a).await.unwrap(),
        *std::slice::from_ref(&bucket)
    );
    let found = catalog
        .get_kv_namespace_by_title(&a, "cache")
        .await
        .unwrap();
    assert_eq!(found, Some(namespace.clone()));
    assert_eq!(
        catalog.get_d1_database_by_name(&a, "main").await.unwrap(),
        Some(database.clone())
    );
    assert_eq!(
        catalog.get_kv_namespace(&b, &namespace.id).await.unwrap(),
        None
    );
    assert_eq!(
        catalog.get_d1_database(&b, &database.id).await.unwrap(),
        None
    );
    assert_eq!(catalog.get_r2_bucket(&b, &files).await.unwrap(), None);
    let error = catalog
        .delete_kv_namespace(&b, &namespace.id)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        catalog.get_r2_bucket(&a, &files).await.unwrap(),
        Some(bucket)
    );
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict_only_where_it_is_asked_for() {
    let fixture = Fixture::new();
    let catalog = fixture.storage.catalog();
    let account = AccountId::local();
    let first = catalog.create_kv_namespace(&account, "t").await.unwrap();
    let other = catalog.create_kv_namespace(&account, "u").await.unwrap();
    let conflicts = [
        catalog.create_kv_namespace(&account, "t").await.map(|_| ()),
        catalog
            .rename_kv_namespace(&account, &other.id, "t")
            .await
            .map(|_| ()),
    ];
    for conflict in conflicts {
        let error = conflict.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(
            error.message(),
            "a namespace with this account ID and title already exists"
        );
    }
    let renamed = catalog
        .rename_kv_namespace(&account, &first.id, "t")
        .await
        .unwrap();
    assert_eq!(renamed.title, "t");
    catalog
        .rename_kv_namespace(&account, &other.id, "v")
        .await
        .unwrap();
    catalog.create_d1_database(&account, "d").await.unwrap();
    let error = catalog.create_d1_database(&account, "d").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let bucket = BucketName::from("b");
    catalog.ensure_r2_bucket(&account, &bucket).await.unwrap();
    catalog.ensure_r2_bucket(&account, &bucket).await.unwrap();
    let error = catalog
        .create_r2_bucket(&account, &bucket, "Standard")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    catalog
        .set_r2_storage_class(&account, &bucket, "InfrequentAccess")
        .await
        .unwrap();
    let found = catalog
        .get_r2_bucket(&account, &bucket)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.storage_class, "InfrequentAccess");
    // A preview database carries the name of the production one.
    for id in ["one", "two", "one"] {
        catalog
            .ensure_d1_database(&account, &id.into(), "same")
            .await
            .unwrap();
    }
    assert_eq!(catalog.list_d1_databases(&account).await.unwrap().len(), 3);
    // What exists keeps its name.
    catalog
        .ensure_kv_namespace(&account, &first.id, "other")
        .await
        .unwrap();
    let found = catalog.get_kv_namespace(&account, &first.id).await.unwrap();
    assert_eq!(found.unwrap().title, "t");
}

#[tokio::test]
async fn a_deleted_namespace_takes_its_keys_and_files_with_it() {
    let fixture = Fixture::new();
    let catalog = fixture.storage.catalog();
    let (account, id) = (AccountId::local(), NamespaceId::from("my/ ns"));
    let folder = fixture.data_dir().join("accounts");
    for value in [vec![1; 10], vec![1; 20_000]] {
        catalog
            .ensure_kv_namespace(&account, &id, "t")
            .await
            .unwrap();
        put(&fixture, &account, &id, value).await;
        assert!(!files(&folder).is_empty());
        catalog.delete_kv_namespace(&account, &id).await.unwrap();
        assert_eq!(files(&folder), Vec::<PathBuf>::new());
        assert_eq!(catalog.get_kv_namespace(&account, &id).await.unwrap(), None);
    }
    // Made again it is empty, in memory too.
    catalog
        .ensure_kv_namespace(&account, &id, "t")
        .await
        .unwrap();
    let got = fixture.storage.kv().get(&account, &id, "k").await.unwrap();
    assert!(got.value.is_none());
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_off_is_finished_at_the_next_start() {
    let fixture = Fixture::new();
    let (account, id) = (AccountId::local(), NamespaceId::from("ns"));
    let catalog = fixture.storage.catalog();
    catalog
        .ensure_kv_namespace(&account, &id, "t")
        .await
        .unwrap();
    put(&fixture, &account, &id, vec![1; 20_000]).await;
    // What the first half of a deletion leaves.
    catalog
        .inner
        .transaction(|db| {
            db.execute_batch(
                "DELETE FROM kv_namespaces;
                 INSERT INTO doomed VALUES ('local', 'kv', 'ns');",
            )?;
            Ok(())
        })
        .unwrap();
    let error = catalog
        .ensure_kv_namespace(&account, &id, "t")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("still being deleted"), "{error}");
    let fixture = fixture.restart().await;
    assert_eq!(
        files(&fixture.data_dir().join("accounts")),
        Vec::<PathBuf>::new()
    );
    let catalog = fixture.storage.catalog();
    catalog
        .ensure_kv_namespace(&account, &id, "t")
        .await
        .unwrap();
    let got = fixture.storage.kv().get(&account, &id, "k").await.unwrap();
    assert!(got.value.is_none());
}

#[tokio::test]
async fn stamps_grow_across_starts_of_a_folder_although_the_clock_jumps_back() {
    let mut fixture = Fixture::new();
    let mut last = fixture.storage.core.stamps.next().unwrap();
    for _ in 0..3 {
        fixture
            .now_ms
            .fetch_sub(3_600_000, std::sync::atomic::Ordering::SeqCst);
        fixture = fixture.restart().await;
        let next = fixture.storage.core.stamps.next().unwrap();
        assert!(next > last);
        last = next;
    }
}
