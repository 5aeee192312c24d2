//! A write load on all three products, by clients who know what must be there.
//!
//! Every client owns its keys and has one write under way, so at any moment the truth is
//! known: each key holds its last acknowledged value or, all keys of the write together,
//! that of the one write without an answer. Values are numbered, and their bytes follow
//! from number and length, so a value that belongs to another key or time is noticed.
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use engawa_testkit::{Dev, Random};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

/// Clients of each product.
const CLIENTS: usize = 2;
/// Keys of each client: few, so that they are written again and again.
const KEYS: u64 = 10;
/// The part of a multipart upload that the Function makes itself.
const FIRST_PART_BYTES: usize = 5 * 1024 * 1024;

pub(crate) const FIXTURE: &str = r#"
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Product {
    Kv,
    D1,
    R2,
}

/// A value that a key can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    pub(crate) n: u64,
    pub(crate) length: usize,
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
pub(crate) type Write = Vec<(String, Option<Value>)>;

/// A client and what it knows of its keys.
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) product: Product,
    random: Random,
    next_n: u64,
    pub(crate) acknowledged: BTreeMap<String, Value>,
    unanswered: Option<Write>,
}

/// What a client does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Step {
    /// It is about to send a write.
    Begins(Write),
    /// It has the answer.
    IsAnswered,
}

/// Some for each product, who write other things for each seed.
pub(crate) fn clients(random: &mut Random) -> Vec<Client> {
    [Product::Kv, Product::D1, Product::R2]
        .iter()
        .flat_map(|product| [*product; CLIENTS])
        .enumerate()
        .map(|(number, product)| Client {
            number,
            product,
            random: Random::new(random.next()),
            // No two clients ever write the same value.
            next_n: (number as u64) << 32,
            acknowledged: BTreeMap::new(),
            unanswered: None,
        })
        .collect()
}

/// The seed of `ENGAWA_TEST_SEED`, else a new one; told, so that a failure is repeated.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("ENGAWA_TEST_SEED").map_or_else(
        |_| {
            std::collections::hash_map::RandomState::new()
                .build_hasher()
                .finish()
        },
        |text| text.parse().expect("ENGAWA_TEST_SEED is a number"),
    );
    print(&format!("ENGAWA_TEST_SEED={seed}"));
    seed
}

/// So many rounds, or with `ENGAWA_TEST_FULL` so many.
pub(crate) fn rounds(quick: usize, full: usize) -> usize {
    if std::env::var_os("ENGAWA_TEST_FULL").is_some() {
        full
    } else {
        quick
    }
}

impl Client {
    fn key(&self, index: u64) -> String {
        format!("{}/{index}", self.number)
    }

    /// Empty, short, around the bounds of inline values, long.
    fn length(&mut self) -> usize {
        let bound = [1, 100, 5_000, 20_000, 100_000][self.random.below_len(5)];
        self.random.below_len(bound)
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
                length: self.length(),
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

    /// Writes until it is told to stop, or the server that was killed is gone.
    pub(crate) fn run(
        &mut self,
        dev: &Dev,
        stop: &AtomicBool,
        answers: &AtomicUsize,
        note: impl Fn(usize, Step),
    ) {
        while !stop.load(Ordering::SeqCst) {
            let write = self.choose();
            note(self.number, Step::Begins(write.clone()));
            self.learn(Step::Begins(write.clone()));
            if let Err(error) = self.send(dev, &write) {
                assert!(
                    stop.load(Ordering::SeqCst),
                    "client {} of {:?}: {error}\n{}",
                    self.number,
                    self.product,
                    dev.stderr()
                );
                return;
            }
            note(self.number, Step::IsAnswered);
            self.learn(Step::IsAnswered);
            answers.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes a step into account.
    pub(crate) fn learn(&mut self, step: Step) {
        match step {
            Step::Begins(write) => self.unanswered = Some(write),
            Step::IsAnswered => {
                for (key, value) in self.unanswered.take().unwrap_or_default() {
                    match value {
                        Some(value) => self.acknowledged.insert(key, value),
                        None => self.acknowledged.remove(&key),
                    };
                }
            }
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
    pub(crate) fn verify(&mut self, stored: &Stored) -> Result<(), String> {
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
            (Err(after), Err(before)) => {
                return Err(format!(
                    "client {} of {:?}: with the last write: {after}; without it: {before}",
                    self.number, self.product
                ));
            }
        }
        Ok(())
    }
}

/// Number and bytes of each key.
pub(crate) type Stored = HashMap<String, (u64, Vec<u8>)>;

/// Compares everything that is stored with what the clients know. An error says what is
/// lost or should not be there.
pub(crate) fn verify(dev: &Dev, clients: &mut [Client]) -> Result<(), String> {
    for product in [Product::Kv, Product::D1, Product::R2] {
        let stored = stored(dev, product)?;
        let of_product = |client: &&mut Client| client.product == product;
        for client in clients.iter_mut().filter(of_product) {
            client.verify(&stored)?;
        }
    }
    Ok(())
}

fn json_of(dev: &Dev, path: &str) -> Result<Json, String> {
    match dev.get(path) {
        (200, text) => serde_json::from_str(&text).map_err(|error| format!("{text}: {error}")),
        (status, text) => Err(format!("{path}: {status} {text}\n{}", dev.stderr())),
    }
}

/// Everything that is stored, read through the Functions.
fn stored(dev: &Dev, product: Product) -> Result<Stored, String> {
    if product == Product::D1 {
        let answer = json_of(dev, "/d1")?;
        if answer["byIndex"] != answer["byTable"] {
            return Err("the index and its table differ".to_owned());
        }
        let rows = answer["rows"].as_array().unwrap().iter();
        let rows = rows
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
        return Ok(rows);
    }
    let path = if product == Product::Kv { "/kv" } else { "/r2" };
    let keys: Vec<String> = serde_json::from_value(json_of(dev, path)?).unwrap();
    keys.into_iter()
        .map(|key| {
            let url = dev.url(&format!("{path}?key={}", key.replace('/', "%2F")));
            let response = dev.agent().get(url).call();
            let mut response = response.map_err(|error| format!("{product:?} {key}: {error}"))?;
            if response.status() != 200 {
                return Err(format!(
                    "{product:?} lists {key}, and answers {}\n{}",
                    response.status(),
                    dev.stderr()
                ));
            }
            let n = response.headers()["x-n"].to_str().unwrap().parse().unwrap();
            let body = response.body_mut().with_config().limit(64 << 20);
            let bytes = body
                .read_to_vec()
                .map_err(|error| format!("{product:?} {key}: {error}\n{}", dev.stderr()))?;
            Ok((key, (n, bytes)))
        })
        .collect()
}

#[expect(
    clippy::print_stderr,
    reason = "a failure is repeated with the seed that it shows"
)]
pub(crate) fn print(line: &str) {
    eprintln!("{line}");
}
