//! `kill -9` under a write load: what was acknowledged is there, what was not is whole or
//! absent, nothing is left behind, and the next start is like any other.
//!
//! Every client owns its keys and has one write under way, so after a kill the truth is
//! known: each key holds its last acknowledged value or, all keys of the write together,
//! that of the one write without an answer. Values are numbered, and their bytes follow
//! from number and length, so a value that belongs to another key or time is noticed.
//!
//! A kill proves the order of steps, and not that anything was synced: the kernel keeps
//! what a dead process has written.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engawa_testkit::{Dev, TestProject, children, engawa, lives, wait_until};
use serde_json::{Value as Json, json};

use crate::{program, project};

/// Rounds by default, and with `ENGAWA_TEST_FULL`.
const ROUNDS: usize = 4;
const ROUNDS_FULL: usize = 50;
/// Clients of each product.
const CLIENTS: usize = 2;
/// Keys of each client: few, so that they are written again and again.
const KEYS: u64 = 10;
/// The part of a multipart upload that the Function makes itself.
const FIRST_PART_BYTES: usize = 5 * 1024 * 1024;

const FIXTURE: &str = r#"
const EDIT = 0;
const byte = (n, i) => (n * 31 + i * 7 + (i >>> 8) * 13) & 255;
const bytes = (n, from, length) => {
  const array = new Uint8Array(length);
  for (let i = 0; i < length; i++) array[i] = byte(n, from + i);
  return array;
};
const found = (body, n) => new Response(body, { headers: { "x-n": String(n) } });

async function kv(env, request, url) {
  const key = url.searchParams.get("key"), n = Number(url.searchParams.get("n"));
  switch (request.method) {
    case "PUT": await env.KV.put(key, await request.arrayBuffer(), { metadata: { n } }); return new Response("done");
    case "DELETE": await env.KV.delete(key); return new Response("done");
  }
  if (key === null) return Response.json((await env.KV.list()).keys.map((key) => key.name));
  const { value, metadata } = await env.KV.getWithMetadata(key, "arrayBuffer");
  return value === null ? new Response(null, { status: 404 }) : found(value, metadata.n);
}

async function r2(env, request, url) {
  const key = url.searchParams.get("key"), n = Number(url.searchParams.get("n"));
  const customMetadata = { n: String(n) };
  switch (request.method) {
    case "PUT": await env.BUCKET.put(key, request.body, { customMetadata }); return new Response("done");
    case "DELETE": await env.BUCKET.delete(key); return new Response("done");
    case "POST": {
      const upload = await env.BUCKET.createMultipartUpload(key, { customMetadata });
      const first = Number(url.searchParams.get("first"));
      const parts = [await upload.uploadPart(1, bytes(n, 0, first)), await upload.uploadPart(2, await request.arrayBuffer())];
      await upload.complete(parts);
      return new Response("done");
    }
  }
  if (key === null) return Response.json((await env.BUCKET.list()).objects.map((object) => object.key));
  const object = await env.BUCKET.get(key);
  return object === null ? new Response(null, { status: 404 }) : found(object.body, object.customMetadata.n);
}

async function d1(env, request) {
  if (request.method === "POST") {
    const statements = (await request.json()).map(({ key, n, length }) => n === undefined
      ? env.DB.prepare("DELETE FROM t WHERE id = ?").bind(key)
      : env.DB.prepare("INSERT INTO t (id, n, body) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET n = ?2, body = ?3")
          .bind(key, n, bytes(n, 0, length)));
    await (statements.length === 1 ? statements[0].run() : env.DB.batch(statements));
    return new Response("done");
  }
  const counts = await env.DB.prepare("SELECT (SELECT count(*) FROM t INDEXED BY t_n WHERE n >= 0) AS byIndex, (SELECT count(*) FROM t NOT INDEXED) AS byTable").first();
  const rows = await env.DB.prepare("SELECT id, n, hex(body) AS body FROM t ORDER BY id").all();
  return Response.json({ ...counts, rows: rows.results });
}

export async function onRequest({ env, request }) {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/kv": return kv(env, request, url);
    case "/r2": return r2(env, request, url);
    case "/d1": return d1(env, request);
    case "/setup":
      await env.DB.exec("CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, n INTEGER NOT NULL, body BLOB NOT NULL)");
      await env.DB.exec("CREATE INDEX IF NOT EXISTS t_n ON t (n)");
      return new Response("done");
  }
  return new Response(String(EDIT));
}
"#;

