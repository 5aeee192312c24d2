//! The storage in process, beside a plain loop that does the least such a service must do
//! on the same disk (issue "Storage to the letter", Speed). Rounds alternate between the
//! two; medians. `cargo bench -p engawa-storage`, with `-- --full` for the long curve of
//! 10 million keys.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engawa_model::{AccountId, BucketName, DatabaseId, NamespaceId};
use engawa_storage::d1::{D1QueryOptions, D1Statement, D1Value};
use engawa_storage::r2::{HttpMetadata, R2Get, R2GetRequest, R2PutRequest, StorageClass};
use engawa_storage::{Digests, KvListOptions, KvPutOptions, Owner, Storage, StorageOptions};
use md5::{Digest as _, Md5};
use tokio::runtime::Runtime;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
const MIB: usize = 1024 * 1024;

fn main() {
    let full = std::env::args().any(|argument| argument == "--full");
    let folder = tempfile::Builder::new()
        .prefix("engawa-bench-")
        .tempdir()
        .expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let owner = Owner::acquire(folder.path(), "bench").expect("a folder of our own");
    let storage =
        Storage::open(&owner, StorageOptions::new(folder.path())).expect("the storage opens");
    let bench = Bench {
        folder: folder.path(),
        runtime,
        storage,
        account: AccountId::local(),
    };
    println!(
        "{:<34} {:>12} {:>12} {:>8}  target",
        "", "engawa", "plain loop", "ratio"
    );
    bench.kv_put();
    bench.kv_get();
    bench.d1_read();
    bench.d1_insert();
    bench.r2();
    bench.growth(if full { 10_000_000 } else { 100_000 });
    bench.runtime.block_on(bench.storage.close());
}

struct Bench<'a> {
    folder: &'a Path,
    runtime: Runtime,
    storage: Storage,
    account: AccountId,
}

