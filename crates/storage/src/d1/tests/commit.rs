//! Durability, grouping, isolation between databases, sessions.

use std::fs;
use std::sync::Condvar;
use std::sync::atomic::AtomicBool;

use super::*;

/// Stands before the disk: counts syncs, holds them up and makes them fail.
#[derive(Default)]
struct Disk {
    syncs: AtomicU64,
    fails: AtomicBool,
    held: Mutex<bool>,
    changed: Condvar,
}

impl Disk {
    fn hook(self: &Arc<Self>) -> file::SyncHook {
        let disk = Arc::clone(self);
        Arc::new(move || {
            disk.syncs.fetch_add(1, Ordering::SeqCst);
            disk.changed.notify_all();
            let mut held = disk.held.lock().unwrap();
            while *held {
                held = disk.changed.wait(held).unwrap();
            }
            !disk.fails.load(Ordering::SeqCst)
        })
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }

    fn hold(&self) {
        *self.held.lock().unwrap() = true;
    }

    fn release(&self) {
        *self.held.lock().unwrap() = false;
        self.changed.notify_all();
    }

    /// Waits until that many syncs have begun.
    fn wait_for(&self, syncs: u64) {
        let mut held = self.held.lock().unwrap();
        while self.syncs() < syncs {
            // With a limit, since the count changes outside of the lock.
            held = self
                .changed
                .wait_timeout(held, Duration::from_millis(5))
                .unwrap()
                .0;
        }
    }
}

/// Groups end only when the queue is empty, however slow the machine is.
fn unhurried() -> FilesOptions {
    FilesOptions {
        group_time: Duration::from_mins(10),
        ..FilesOptions::default()
    }
}

fn world_on(disk: &Arc<Disk>, group_time: Duration) -> World {
    let limits = D1Limits {
        query_time: Duration::from_mins(10),
        group_time,
        ..D1Limits::default()
    };
    World::with(limits, unhurried(), Some(disk.hook()))
}

type Answered = oneshot::Receiver<Result<Answer, Error>>;

/// Queues a write without waiting for its answer.
fn submit(world: &World, account: &AccountId, sql: &str) -> Answered {
    let (answer, answered) = oneshot::channel();
    let request = Request {
        work: Work::Query {
            statements: vec![D1Statement::new(sql)],
            format: D1Format::Objects,
            each: false,
        },
        session: None,
        answer,
    };
    let key = (account.clone(), world.database.clone());
    assert!(world.d1.files.write(&key, request).is_ok());
    answered
}

// DESIGN section 3, "The D1 commit"
#[tokio::test]
async fn requests_that_wait_share_one_sync_and_reads_need_none() {
    let disk = Arc::new(Disk::default());
    let world = world_on(&disk, Duration::from_mins(10));
    world.ok("CREATE TABLE t (a)").await;
    let before = disk.syncs();
    disk.hold();
    let mut answers = vec![submit(&world, &world.account, "INSERT INTO t VALUES (0)")];
    disk.wait_for(before + 1);
    // All of these wait behind the sync of the first.
    for number in 1..40 {
        let sql = format!("INSERT INTO t VALUES ({number})");
        answers.push(submit(&world, &world.account, &sql));
    }
    // A read goes past the writer, but it has seen a commit that is not durable.
    let mut read = Box::pin(world.rows("SELECT count(*) FROM t"));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut read).await;
    assert!(early.is_err(), "answered before the sync");
    disk.release();
    assert_eq!(read.await, json!([[1]]));
    for answer in answers {
        assert!(answer.await.unwrap().is_ok());
    }
    assert_eq!(
        disk.syncs() - before,
        2,
        "one for the first, one for the rest"
    );
    let before = disk.syncs();
    for _ in 0..10 {
        assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[40]]));
    }
    // On the writer, and without effect: nothing to sync either.
    world.ok("DELETE FROM t WHERE a < 0").await;
    assert_eq!(disk.syncs(), before);
}

