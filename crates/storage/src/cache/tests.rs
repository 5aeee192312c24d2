use std::sync::atomic::{AtomicU64, Ordering};

use engawa_model::Clock;

use super::*;
use crate::{Owner, Storage, StorageOptions};

struct World {
    data: tempfile::TempDir,
    now_ms: Arc<AtomicU64>,
    limits: CacheLimits,
}

impl World {
    fn new(limits: CacheLimits) -> Self {
        Self {
            data: tempfile::tempdir().unwrap(),
            now_ms: Arc::new(AtomicU64::new(1_800_000_000_000)),
            limits,
        }
    }

    fn open(&self) -> (Owner, Storage) {
        let owner = Owner::acquire(self.data.path(), "a test").unwrap();
        let now_ms = self.now_ms.clone();
        let options = StorageOptions {
            clock: Clock::from_fn(move || now_ms.load(Ordering::SeqCst)),
            cache: self.limits.clone(),
            ..StorageOptions::new(self.data.path())
        };
        let storage = Storage::open(&owner, options).unwrap();
        (owner, storage)
    }

    fn later_ms(&self, ms: u64) -> u64 {
        self.now_ms.load(Ordering::SeqCst) + ms
    }

    /// All files of the cache, and of uploads.
    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push(path);
                }
            }
        }
        let mut files = Vec::new();
        for account in fs::read_dir(self.data.path().join("accounts")).unwrap() {
            let account = account.unwrap().path();
            walk(&account.join("cache"), &mut files);
            walk(&account.join("blobs"), &mut files);
        }
        files
    }

    async fn put(&self, cache: &Cache, project: &str, key: &str, body: Vec<u8>) -> bool {
        let expires_ms = self.later_ms(60_000);
        let (account, project) = (AccountId::local(), ProjectName::from(project));
        let head = format!("head of {key}");
        let mut entry = cache
            .begin(
                &account,
                &project,
                key.as_bytes(),
                head.as_bytes(),
                expires_ms,
            )
            .await
            .unwrap();
        for chunk in body.chunks(300_000) {
            entry.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        assert_eq!(entry.len_bytes(), body.len() as u64);
        cache.put(entry).await.unwrap()
    }
}

async fn get(cache: &Cache, project: &str, key: &str) -> Option<CacheEntry> {
    let (account, project) = (AccountId::local(), ProjectName::from(project));
    let found = cache.get(&account, &project, key.as_bytes()).await;
    found.unwrap()
}

