//! The journal and Time Travel: histories, crashes, space, damage.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::Stamp;
use crate::d1::journal::JournalLimits;

/// Segments of some commits each, and checkpoints now and then.
fn small() -> D1Limits {
    D1Limits {
        checkpoint_pages: 20,
        journal: JournalLimits {
            segment_bytes: 200_000,
            ..JournalLimits::default()
        },
        ..D1Limits::default()
    }
}

fn world(limits: D1Limits) -> World {
    let world = World::with(limits, FilesOptions::default(), None);
    world.set_clock(1_700_000_000_000);
    world
}

impl World {
    /// Moves the clock of stamps on.
    fn set_clock(&self, ms: u64) {
        let stamp = Stamp::last_of_ms(ms - 1).to_sql().cast_unsigned() + 1;
        self.stamps.fetch_max(stamp, Ordering::SeqCst);
    }

    fn clock(&self) -> u64 {
        let stamp = self.stamps.load(Ordering::SeqCst);
        Stamp::from_sql(stamp.cast_signed()).ms()
    }

    fn journal(&self) -> PathBuf {
        Layout::new(self.folder.path().to_owned())
            .journal_dir(&self.account, self.database.as_str())
    }

    /// Executes, and gives the bookmark.
    async fn write(&self, sql: &str) -> String {
        let answer = self.query(vec![D1Statement::new(sql)]).await;
        answer
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .bookmark
    }

    async fn bookmark(&self, at_ms: Option<u64>) -> Result<String, Error> {
        let found = self.d1.bookmark(&self.account, &self.database, at_ms);
        found.await.map(|metered| metered.value)
    }

    async fn restore(&self, moment: D1Moment) -> Result<D1Restore, Error> {
        let done = self.d1.restore(&self.account, &self.database, moment);
        done.await.map(|metered| metered.value)
    }

    async fn restore_to(&self, bookmark: &str) -> D1Restore {
        let moment = D1Moment::Bookmark(bookmark.to_owned());
        let done = self.restore(moment).await;
        done.unwrap_or_else(|error| panic!("{bookmark}: {error}"))
    }

    /// Everything that is in the database.
    async fn content(&self) -> Value {
        let schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY name";
        let schema = self.rows(schema).await;
        let mut all = vec![schema.clone()];
        for object in schema.as_array().unwrap() {
            if object[0] == "table" {
                let name = object[1].as_str().unwrap();
                all.push(
                    self.rows(&format!("SELECT rowid, * FROM {name} ORDER BY 1"))
                        .await,
                );
            }
        }
        all.into()
    }

    /// The folder as a kill at this moment leaves it, opened.
    fn after_a_kill(&self, limits: D1Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), folder.path());
        let stamps = Arc::new(AtomicU64::new(self.stamps.load(Ordering::SeqCst) + 1000));
        Self::over(
            Arc::new(folder),
            stamps,
            limits,
            FilesOptions::default(),
            None,
        )
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else if !entry.file_name().to_str().unwrap().ends_with("-shm") {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    paths.sort();
    paths
}

fn bytes(folder: &Path) -> u64 {
    let paths = files(folder, "").into_iter();
    // A snapshot gets its name at some moment.
    paths
        .map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .sum()
}

/// A small generator that a seed repeats.
struct Random(u64);