// DESIGN section 3: a failed sync is never tried again.
#[tokio::test]
async fn a_failed_sync_is_answered_with_unknown_and_the_file_is_opened_anew() {
    let disk = Arc::new(Disk::default());
    let world = world_on(&disk, Duration::from_mins(10));
    world.ok("CREATE TABLE t (a)").await;
    disk.fails.store(true, Ordering::SeqCst);
    let error = world
        .run("INSERT INTO t VALUES (1)", Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    disk.fails.store(false, Ordering::SeqCst);
    world.ok("INSERT INTO t VALUES (2)").await;
    // Checked and synced into the file when it was opened: here the first row survived.
    assert_eq!(world.rows("SELECT a FROM t").await, json!([[1], [2]]));
}

// DESIGN section 3: a request still running is a group of its own.
#[tokio::test]
async fn a_long_request_lets_earlier_ones_of_its_group_be_answered() {
    let disk = Arc::new(Disk::default());
    let world = world_on(&disk, Duration::ZERO);
    world.ok("CREATE TABLE t (a)").await;
    let before = disk.syncs();
    disk.hold();
    let first = submit(&world, &world.account, "INSERT INTO t VALUES (0)");
    disk.wait_for(before + 1);
    let short = submit(&world, &world.account, "INSERT INTO t VALUES (1)");
    let long = submit(
        &world,
        &world.account,
        "INSERT INTO t WITH RECURSIVE n (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n \
         WHERE x < 10000) SELECT max(x) FROM n",
    );
    disk.release();
    for answer in [first, short, long] {
        assert!(answer.await.unwrap().is_ok());
    }
    // Short and long are one group, yet the short one was synced while the long one ran.
    assert_eq!(disk.syncs() - before, 3);
}

// DESIGN section 3: the writer's files are whole after a kill at any moment.
#[tokio::test]
async fn what_was_answered_is_in_the_file_and_its_log() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    for n in 0..20 {
        world.ok(&format!("INSERT INTO t VALUES ({n})")).await;
        // A copy of both, as a power cut might leave them.
        let copy = tempfile::tempdir().unwrap();
        let file = copy.path().join("copy.sqlite");
        fs::copy(world.path(), &file).unwrap();
        let log = world.path().with_extension("sqlite-wal");
        fs::copy(log, copy.path().join("copy.sqlite-wal")).unwrap();
        let connection = rusqlite::Connection::open(&file).unwrap();
        let rows: i64 = connection
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, n + 1);
    }
}

// DESIGN section 3: nothing of ours inside.
#[tokio::test]
async fn a_database_holds_nothing_of_ours_and_outlives_a_restart() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    world.ok("INSERT INTO t VALUES (1)").await;
    let path = world.path();
    let world = world.reopen();
    assert_eq!(world.rows("SELECT a FROM t").await, json!([[1]]));
    assert_eq!(
        world.rows("SELECT name FROM sqlite_master").await,
        json!([["t"]])
    );
    world.d1.close();
    let connection = rusqlite::Connection::open(path).unwrap();
    let number = |pragma: &str| -> i64 {
        connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .unwrap()
    };
    assert_eq!((number("application_id"), number("user_version")), (0, 0));
}

// DESIGN section 3: checkpoints are ours.
#[tokio::test]
async fn the_log_is_checkpointed_and_starts_anew() {
    let limits = D1Limits {
        checkpoint_pages: 20,
        ..D1Limits::default()
    };
    let world = World::with(limits, FilesOptions::default(), None);
    world.ok("CREATE TABLE t (a)").await;
    for _ in 0..200 {
        world.ok("INSERT INTO t VALUES (zeroblob(3000))").await;
    }
    let log = fs::metadata(world.path().with_extension("sqlite-wal")).unwrap();
    assert!(log.len() < 60 * 4200, "{} bytes", log.len());
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[200]]));
}

// BRIEF: the account is in every storage call.
#[tokio::test]
async fn two_accounts_with_the_same_database_id_are_strangers() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    let other = AccountId::new("other");
    let ask = vec![D1Statement::new("SELECT * FROM t")];
    let error = world
        .d1
        .query(&other, &world.database, ask, D1QueryOptions::default())
        .await
        .unwrap_err();
    assert!(error.message().starts_with("no such table: t"));
}