async fn text(cache: &Cache, project: &str, key: &str) -> Option<Vec<u8>> {
    let entry = get(cache, project, key).await?;
    assert_eq!(entry.head(), format!("head of {key}").as_bytes());
    let all = entry.body(0..entry.len_bytes());
    Some(all.collect(u64::MAX).await.unwrap().to_vec())
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[tokio::test]
async fn entries_survive_a_restart_and_are_separate_for_each_project_and_account() {
    let world = World::new(CacheLimits::default());
    let (owner, storage) = world.open();
    world
        .put(storage.cache(), "a", "key", b"of a".to_vec())
        .await;
    world
        .put(storage.cache(), "b", "key", b"of b".to_vec())
        .await;
    let stranger = AccountId::new("stranger");
    let other = storage.cache().get(&stranger, &"a".into(), b"key").await;
    assert!(other.unwrap().is_none());
    storage.close().await;
    drop(owner);
    let (_owner, storage) = world.open();
    let cache = storage.cache();
    assert_eq!(text(cache, "a", "key").await.unwrap(), b"of a");
    assert_eq!(text(cache, "b", "key").await.unwrap(), b"of b");
    assert!(!cache.delete(&stranger, &"a".into(), b"key").await.unwrap());
    let deleted = cache.delete(&AccountId::local(), &"a".into(), b"key").await;
    assert!(deleted.unwrap());
    let again = cache.delete(&AccountId::local(), &"a".into(), b"key").await;
    assert!(!again.unwrap());
    assert_eq!(text(cache, "b", "key").await.unwrap(), b"of b");
}

#[tokio::test]
async fn any_range_of_a_large_entry_can_be_read_also_while_it_is_replaced() {
    let world = World::new(CacheLimits::default());
    let (_owner, storage) = world.open();
    let cache = storage.cache();
    let body = bytes(2_500_000);
    world.put(cache, "a", "large", body.clone()).await;
    let entry = get(cache, "a", "large").await.unwrap();
    world.put(cache, "a", "large", b"small".to_vec()).await;
    let len = body.len() as u64;
    for range in [
        0..len,
        0..1,
        1_048_570..1_048_590,
        len - 1..len,
        7..7,
        len - 3..len + 10,
    ] {
        let read = entry.body(range.clone()).collect(u64::MAX).await.unwrap();
        let (from, to) = (to_usize(range.start), to_usize(range.end.min(len)));
        assert!(read == body[from..to], "{range:?}");
    }
    assert_eq!(text(cache, "a", "large").await.unwrap(), b"small");
    assert_eq!(world.files().len(), 1);
}

#[tokio::test]
async fn an_expired_entry_is_gone_with_its_file() {
    let world = World::new(CacheLimits::default());
    let (owner, storage) = world.open();
    for key in ["read", "deleted", "neither"] {
        world.put(storage.cache(), "a", key, bytes(10)).await;
    }
    world.now_ms.fetch_add(59_999, Ordering::SeqCst);
    assert!(get(storage.cache(), "a", "read").await.is_some());
    world.now_ms.fetch_add(1, Ordering::SeqCst);
    assert!(get(storage.cache(), "a", "read").await.is_none());
    let deleted = storage
        .cache()
        .delete(&AccountId::local(), &"a".into(), b"deleted")
        .await;
    assert!(!deleted.unwrap(), "it was there no more");
    assert_eq!(world.files().len(), 1);
    // What nobody asks for goes at the next start, once the cache is used.
    storage.close().await;
    drop(owner);
    let (_owner, storage) = world.open();
    assert!(get(storage.cache(), "b", "other").await.is_none());
    assert_eq!(world.files(), [] as [PathBuf; 0]);
    assert_eq!(storage.cache().len_bytes().await.unwrap(), 0);
}

#[tokio::test]
async fn each_project_has_its_bound_and_the_least_recently_used_goes() {
    let world = World::new(CacheLimits {
        bytes: 1_000_000,
        bytes_per_project: 300_000,
        entry_bytes: 250_000,
    });
    let (_owner, storage) = world.open();
    let cache = storage.cache();
    world.put(cache, "quiet", "key", bytes(90_000)).await;
    for key in ["1", "2", "3"] {
        assert!(world.put(cache, "loud", key, bytes(90_000)).await);
    }
    assert!(get(cache, "loud", "1").await.is_some());
    world.put(cache, "loud", "4", bytes(90_000)).await;
    assert!(get(cache, "loud", "2").await.is_none());
    for (project, key) in [
        ("loud", "1"),
        ("loud", "3"),
        ("loud", "4"),
        ("quiet", "key"),
    ] {
        assert!(get(cache, project, key).await.is_some(), "{project} {key}");
    }
    assert_eq!(world.files().len(), 4);
}

#[tokio::test]
async fn all_projects_together_have_their_bound_also_after_a_restart() {
    let mut world = World::new(CacheLimits {
        bytes: 400_000,
        bytes_per_project: 300_000,
        entry_bytes: 250_000,
    });
    let (owner, storage) = world.open();
    for number in 0..20 {
        let project = format!("p{number}");
        world
            .put(storage.cache(), &project, "key", bytes(90_000))
            .await;
        assert!(storage.cache().len_bytes().await.unwrap() <= 400_000);
    }
    assert_eq!(world.files().len(), 4);
    assert!(get(storage.cache(), "p19", "key").await.is_some());
    storage.close().await;
    drop(owner);
    world.limits.bytes = 200_000;
    let (_owner, storage) = world.open();
    assert!(storage.cache().len_bytes().await.unwrap() <= 200_000);
    assert_eq!(world.files().len(), 2);
    // Many small ones are bounded in number.
    for number in 0..50 {
        let key = format!("small {number}");
        world.put(storage.cache(), "small", &key, bytes(1)).await;
    }
    assert!(world.files().len() <= 200_000 / 16_384);
}

#[tokio::test]
async fn an_entry_that_is_too_large_is_not_kept_and_the_earlier_one_is_gone() {
    let world = World::new(CacheLimits {
        entry_bytes: 100_000,
        ..CacheLimits::default()
    });
    let (_owner, storage) = world.open();
    let cache = storage.cache();
    assert!(world.put(cache, "a", "key", bytes(10)).await);
    assert!(!world.put(cache, "a", "key", bytes(2_000_000)).await);
    assert!(get(cache, "a", "key").await.is_none());
    assert_eq!(world.files(), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_file_that_is_not_whole_is_a_miss_and_goes() {
    let world = World::new(CacheLimits::default());
    let (owner, storage) = world.open();
    let damages: [fn(&mut Vec<u8>); 4] = [
        |file| file.truncate(file.len() / 2),
        |file| file.fill(0),
        |file| file.clear(),
        |file| file[20] ^= 1,
    ];
    for damage in damages {
        world.put(storage.cache(), "a", "key", bytes(50_000)).await;
        let [path] = &world.files()[..] else {
            panic!("one file")
        };
        let mut file = fs::read(path).unwrap();
        damage(&mut file);
        fs::write(path, file).unwrap();
        assert!(get(storage.cache(), "a", "key").await.is_none());
        assert_eq!(world.files(), [] as [PathBuf; 0]);
    }
    // An upload that a crash cut off, and a file that is none of ours.
    world.put(storage.cache(), "a", "key", bytes(10)).await;
    let path = world.files().remove(0);
    fs::write(path.with_file_name("strange"), b"").unwrap();
    let uploads = world.data.path().join("accounts/local/blobs/tmp");
    fs::write(uploads.join("half"), b"half").unwrap();
    storage.close().await;
    drop(owner);
    let (_owner, storage) = world.open();
    assert!(get(storage.cache(), "a", "key").await.is_some());
    assert_eq!(world.files(), [path]);
}