impl Random {
    /// From `ENGAWA_TEST_SEED`, or anew; it is printed.
    fn new() -> Self {
        let seed = std::env::var("ENGAWA_TEST_SEED").map_or_else(
            |_| {
                let state = std::collections::hash_map::RandomState::new();
                state.build_hasher().finish()
            },
            |text| text.parse().unwrap(),
        );
        eprintln!("ENGAWA_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// A change of one of four tables. Some are large, some change definitions.
    fn change(&mut self) -> String {
        let table = format!("t{}", self.below(4));
        let (a, b) = (self.below(100), self.below(100));
        match self.below(12) {
            0 => format!("DROP TABLE IF EXISTS {table}"),
            1 => format!("CREATE INDEX IF NOT EXISTS {table}_b ON {table} (b)"),
            2 => format!("DELETE FROM {table} WHERE a > {a}"),
            3 => format!(
                "WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n WHERE x < 60) \
                 INSERT INTO {table} SELECT x, hex(zeroblob({a})), zeroblob({b} * 10) FROM n"
            ),
            4..=6 => format!("UPDATE {table} SET b = b || '{a}' WHERE a % 7 = {b} % 7"),
            _ => format!("INSERT INTO {table} VALUES ({a}, 'text {b}', zeroblob({a} * 20))"),
        }
    }
}

/// What a database held after a commit.
struct Moment {
    bookmark: String,
    at_ms: u64,
    content: Value,
}

// Issue 11, acceptance 4: "Time Travel to 20 random moments of a recorded history, contents
// equal to the history".
#[tokio::test]
async fn any_moment_of_a_history_can_be_restored_and_every_restore_undone() {
    let mut random = Random::new();
    let mut world = world(small());
    let mut history = Vec::new();
    let steps = if std::env::var_os("ENGAWA_TEST_FULL").is_some() {
        600
    } else {
        80
    };
    for step in 0..steps {
        world.set_clock(world.clock() + 1 + random.below(90_000));
        let mut statements: Vec<_> = (0..4)
            .map(|table| format!("CREATE TABLE IF NOT EXISTS t{table} (a, b TEXT, c BLOB)"))
            .map(D1Statement::new)
            .collect();
        statements.push(D1Statement::new(random.change()));
        let bookmark = world.query(statements).await.unwrap().bookmark;
        history.push(Moment {
            bookmark,
            at_ms: world.clock(),
            content: world.content().await,
        });
        if step % 40 == 39 {
            world = world.reopen_with(small());
        }
    }
    world.d1.files.settle();
    assert!(files(&world.journal(), ".journal").len() > 2);
    for _ in 0..20 {
        let chosen = usize::try_from(random.below(history.len() as u64)).unwrap();
        let moment = &history[chosen];
        world.set_clock(world.clock() + 1000);
        let before = world.content().await;
        let target = if random.below(2) == 0 {
            D1Moment::Bookmark(moment.bookmark.clone())
        } else {
            // docs: d1 time travel: a timestamp gives the same bookmark every time.
            let at = Some(moment.at_ms);
            let bookmark = world.bookmark(at).await.unwrap();
            assert_eq!(bookmark, world.bookmark(at).await.unwrap());
            D1Moment::TimestampMs(moment.at_ms)
        };
        let done = world.restore(target).await.unwrap();
        assert_eq!(world.content().await, moment.content, "moment {chosen}");
        if random.below(2) == 0 {
            let undone = world.restore_to(&done.previous_bookmark).await;
            assert_eq!(undone.bookmark, done.previous_bookmark);
            assert_eq!(world.content().await, before);
        }
        if random.below(4) == 0 {
            world = world.reopen_with(small());
        }
    }
}

// DESIGN section 3: "The journal follows the WAL".
#[tokio::test]
async fn a_kill_at_any_moment_loses_no_history() {
    let mut random = Random::new();
    // Copies are taken in the middle of a commit: written, and neither synced nor journaled.
    let world = Arc::new(Mutex::new(None::<(PathBuf, Vec<TempDir>)>));
    let copies = Arc::clone(&world);
    let hook: file::SyncHook = Arc::new(move || {
        if let Some((folder, taken)) = copies.lock().unwrap().as_mut() {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(folder, copy.path());
            taken.push(copy);
        }
        true
    });
    let running = World::with(small(), FilesOptions::default(), Some(hook));
    running.set_clock(1_700_000_000_000);
    let mut history = vec![(running.write("CREATE TABLE t (n, filler)").await, 0)];
    *world.lock().unwrap() = Some((running.folder.path().to_owned(), Vec::new()));
    for n in 1..60_u64 {
        let sql = format!(
            "INSERT INTO t VALUES ({n}, zeroblob({}))",
            random.below(20_000)
        );
        history.push((running.write(&sql).await, n));
        if n % 10 == 0 {
            // A restore is killed too.
            let chosen = usize::try_from(random.below(history.len() as u64)).unwrap();
            let (target, last) = history[chosen].clone();
            running.restore_to(&target).await;
            history.push((running.bookmark(None).await.unwrap(), last));
        }
    }
    let (_, copies) = world.lock().unwrap().take().unwrap();
    assert!(copies.len() > 50);
    for (index, copy) in copies.into_iter().enumerate() {
        if index % 5 != 0 {
            continue;
        }
        // At copy `index` all before are acknowledged, and this one is found in the log.
        let stamps = Arc::new(AtomicU64::new(running.stamps.load(Ordering::SeqCst) + 1000));
        let copy = World::over(
            Arc::new(copy),
            stamps,
            small(),
            FilesOptions::default(),
            None,
        );
        let newest = "SELECT coalesce(max(n), 0) FROM t";
        let found = copy.rows(newest).await[0][0].as_u64().unwrap();
        assert_eq!(found, history[index + 1].1, "copy {index}");
        for _ in 0..3 {
            let chosen = usize::try_from(random.below(index as u64 + 1)).unwrap();
            let (bookmark, last) = &history[chosen];
            let done = copy.restore_to(bookmark).await;
            assert_eq!(copy.rows(newest).await, json!([[last]]), "copy {index}");
            copy.restore_to(&done.previous_bookmark).await;
        }
        assert_eq!(copy.rows(newest).await, json!([[found]]), "copy {index}");
    }
}

// A power cut may take what was not synced: the end of the segment.
#[tokio::test]
async fn what_a_power_cut_takes_from_the_journal_is_taken_from_the_log() {
    let world = world(small());
    let mut history = vec![world.write("CREATE TABLE t (n, filler)").await];
    for n in 1..100 {
        let sql = format!("INSERT INTO t VALUES ({n}, zeroblob(3000))");
        history.push(world.write(&sql).await);
    }
    let whole = world.after_a_kill(small());
    let newest = files(&whole.journal(), ".journal").pop().unwrap();
    drop(whole);
    let length = fs::metadata(world.journal().join(newest.file_name().unwrap()))
        .unwrap()
        .len();
    for cut in [1, 100, 5000, 20_000] {
        let copy = world.after_a_kill(small());
        let segment = copy.journal().join(newest.file_name().unwrap());
        let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
        // Half of it was written, as zeros.
        file.set_len(length.saturating_sub(cut)).unwrap();
        file.set_len(length - cut / 2).unwrap();
        assert_eq!(copy.rows("SELECT max(n) FROM t").await, json!([[99]]));
        let now = copy.bookmark(None).await.unwrap();
        copy.restore_to(&history[50]).await;
        assert_eq!(copy.rows("SELECT max(n) FROM t").await, json!([[50]]));
        copy.restore_to(&now).await;
        assert_eq!(copy.rows("SELECT count(*) FROM t").await, json!([[99]]));
    }
}

// Issue 11: "space is bounded by snapshots and trimming"; docs: d1 time travel, 30 days.
#[tokio::test]
async fn thirty_days_are_kept_in_bounded_space() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let world = world(small());
    world
        .ok("CREATE TABLE t (id INTEGER PRIMARY KEY, n, filler)")
        .await;
    world
        .ok("INSERT INTO t VALUES (1, 0, zeroblob(20000))")
        .await;
    let (mut days, mut largest) = (Vec::new(), 0);
    for day in 1..=120_u64 {
        world.set_clock(world.clock() + DAY_MS);
        let mut bookmark = String::new();
        for part in 0..3 {
            let sql = format!(
                "UPDATE t SET n = {day}, filler = randomblob({})",
                20_000 + part
            );
            bookmark = world.write(&sql).await;
        }
        days.push(bookmark);
        world.d1.files.settle();
        let used = bytes(&world.journal());
        if day > 60 {
            largest = largest.max(used);
        }
    }
    // 30 days of some 80 KB each; of 120 days it would be 9 MB.
    assert!(largest < 5_000_000, "{largest} bytes");
    for (back, day) in [(1, 120), (10, 111), (29, 92)] {
        world.restore_to(&days[days.len() - back]).await;
        assert_eq!(world.rows("SELECT n FROM t").await, json!([[day]]));
    }
    let moment = D1Moment::Bookmark(days[20].clone());
    let error = world.restore(moment).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let begins = "The history of this database begins at 20";
    assert!(error.message().starts_with(begins), "{error}");
    assert_eq!(world.rows("SELECT n FROM t").await, json!([[92]]));
}

// The bound in bytes goes before that of time.
#[tokio::test]
async fn a_full_journal_reaches_less_far_back() {
    let mut limits = small();
    limits.journal.bytes = 1_500_000;
    let world = world(limits);
    world
        .ok("CREATE TABLE t (id INTEGER PRIMARY KEY, n, filler)")
        .await;
    world
        .ok("INSERT INTO t VALUES (1, 0, zeroblob(20000))")
        .await;
    let first = world.bookmark(None).await.unwrap();
    let mut last = String::new();
    for n in 0..300 {
        world.set_clock(world.clock() + 1000);
        let sql = format!("UPDATE t SET n = {n}, filler = randomblob(20000)");
        last = world.write(&sql).await;
        world.d1.files.settle();
        let used = bytes(&world.journal());
        assert!(used < 2_500_000, "{used} bytes");
    }
    let moment = D1Moment::Bookmark(first);
    world.restore(moment).await.unwrap_err();
    world.restore_to(&last).await;
    assert_eq!(world.rows("SELECT n FROM t").await, json!([[299]]));
}

// Issue 11: databases older than the journal.
#[tokio::test]
async fn a_database_without_a_journal_gets_a_first_snapshot() {
    let world = world(small());
    world.ok("CREATE TABLE t (n)").await;
    world.ok("INSERT INTO t VALUES (1)").await;
    world.d1.close();
    fs::remove_dir_all(world.journal()).unwrap();
    let world = world.reopen_with(small());
    let found = world.bookmark(None).await.unwrap();
    assert_eq!(files(&world.journal(), ".snapshot").len(), 1);
    world.ok("DELETE FROM t").await;
    world.restore_to(&found).await;
    assert_eq!(world.rows("SELECT n FROM t").await, json!([[1]]));
    let early = world.bookmark(Some(1_600_000_000_000)).await.unwrap_err();
    assert!(early.message().contains("begins at 2023-11-14T"), "{early}");
}

#[tokio::test]
async fn what_another_program_changed_begins_a_new_history() {
    let world = world(small());
    world.ok("CREATE TABLE t (n)").await;
    let early = world.write("INSERT INTO t VALUES (1)").await;
    world.d1.close();
    // Its close copies the log into the file and removes it.
    let other = rusqlite::Connection::open(world.path()).unwrap();
    other.execute("INSERT INTO t VALUES (2)", []).unwrap();
    drop(other);
    let world = world.reopen_with(small());
    assert_eq!(world.rows("SELECT n FROM t").await, json!([[1], [2]]));
    let found = world.bookmark(None).await.unwrap();
    world.ok("DELETE FROM t").await;
    world.restore_to(&found).await;
    assert_eq!(world.rows("SELECT n FROM t").await, json!([[1], [2]]));
    // What was before is there as well.
    world.restore_to(&early).await;
    assert_eq!(world.rows("SELECT n FROM t").await, json!([[1]]));
}

#[tokio::test]
async fn damage_is_named_and_costs_only_what_it_hit() {
    let world = world(small());
    let mut history = vec![world.write("CREATE TABLE t (n, filler)").await];
    for n in 1..100 {
        let sql = format!("INSERT INTO t VALUES ({n}, zeroblob(3000))");
        history.push(world.write(&sql).await);
    }
    world.d1.files.settle();
    let segments = files(&world.journal(), ".journal");
    assert!(segments.len() > 2);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&segments[0])
        .unwrap();
    let middle = fs::metadata(&segments[0]).unwrap().len() / 2;
    file.write_all_at(&[0xee; 64], middle).unwrap();
    for snapshot in files(&world.journal(), ".snapshot") {
        fs::remove_file(snapshot).unwrap();
    }
    // The database itself is as it was.
    let world = world.reopen_with(small());
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[99]]));
    world.restore_to(&history[3]).await;
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[3]]));
    let moment = D1Moment::Bookmark(history[90].clone());
    let error = world.restore(moment).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let name = segments[0].to_str().unwrap();
    assert!(error.message().contains(name), "{error}");
    assert!(
        error.message().contains("choose an earlier moment"),
        "{error}"
    );
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[3]]));
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_and_changes_nothing() {
    let mut world = world(small());
    world.ok("CREATE TABLE t (n)").await;
    let bookmark = world.write("INSERT INTO t VALUES (1)").await;
    let future = format!("00000000-ffffffff-{}", &bookmark[18..]);
    world.database = DatabaseId::new("other");
    let other = world.write("CREATE TABLE t (n)").await;
    world.database = DatabaseId::new("db");
    for wrong in ["", "x", &bookmark[1..], &future, &other] {
        let moment = D1Moment::Bookmark(wrong.to_owned());
        let error = world.restore(moment).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
        assert!(error.message().contains(wrong), "{error}");
    }
    let later = world.clock() + 60_000;
    let error = world.bookmark(Some(later)).await.unwrap_err();
    assert!(error.message().contains("future"), "{error}");
    assert_eq!(world.rows("SELECT n FROM t").await, json!([[1]]));
}