/// `SplitMix64`: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Empty, short, around the bounds of inline values, long.
    fn length(&mut self) -> usize {
        let bound = [1, 100, 5_000, 20_000, 100_000][usize::try_from(self.below(5)).unwrap()];
        usize::try_from(self.below(bound)).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    Kv,
    D1,
    R2,
}

/// A value that a key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    n: u64,
    length: usize,
}

impl Value {
    fn bytes_from(self, from: usize) -> Vec<u8> {
        let byte = |i: usize| (self.n.wrapping_mul(31) + (i * 7 + (i >> 8) * 13) as u64) & 255;
        (from..self.length)
            .map(|i| u8::try_from(byte(i)).unwrap())
            .collect()
    }
}

/// One write: all of it happens, or nothing.
type Write = Vec<(String, Option<Value>)>;

/// A client and what it knows of its keys.
struct Client {
    number: usize,
    product: Product,
    random: Random,
    next_n: u64,
    acknowledged: BTreeMap<String, Value>,
    unanswered: Option<Write>,
}

impl Client {
    fn key(&self, index: u64) -> String {
        format!("{}/{index}", self.number)
    }

    /// What it writes next.
    fn choose(&mut self) -> Write {
        let first = self.random.below(KEYS);
        let count = if self.product == Product::D1 && self.random.below(3) == 0 {
            5
        } else {
            1
        };
        let deletes = self.random.below(6) == 0;
        let multipart = self.product == Product::R2 && self.random.below(25) == 0;
        let mut write = Write::new();
        for index in first..first + count {
            self.next_n += 1;
            let mut value = Value {
                n: self.next_n,
                length: self.random.length(),
            };
            let mut key = self.key(index % KEYS);
            if multipart {
                // A key of its own, so that few large objects are read back.
                key = self.key(KEYS);
                value.length += FIRST_PART_BYTES;
            }
            write.push((key, (!deletes || multipart).then_some(value)));
        }
        write
    }

