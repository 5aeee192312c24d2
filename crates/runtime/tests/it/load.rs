//! A deployment under load, and the replacement of its instances (DESIGN section 2).

use std::cell::Cell;
use std::time::Duration;

use engawa_model::{BindingKind, Lease, Version, WorkerPool as _};
use engawa_runtime::{CapacityLimits, Egress, WorkerTimes};
use futures_util::future::{join, join_all};

use crate::support::{Worker, World, binding, eventually, gate, version};

const SCRIPT: &str = r#"
const kept = [];
export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    switch (pathname) {
      case '/grow':
        ctx.waitUntil((async () => {
          await env.GATE.fetch('http://gate/');
          await env.KV.put('later', 'written');
        })());
        kept.push(new Array(8 * 1024 * 1024).fill(1.5));
        return new Response('grown');
      case "/reach":
        try {
          return new Response(await (await fetch('http://127.0.0.1:' + new URL(request.url).search.slice(1))).text());
        } catch (error) {
          return new Response(error.message);
        }
      default: return new Response('hello');
    }
  },
};
"#;

fn project(name: &str) -> Version {
    version(
        name,
        SCRIPT,
        vec![
            gate(),
            binding("KV", BindingKind::KvNamespace("load".into())),
        ],
    )
}

fn short() -> WorkerTimes {
    WorkerTimes {
        wait_until: Duration::from_millis(200),
        fewer_after: Duration::ZERO,
        replace_after: Duration::ZERO,
        ..WorkerTimes::default()
    }
}

/// Whatever else the machine does at the moment.
fn two_instances() -> CapacityLimits {
    CapacityLimits {
        instances_per_deployment: 2,
        spare_cores: 0.0,
        ..CapacityLimits::default()
    }
}

/// Requests, one after the other, by each of `clients` until `done`; none fails.
async fn load_until(worker: &Worker, clients: usize, path: &str, done: impl Fn() -> bool) {
    let over = Cell::new(false);
    let client = || async {
        while !over.get() {
            let answer = worker.get(path).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            over.set(over.get() || done());
        }
    };
    join_all((0..clients).map(|_| client())).await;
}

/// More places than an instance may fill before it counts as full.
async fn fill(worker: &Worker) -> Vec<Lease> {
    let places = join_all((0..700).map(|_| worker.pool.acquire())).await;
    places.into_iter().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_full_deployment_gets_another_instance_and_gives_it_back() {
    let world = World::with(short(), two_instances());
    let worker = world.deploy(project("full")).await;
    let places = fill(&worker).await;
    load_until(&worker, 2, "/", || worker.pool.pids().len() == 2).await;
    let first = places[0].instance;
    assert_ne!(worker.pool.acquire().await.unwrap().instance, first);
    drop(places);
    load_until(&worker, 2, "/", || worker.pool.pids().len() == 1).await;
    assert_eq!(worker.pool.acquire().await.unwrap().instance, first);
}

#[tokio::test]
async fn a_further_instance_makes_way_for_another_deployment() {
    let capacity = CapacityLimits {
        processes: 2,
        ..two_instances()
    };
    let world = World::with(short(), capacity);
    let worker = world.deploy(project("full")).await;
    let other = world.deploy(project("other")).await;
    let places = fill(&worker).await;
    load_until(&worker, 2, "/", || worker.pool.pids().len() == 2).await;
    // The first instance is full all the while.
    assert_eq!(other.get("/").await.text(), "hello");
    assert_eq!(worker.pool.pids().len(), 1);
    assert_eq!(places.len(), 700);
}

// docs: workers platform/limits: an isolate that exceeds its memory ends what it has and a
// new one takes the next requests.
#[tokio::test]
async fn a_process_whose_memory_has_grown_is_replaced_and_ends_what_it_has_begun() {
    let capacity = CapacityLimits {
        memory_bytes_per_instance: 120 * 1024 * 1024,
        ..CapacityLimits::default()
    };
    // Its `waitUntil` must come before this.
    let times = WorkerTimes {
        wait_until: Duration::from_mins(10),
        ..short()
    };
    let world = World::with(times, capacity);
    let worker = world.deploy_with(project("grown"), true).await;
    worker.get("/").await;
    let old = worker.pool.pids();
    for _ in 0..3 {
        assert_eq!(worker.get("/grow").await.text(), "grown");
    }
    load_until(&worker, 2, "/", || {
        let now = worker.pool.pids();
        !now.is_empty() && now != old
    })
    .await;
    let directory = format!("/proc/{}", old[0]);
    assert!(
        std::path::Path::new(&directory).exists(),
        "it still has its waitUntil"
    );
    worker.gate.arrived(3).await;
    worker.gate.open(3);
    eventually("the end of the grown process", || {
        (!std::path::Path::new(&directory).exists()).then_some(())
    })
    .await;
    let written = world
        .storage
        .kv()
        .get(&"local".into(), &"load".into(), "later")
        .await
        .unwrap();
    assert!(written.value.is_some());
}

#[tokio::test]
async fn a_change_of_what_may_be_reached_replaces_running_processes_without_a_failed_request() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let answer =
                b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nreached";
            let _ = stream.write_all(answer).await;
        }
    });
    let world = World::with(short(), CapacityLimits::default());
    let worker = world.deploy(project("egress")).await;
    let path = format!("/reach?{port}");
    assert_eq!(worker.get(&path).await.text(), "reached");

    let public = Egress {
        allow: vec!["public".into()],
        deny: Vec::new(),
    };
    let old = worker.pool.pids();
    world.runtime.set_egress(public.clone());
    load_until(&worker, 2, "/", || {
        let now = worker.pool.pids();
        !now.is_empty() && now != old
    })
    .await;
    assert_ne!(worker.get(&path).await.text(), "reached");
    // The same again changes nothing.
    let now = worker.pool.pids();
    world.runtime.set_egress(public);
    worker.get("/").await;
    assert_eq!(worker.pool.pids(), now);
}

#[tokio::test]
async fn at_the_cap_of_memory_a_start_waits_until_an_idle_worker_has_left() {
    let capacity = CapacityLimits {
        memory_bytes: 1,
        ..CapacityLimits::default()
    };
    let world = World::with(short(), capacity);
    let first = world.deploy(project("first")).await;
    let second = world.deploy(project("second")).await;
    let lease = first.pool.acquire().await.unwrap();
    let waits = async {
        assert_eq!(second.get("/").await.text(), "hello");
        assert!(first.pool.pids().is_empty(), "it has made way");
    };
    let hold = async {
        // A busy one never makes way: it goes on answering while the other one waits.
        for _ in 0..20 {
            assert_eq!(first.get("/").await.text(), "hello");
        }
        assert!(second.pool.pids().is_empty());
        drop(lease);
    };
    join(waits, hold).await;
}