// A reader has the old content or the new one.
#[tokio::test]
async fn readers_and_writers_go_on_during_restores() {
    let world = Arc::new(world(small()));
    world.ok("CREATE TABLE t (n, filler)").await;
    world.ok("CREATE TABLE u (n)").await;
    let mut bookmarks = Vec::new();
    for n in 0..2 {
        let both = [
            format!("INSERT INTO t VALUES ({n}, zeroblob(500000))"),
            format!("INSERT INTO u VALUES ({n})"),
        ];
        let answer = world.query(both.map(D1Statement::new).into()).await;
        bookmarks.push(answer.unwrap().bookmark);
    }
    let reader = Arc::clone(&world);
    let reads = tokio::spawn(async move {
        for _ in 0..200 {
            let sql = "SELECT (SELECT count(*) FROM t) - (SELECT count(*) FROM u), \
                       (SELECT sum(length(filler)) FROM t) / 500000 - (SELECT count(*) FROM u)";
            assert_eq!(reader.rows(sql).await, json!([[0, 0]]));
        }
    });
    for round in 0..20 {
        world.restore_to(&bookmarks[round % 2]).await;
        let count = world.rows("SELECT count(*) FROM t").await;
        assert_eq!(count, json!([[round % 2 + 1]]));
    }
    reads.await.unwrap();
}

#[tokio::test]
async fn a_deleted_database_has_no_history() {
    let world = world(small());
    let bookmark = world.write("CREATE TABLE t (n)").await;
    assert!(world.journal().exists());
    world.d1.remove(&world.account, "db").unwrap();
    assert!(!world.journal().exists());
    let moment = D1Moment::Bookmark(bookmark);
    world.restore(moment).await.unwrap_err();
}