impl Bench<'_> {
    fn kv_put(&self) {
        let namespace = NamespaceId::new("puts");
        let mut plain_file = File::create(self.folder.join("plain")).expect("a file");
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(self.during(64, |worker, count| {
                let (storage, namespace) = (self.storage.clone(), namespace.clone());
                let account = self.account.clone();
                async move {
                    let key = format!("key-{worker}-{count}");
                    let value = storage
                        .kv()
                        .stage_bytes(&account, Bytes::from_static(&[b'v'; 100]))
                        .await
                        .expect("staged");
                    storage
                        .kv()
                        .put(&account, &namespace, &key, value, KvPutOptions::default())
                        .await
                        .expect("put");
                }
            }));
            plain.push(repeat(|| {
                plain_file.write_all(&[b'v'; 100]).expect("written");
                plain_file.sync_data().expect("synced");
            }));
        }
        row(
            "KV put, 64 writers (/s)",
            ours,
            plain,
            "≥ 10 times one fsync a put",
        );
    }

    fn kv_get(&self) {
        let namespace = NamespaceId::new("gets");
        self.put_keys(&namespace, 0, 1_000);
        let mut ours = Vec::new();
        for _ in 0..ROUNDS {
            ours.push(self.runtime.block_on(async {
                let (start, mut count) = (Instant::now(), 0_u32);
                while start.elapsed() < ROUND {
                    for _ in 0..1_000 {
                        let key = format!("key-{:08}", count % 1_000);
                        let found = self.storage.kv().get(&self.account, &namespace, &key).await;
                        assert!(found.expect("a value").value.is_some());
                        count += 1;
                    }
                }
                f64::from(count) / start.elapsed().as_secs_f64()
            }));
        }
        row(
            "KV get, hot, one core (/s)",
            ours,
            vec![200_000.0],
            "≥ 200,000",
        );
    }

    fn d1_read(&self) {
        let database = DatabaseId::new("reads");
        self.sql(
            &database,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n REAL)",
        );
        self.sql(
            &database,
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT 10000) \
             INSERT INTO t SELECT i, 'name ' || i, i * 0.5 FROM c",
        );
        let path = self.folder.join("plain.sqlite");
        let plain_db = plain_database(&path, 10_000);
        let read = |id: u32| {
            D1Statement::with(
                "SELECT * FROM t WHERE id = ?",
                vec![D1Value::Real(f64::from(id))],
            )
        };
        let (mut in_thread, mut door, mut plain, mut plain_door) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // A hundred in one request: the way to the reader thread counts for little.
            in_thread.push(self.runtime.block_on(async {
                let (start, mut count) = (Instant::now(), 0_u32);
                while start.elapsed() < ROUND {
                    let batch = (0..100).map(|at| read((count + at) % 10_000 + 1)).collect();
                    count += 100;
                    self.storage
                        .d1()
                        .query(&self.account, &database, batch, D1QueryOptions::default())
                        .await
                        .expect("rows");
                }
                f64::from(count) / start.elapsed().as_secs_f64()
            }));
            door.push(self.runtime.block_on(async {
                let (start, mut count) = (Instant::now(), 0_u32);
                while start.elapsed() < ROUND {
                    let one = vec![read(count % 10_000 + 1)];
                    count += 1;
                    self.storage
                        .d1()
                        .query(&self.account, &database, one, D1QueryOptions::default())
                        .await
                        .expect("a row");
                }
                f64::from(count) / start.elapsed().as_secs_f64()
            }));
            // A transaction for a hundred, as above.
            let mut id = 0;
            let transactions = repeat(|| {
                plain_db.execute_batch("BEGIN").expect("begun");
                for _ in 0..100 {
                    id = id % 10_000 + 1;
                    std::hint::black_box(plain_read(&plain_db, id));
                }
                plain_db.execute_batch("COMMIT").expect("ended");
            });
            plain.push(transactions * 100.0);
            plain_door.push(repeat(|| {
                id = id % 10_000 + 1;
                std::hint::black_box(plain_read(&plain_db, id));
            }));
        }
        row(
            "D1 read by key, in thread (/s)",
            in_thread,
            plain,
            "≥ 0.6 of rusqlite",
        );
        row(
            "D1 read by key, through the door",
            door,
            plain_door,
            "(no target)",
        );
    }

    fn d1_insert(&self) {
        let database = DatabaseId::new("inserts");
        self.sql(
            &database,
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n REAL)",
        );
        let path = self.folder.join("plain-insert.sqlite");
        let plain_db = plain_database(&path, 0);
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(self.during(32, |_, _| {
                let (storage, database) = (self.storage.clone(), database.clone());
                let account = self.account.clone();
                async move {
                    let insert = D1Statement::with(
                        "INSERT INTO t (name, n) VALUES (?, ?)",
                        vec![D1Value::Text("a name".to_owned()), D1Value::Real(1.5)],
                    );
                    storage
                        .d1()
                        .query(&account, &database, vec![insert], D1QueryOptions::default())
                        .await
                        .expect("inserted");
                }
            }));
            plain.push(repeat(|| {
                plain_db
                    .prepare_cached("INSERT INTO t (name, n) VALUES (?, ?)")
                    .expect("prepared")
                    .execute(("a name", 1.5))
                    .expect("inserted");
            }));
        }
        row(
            "D1 insert, 32 clients (/s)",
            ours,
            plain,
            "≥ 5 times a synced commit each",
        );
    }

    fn r2(&self) {
        const SIZE: usize = 256 * MIB;
        let bucket = BucketName::from("objects");
        let chunk = Bytes::from(vec![b'o'; MIB]);
        let path = self.folder.join("plain-object");
        let (mut puts, mut gets, mut plain_puts, mut plain_gets) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mib_per_s = |start: Instant| SIZE as f64 / MIB as f64 / start.elapsed().as_secs_f64();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            self.runtime
                .block_on(self.put_object(&bucket, "one", &chunk, SIZE));
            puts.push(mib_per_s(start));

            let start = Instant::now();
            let mut file = File::create(&path).expect("a file");
            let mut md5 = Md5::new();
            for _ in 0..SIZE / MIB {
                md5.update(&chunk);
                file.write_all(&chunk).expect("written");
            }
            file.sync_all().expect("synced");
            std::hint::black_box(md5.finalize());
            plain_puts.push(mib_per_s(start));

            let start = Instant::now();
            assert_eq!(self.runtime.block_on(self.get_object(&bucket, "one")), SIZE);
            gets.push(mib_per_s(start));

            let start = Instant::now();
            let mut file = File::open(&path).expect("a file");
            let mut buffer = vec![0; MIB];
            let mut sum = 0;
            while let Ok(count @ 1..) = file.read(&mut buffer) {
                sum = crc32c::crc32c_append(sum, &buffer[..count]);
            }
            std::hint::black_box(sum);
            plain_gets.push(mib_per_s(start));
        }
        row(
            "R2 put 256 MiB (MiB/s)",
            puts,
            plain_puts,
            "≥ 0.8 of write, MD5, sync",
        );
        row(
            "R2 get 256 MiB (MiB/s)",
            gets,
            plain_gets,
            "≥ 0.8 of read, checksum",
        );

        let before = resident_mib();
        self.runtime.block_on(async {
            let keys: Vec<String> = (0..16).map(|at| format!("object-{at}")).collect();
            let peak = futures_util::future::join_all(keys.iter().map(|key| async {
                self.put_object(&bucket, key, &chunk, SIZE / 4).await;
                let after_put = resident_mib();
                self.get_object(&bucket, key).await;
                after_put.max(resident_mib())
            }));
            let peak = peak.await.into_iter().fold(0.0, f64::max);
            row(
                "R2 16 transfers, memory (MiB)",
                vec![peak - before],
                vec![32.0],
                "< 32 MiB more",
            );
        });
    }

    /// The latency of reads as a namespace grows, and of a page of a list.
    fn growth(&self, most: u32) {
        let namespace = NamespaceId::new("growth");
        let (mut have, mut want) = (0, 10_000);
        println!(
            "\n{:<34} {:>12} {:>12}",
            "keys in a namespace", "get (µs)", "page (ms)"
        );
        while want <= most {
            self.put_keys(&namespace, have, want);
            have = want;
            let (get, page) = self.runtime.block_on(async {
                let kv = self.storage.kv();
                let mut gets = Vec::new();
                for at in 0..2_000_u64 {
                    // Keys all over, most of them not in memory.
                    let key = format!("key-{:08}", at * 7_919_777 % u64::from(have));
                    let start = Instant::now();
                    let found = kv.get(&self.account, &namespace, &key).await;
                    assert!(found.expect("a value").value.is_some());
                    gets.push(start.elapsed().as_secs_f64() * 1e6);
                }
                let mut pages = Vec::new();
                for at in 0..20 {
                    let options = KvListOptions {
                        prefix: Some(format!("key-000{:02}", at % 10)),
                        ..KvListOptions::default()
                    };
                    let start = Instant::now();
                    kv.list(&self.account, &namespace, options)
                        .await
                        .expect("a page");
                    pages.push(start.elapsed().as_secs_f64() * 1e3);
                }
                (median(gets), median(pages))
            });
            println!("{have:<34} {get:>12.1} {page:>12.2}");
            want *= 10;
        }
    }

    fn put_keys(&self, namespace: &NamespaceId, from: u32, to: u32) {
        let keys: Vec<u32> = (from..to).collect();
        for batch in keys.chunks(500) {
            self.runtime.block_on(async {
                let puts = batch.iter().map(|at| async move {
                    let kv = self.storage.kv();
                    let value = kv
                        .stage_bytes(&self.account, Bytes::from_static(&[b'v'; 100]))
                        .await
                        .expect("staged");
                    let key = format!("key-{at:08}");
                    kv.put(
                        &self.account,
                        namespace,
                        &key,
                        value,
                        KvPutOptions::default(),
                    )
                    .await
                    .expect("put");
                });
                futures_util::future::join_all(puts).await;
            });
        }
    }

    fn sql(&self, database: &DatabaseId, sql: &str) {
        let statement = vec![D1Statement::new(sql)];
        self.runtime
            .block_on(self.storage.d1().query(
                &self.account,
                database,
                statement,
                D1QueryOptions::default(),
            ))
            .expect("executed");
    }

    async fn put_object(&self, bucket: &BucketName, key: &str, chunk: &Bytes, size: usize) {
        let request = R2PutRequest {
            key: key.to_owned(),
            http_metadata: HttpMetadata::default(),
            custom_metadata: Vec::new(),
            storage_class: StorageClass::default(),
            only_if: None,
            checksums: Digests::default(),
            customer_key: None,
        };
        let mut upload = self
            .storage
            .r2()
            .begin_put(&self.account, bucket, request)
            .expect("begun");
        for _ in 0..size / MIB {
            upload.write(chunk.clone()).await.expect("written");
        }
        upload.finish().await.expect("stored");
    }

    async fn get_object(&self, bucket: &BucketName, key: &str) -> usize {
        let request = R2GetRequest {
            key: key.to_owned(),
            range: None,
            only_if: None,
            customer_key: None,
        };
        let found = self.storage.r2().get(&self.account, bucket, request).await;
        let R2Get::Found { mut body, .. } = found.expect("an answer").value else {
            panic!("there is no {key}");
        };
        let mut size = 0;
        while let Some(chunk) = body.next_chunk().await {
            size += chunk.expect("bytes").len();
        }
        size
    }

    /// Operations a second of so many workers, each one after the other.
    fn during<F: Future<Output = ()>>(
        &self,
        workers: usize,
        operation: impl Fn(usize, u64) -> F,
    ) -> f64 {
        self.runtime.block_on(async {
            let start = Instant::now();
            let operation = &operation;
            let counts = futures_util::future::join_all((0..workers).map(|worker| async move {
                let mut count = 0;
                while start.elapsed() < ROUND {
                    operation(worker, count).await;
                    count += 1;
                }
                count
            }))
            .await;
            counts.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64()
        })
    }
}

fn plain_read(db: &rusqlite::Connection, id: u32) -> (i64, String, f64) {
    db.prepare_cached("SELECT * FROM t WHERE id = ?")
        .expect("prepared")
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("a row")
}

/// A database as durable as ours: each commit is synced.
fn plain_database(path: &Path, rows: u32) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).expect("a database");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n REAL);",
    )
    .expect("a table");
    db.execute(
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c LIMIT ?1) \
         INSERT INTO t SELECT i, 'name ' || i, i * 0.5 FROM c WHERE ?1 > 0",
        [rows],
    )
    .expect("rows");
    db
}

/// Calls a second.
fn repeat(mut call: impl FnMut()) -> f64 {
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < ROUND {
        call();
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn row(name: &str, ours: Vec<f64>, plain: Vec<f64>, target: &str) {
    let (ours, plain) = (median(ours), median(plain));
    println!(
        "{name:<34} {ours:>12.0} {plain:>12.0} {:>8.2}  {target}",
        ours / plain
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Resident memory of this process.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("a /proc");
    let pages: f64 = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number of pages");
    pages * 4096.0 / MIB as f64
}