    /// Writes until the server is gone.
    fn run(&mut self, dev: &Dev, killed: &AtomicBool, answers: &AtomicUsize) {
        loop {
            let write = self.choose();
            self.unanswered = Some(write.clone());
            if let Err(error) = self.send(dev, &write) {
                assert!(
                    killed.load(Ordering::SeqCst),
                    "client {} of {:?}: {error}",
                    self.number,
                    self.product
                );
                return;
            }
            self.unanswered = None;
            for (key, value) in write {
                match value {
                    Some(value) => self.acknowledged.insert(key, value),
                    None => self.acknowledged.remove(&key),
                };
            }
            answers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Returns when the write is acknowledged. An answer that says no is a defect.
    fn send(&self, dev: &Dev, write: &Write) -> Result<(), ureq::Error> {
        let (key, value) = &write[0];
        let key = key.replace('/', "%2F");
        let path = if self.product == Product::Kv {
            "kv"
        } else {
            "r2"
        };
        let mut response = match (self.product, value) {
            (Product::D1, _) => {
                let statements: Vec<Json> = write
                    .iter()
                    .map(|(key, value)| match value {
                        Some(value) => json!({ "key": key, "n": value.n, "length": value.length }),
                        None => json!({ "key": key }),
                    })
                    .collect();
                dev.agent().post(dev.url("/d1")).send_json(statements)?
            }
            (_, None) => dev
                .agent()
                .delete(dev.url(&format!("/{path}?key={key}")))
                .call()?,
            (Product::R2, Some(value)) if value.length >= FIRST_PART_BYTES => {
                let url = format!("/r2?key={key}&n={}&first={FIRST_PART_BYTES}", value.n);
                dev.agent()
                    .post(dev.url(&url))
                    .send(value.bytes_from(FIRST_PART_BYTES))?
            }
            (_, Some(value)) => {
                let url = format!("/{path}?key={key}&n={}", value.n);
                dev.agent().put(dev.url(&url)).send(value.bytes_from(0))?
            }
        };
        let status = response.status();
        let text = response.body_mut().read_to_string()?;
        assert!(
            status == 200 && text == "done",
            "{write:?} was answered with {status} {text}\n{}",
            dev.stderr()
        );
        Ok(())
    }

    /// Compares what is stored under its keys with what it knows, and learns whether the
    /// write without an answer happened.
    fn verify(&mut self, stored: &HashMap<String, (u64, Vec<u8>)>) {
        let before = self.acknowledged.clone();
        let mut after = before.clone();
        for (key, value) in self.unanswered.take().unwrap_or_default() {
            match value {
                Some(value) => after.insert(key, value),
                None => after.remove(&key),
            };
        }
        let prefix = format!("{}/", self.number);
        let is = |expected: &BTreeMap<String, Value>| {
            let known = stored.keys().filter(|key| key.starts_with(&prefix)).count();
            if known != expected.len() {
                return Err(format!("{known} keys are stored, not {}", expected.len()));
            }
            for (key, value) in expected {
                match stored.get(key) {
                    None => return Err(format!("{key} is lost: {value:?}")),
                    Some((n, bytes)) if *n != value.n || *bytes != value.bytes_from(0) => {
                        return Err(format!(
                            "{key} is value {n} of {} bytes, not {value:?}",
                            bytes.len()
                        ));
                    }
                    Some(_) => {}
                }
            }
            Ok(())
        };
        match (is(&after), is(&before)) {
            (Ok(()), _) => self.acknowledged = after,
            (_, Ok(())) => {}
            (Err(after), Err(before)) => panic!(
                "client {} of {:?}: with the last write: {after}; without it: {before}",
                self.number, self.product
            ),
        }
    }
}

/// Everything that is stored, read through the Functions.
fn stored(dev: &Dev, product: Product) -> HashMap<String, (u64, Vec<u8>)> {
    if product == Product::D1 {
        let answer = dev.json("/d1");
        assert_eq!(
            answer["byIndex"], answer["byTable"],
            "the index and its table differ"
        );
        let rows = answer["rows"].as_array().unwrap().iter();
        return rows
            .map(|row| {
                let hex = row["body"].as_str().unwrap();
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes = (0..hex.len()).step_by(2).map(byte).collect();
                (
                    row["id"].as_str().unwrap().to_owned(),
                    (row["n"].as_u64().unwrap(), bytes),
                )
            })
            .collect();
    }
    let path = if product == Product::Kv { "/kv" } else { "/r2" };
    let keys: Vec<String> = serde_json::from_value(dev.json(path)).unwrap();
    keys.into_iter()
        .map(|key| {
            let url = dev.url(&format!("{path}?key={}", key.replace('/', "%2F")));
            let mut response = dev.agent().get(url).call().unwrap();
            assert_eq!(
                response.status(),
                200,
                "{product:?} lists {key}, which is not there"
            );
            let n = response.headers()["x-n"].to_str().unwrap().parse().unwrap();
            (
                key,
                (
                    n,
                    response
                        .body_mut()
                        .with_config()
                        .limit(64 << 20)
                        .read_to_vec()
                        .unwrap(),
                ),
            )
        })
        .collect()
}

/// Processes that a killed `engawa` left behind: this process is their new parent.
fn orphans() -> Vec<u32> {
    let ours = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        lives(*pid) && matches!(name.trim(), "workerd" | "esbuild")
    };
    children(std::process::id())
        .into_iter()
        .filter(ours)
        .collect()
}

/// When `engawa` is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// At some write.
    UnderLoad,
    /// At some write, while an edit is built and swapped in.
    DuringSwap,
    /// Before it is ready, perhaps.
    DuringStart,
}