// DESIGN section 3: open files are capped.
#[tokio::test]
async fn three_hundred_databases_work_with_sixteen_open() {
    let files = FilesOptions {
        max_open: 16,
        ..FilesOptions::default()
    };
    let mut world = World::with(D1Limits::default(), files, None);
    for round in 0..2 {
        for number in 0..300 {
            world.database = DatabaseId::new(format!("db {number}"));
            world.ok("CREATE TABLE IF NOT EXISTS t (a)").await;
            world.ok(&format!("INSERT INTO t VALUES ({number})")).await;
            let expected = vec![json!([number]); round + 1];
            assert_eq!(world.rows("SELECT a FROM t").await, json!(expected));
        }
    }
    world.d1.files.settle();
    assert!(world.d1.files.open_files() <= 16 + 64);
}

// DESIGN section 3: spare threads take the place of long ones.
#[tokio::test]
async fn long_requests_do_not_block_other_databases() {
    let disk = Arc::new(Disk::default());
    let world = world_on(&disk, Duration::from_mins(10));
    world.ok("CREATE TABLE t (a)").await;
    let before = disk.syncs();
    disk.hold();
    // More than the pool has threads, each of an account of its own.
    let long: Vec<_> = (0..9)
        .map(|number| {
            let account = AccountId::new(format!("account {number}"));
            submit(&world, &account, "CREATE TABLE t (a)")
        })
        .collect();
    disk.wait_for(before + 9);
    assert_eq!(world.rows("SELECT count(*) FROM t").await, json!([[0]]));
    disk.release();
    for answer in long {
        assert!(answer.await.unwrap().is_ok());
    }
}

// workerd.md 4.6; storage.md 2.9, 2.10
#[tokio::test]
async fn bookmarks_grow_with_commits_and_over_restarts() {
    let world = World::new();
    let mut last = String::new();
    let create = vec![D1Statement::new("CREATE TABLE IF NOT EXISTS t (a)")];
    world.query(create).await.unwrap();
    for _ in 0..3 {
        let insert = vec![D1Statement::new("INSERT INTO t VALUES (1)")];
        let bookmark = world.query(insert).await.unwrap().bookmark;
        let lengths: Vec<_> = bookmark.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 8, 8, 32]);
        assert!(bookmark > last);
        last = bookmark;
    }
    let read = vec![D1Statement::new("SELECT 1")];
    assert_eq!(world.query(read.clone()).await.unwrap().bookmark, last);
    let world = world.reopen();
    assert!(world.query(read).await.unwrap().bookmark >= last);
}

#[tokio::test]
async fn sessions_take_constraints_and_bookmarks_of_this_database() {
    let mut world = World::new();
    let ask = async |world: &World, session: &str| {
        let options = D1QueryOptions {
            session: Some(session.to_owned()),
            ..D1QueryOptions::default()
        };
        let statements = vec![D1Statement::new("SELECT 1")];
        let answer = world
            .d1
            .query(&world.account, &world.database, statements, options);
        answer.await.map(|metered| metered.value.bookmark)
    };
    let bookmark = ask(&world, "first-unconstrained").await.unwrap();
    ask(&world, "first-primary").await.unwrap();
    ask(&world, &bookmark).await.unwrap();
    let future = format!("00000000-ffffffff-{}", &bookmark[18..]);
    for wrong in [
        "",
        "first",
        "x",
        &bookmark[1..],
        &bookmark.to_uppercase(),
        &future,
    ] {
        let error = ask(&world, wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
        assert_eq!(error.message(), "invalid bookmark or constraint", "{wrong}");
    }
    // A bookmark of a database that is ahead.
    world.database = DatabaseId::new("other");
    let ahead = ask(&world, "first-primary").await.unwrap();
    world.database = DatabaseId::new("db");
    ask(&world, &ahead).await.unwrap_err();
}

#[tokio::test]
async fn a_deleted_database_begins_empty() {
    let world = World::new();
    world.ok("CREATE TABLE t (a)").await;
    world.d1.remove(&world.account, "db").unwrap();
    assert!(!world.path().exists());
    assert_eq!(
        world.rows("SELECT name FROM sqlite_master").await,
        json!([])
    );
    world.ok("CREATE TABLE t (a)").await;
    // One that never was is fine.
    world.d1.remove(&world.account, "never").unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let world = World::new();
    fs::create_dir_all(world.path().parent().unwrap()).unwrap();
    fs::write(world.path(), vec![7; 8192]).unwrap();
    let error = world.run("SELECT 1", Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("db"), "{error}");
}