#[test]
fn no_acknowledged_write_is_lost_by_kill_9() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let seed = std::env::var("ENGAWA_TEST_SEED").map_or_else(
        |_| {
            std::collections::hash_map::RandomState::new()
                .build_hasher()
                .finish()
        },
        |text| text.parse().expect("ENGAWA_TEST_SEED is a number"),
    );
    print(&format!("ENGAWA_TEST_SEED={seed}"));
    let full = std::env::var_os("ENGAWA_TEST_FULL").is_some();
    let rounds = if full { ROUNDS_FULL } else { ROUNDS };
    let mut random = Random(seed);

    let project = project(&[("functions/[[path]].js", FIXTURE)]);
    let mut clients: Vec<Client> = [Product::Kv, Product::D1, Product::R2]
        .iter()
        .flat_map(|product| [*product; CLIENTS])
        .enumerate()
        .map(|(number, product)| Client {
            number,
            product,
            random: Random(random.next()),
            // No two clients ever write the same value.
            next_n: (number as u64) << 32,
            acknowledged: BTreeMap::new(),
            unanswered: None,
        })
        .collect();

    let mut dev = Dev::start(program(), &project);
    let clean_start = dev.stderr();
    assert_eq!(dev.get("/setup").0, 200);
    let mut answered = 0;
    for round in 1..=rounds {
        let moment = match (round + 2) % 4 {
            0 => Moment::DuringStart,
            1 => Moment::DuringSwap,
            _ => Moment::UnderLoad,
        };
        if let Moment::DuringStart = moment {
            dev.signal("KILL");
            dev.wait();
            kill_during_start(&project, &mut random);
        } else {
            let workers = dev.workers();
            answered +=
                kill_under_load(&mut dev, &project, &mut clients, moment, round, &mut random);
            wait_until("its workers are gone", || {
                !workers.iter().any(|pid| lives(*pid))
            });
        }
        wait_until("nothing is left behind", || orphans().is_empty());

        dev = Dev::start(program(), &project);
        assert_eq!(
            dev.stderr(),
            clean_start,
            "round {round}: the start after {moment:?} is like the first"
        );
        for product in [Product::Kv, Product::D1, Product::R2] {
            let stored = stored(&dev, product);
            for client in clients
                .iter_mut()
                .filter(|client| client.product == product)
            {
                client.verify(&stored);
            }
        }
    }
    print(&format!("{rounds} rounds, {answered} acknowledged writes"));
    dev.signal("TERM");
    assert!(dev.wait().success());
    assert_no_rubbish(&project.path().join(".engawa"), &clients);
}

/// Loads and kills; gives the number of writes that were acknowledged.
fn kill_under_load(
    dev: &mut Dev,
    project: &TestProject,
    clients: &mut [Client],
    moment: Moment,
    round: usize,
    random: &mut Random,
) -> usize {
    let killed = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    let kill_after = usize::try_from(1 + random.below(150)).unwrap();
    let extra = Duration::from_micros(random.below(20_000));
    let swap_for = Duration::from_millis(random.below(600));
    std::thread::scope(|scope| {
        let (dev, killed, answers) = (&*dev, &killed, &answers);
        for client in clients {
            scope.spawn(move || client.run(dev, killed, answers));
        }
        wait_until("the clients have written", || {
            answers.load(Ordering::SeqCst) >= kill_after
        });
        if let Moment::DuringSwap = moment {
            let edited = FIXTURE.replace("EDIT = 0", &format!("EDIT = {round}"));
            project.write("functions/[[path]].js", edited);
            std::thread::sleep(swap_for);
        }
        // Not at an answer, but anywhere between two.
        std::thread::sleep(extra);
        killed.store(true, Ordering::SeqCst);
        dev.signal("KILL");
    });
    dev.wait();
    answers.into_inner()
}

/// Starts and kills before the start is over, or right after.
fn kill_during_start(project: &TestProject, random: &mut Random) {
    let mut command = engawa(program());
    command.arg("dev").arg(project.path()).args(["--port", "0"]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(random.below(400)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Blobs that nothing names, half uploads and journals do not pile up: what the folder
/// holds is in proportion to what is stored.
fn assert_no_rubbish(state: &Path, clients: &[Client]) {
    fn bytes_below(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    bytes_below(&entry.path())
                } else {
                    metadata.blocks() * 512
                }
            })
            .sum()
    }
    let kept: usize = clients
        .iter()
        .flat_map(|client| client.acknowledged.values())
        .map(|value| value.length)
        .sum();
    let used = bytes_below(state);
    let room = 3 * kept as u64 + (64 << 20);
    assert!(
        used <= room,
        "{used} bytes are used for {kept} bytes of values"
    );
}

#[expect(
    clippy::print_stderr,
    reason = "a failure is repeated with the seed that it shows"
)]
fn print(line: &str) {
    eprintln!("{line}");
}
