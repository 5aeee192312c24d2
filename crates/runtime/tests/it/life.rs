//! The life of a worker's processes (workerd.md 10.12, DESIGN section 2).

use std::sync::Arc;
use std::time::Duration;

use engawa_model::{BindingKind, Version, WorkerPool as _, WorkerUnavailable};
use engawa_runtime::{CapacityLimits, WorkerTimes};
use futures_util::future::{join, join_all};

use crate::support::{PATIENCE, Worker, World, binding, eventually, gate, send, version};

const SCRIPT: &str = r"
import { abortIsolate } from 'cloudflare:workers';
export default {
  async fetch(request, env, ctx) {
    switch (new URL(request.url).pathname) {
      case '/gate': await env.GATE.fetch('http://gate/'); return new Response('through the gate');
      case '/stream': {
        const { readable, writable } = new TransformStream();
        const write = async () => {
          const writer = writable.getWriter();
          await writer.write(new TextEncoder().encode('first '));
          await env.GATE.fetch('http://gate/');
          await writer.write(new TextEncoder().encode('last'));
          await writer.close();
        };
        ctx.waitUntil(write());
        return new Response(readable);
      }
      case '/later':
        ctx.waitUntil((async () => {
          await env.GATE.fetch('http://gate/');
          await scheduler.wait(1000);
          await env.KV.put('later', 'written');
        })());
        return new Response('answered');
      case '/loop': for (;;);
      case '/abort': abortIsolate('on purpose'); return new Response('never');
      default: return new Response('hello');
    }
  },
};
";

fn project(name: &str) -> Version {
    version(
        name,
        SCRIPT,
        vec![
            gate(),
            binding("KV", BindingKind::KvNamespace("life".into())),
        ],
    )
}

/// Everything that production waits long for is short.
fn short() -> WorkerTimes {
    WorkerTimes {
        wait_until: Duration::from_millis(200),
        kill_after: Duration::from_secs(2),
        cpu: Duration::from_millis(500),
        ..WorkerTimes::default()
    }
}

async fn stored(world: &World) -> Option<Vec<u8>> {
    let found = world
        .storage
        .kv()
        .get(&"local".into(), &"life".into(), "later")
        .await
        .unwrap()
        .value?;
    Some(found.value.collect(100).await.unwrap().to_vec())
}

async fn gone(worker: &Worker) {
    tokio::time::timeout(PATIENCE, worker.pool.gone())
        .await
        .expect("the pool ends");
}

/// Neither runs nor waits to be reaped.
fn is_gone(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_hundred_requests_start_one_process() {
    let world = World::new();
    let worker = world.deploy(project("flight")).await;
    assert!(
        worker.pool.pids().is_empty(),
        "nothing runs before a request"
    );
    let leases = join_all((0..100).map(|_| worker.pool.acquire())).await;
    let instances: std::collections::BTreeSet<u64> = leases
        .iter()
        .map(|lease| lease.as_ref().unwrap().instance)
        .collect();
    assert_eq!(instances.len(), 1);
    assert_eq!(worker.pool.pids().len(), 1);
}

#[tokio::test]
async fn a_worker_that_does_not_start_says_why_and_is_not_started_again_at_once() {
    let world = World::new();
    let worker = world
        .deploy(version("broken", "export default { fetch( };", vec![]))
        .await;
    let Err(WorkerUnavailable::Failing(first)) = worker.pool.check().await else {
        panic!("it cannot start")
    };
    assert!(first.contains("SyntaxError"), "{first}");
    // Remembered: most requests get the same words, without a process of their own.
    let mut remembered = 0;
    for _ in 0..50 {
        let Err(WorkerUnavailable::Failing(reason)) = worker.pool.acquire().await.map(drop) else {
            panic!("it fails")
        };
        remembered += usize::from(Arc::ptr_eq(&first, &reason));
    }
    assert!(remembered > 0);
}

#[tokio::test]
async fn a_failing_worker_is_tried_again_when_its_wait_is_over() {
    let world = World::new();
    let worker = world
        .deploy(version("broken", "export default { fetch( };", vec![]))
        .await;
    let Err(WorkerUnavailable::Failing(first)) = worker.pool.check().await else {
        panic!("it cannot start")
    };
    let again = async {
        loop {
            let Err(WorkerUnavailable::Failing(reason)) = worker.pool.check().await else {
                panic!("it fails")
            };
            if !Arc::ptr_eq(&reason, &first) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("a second start");
}

#[tokio::test]
async fn an_aborted_isolate_costs_its_own_request_only() {
    let world = World::new();
    let worker = world.deploy(project("abort")).await;
    let broken = worker.fetch("GET", "/abort", "").await.unwrap_err();
    assert!(!broken.exceeded_limits);
    assert_eq!(worker.get("/").await.text(), "hello");
}

#[tokio::test]
async fn a_killed_process_is_reaped_and_followed_by_another() {
    let world = World::new();
    let worker = world.deploy(project("killed")).await;
    worker.get("/").await;
    let pid = worker.pool.pids()[0];
    kill(pid);
    eventually("the reaping", || is_gone(pid).then_some(())).await;
    assert_eq!(worker.get("/").await.text(), "hello");
    assert_ne!(worker.pool.pids(), [pid]);
}

#[tokio::test]
async fn requests_in_the_backlog_of_a_process_that_ends_go_to_the_next_one() {
    let world = World::new();
    let worker = world.deploy(project("backlog")).await;
    worker.get("/").await;
    let pid = worker.pool.pids()[0];
    // Stopped, it accepts nothing: what connects now waits in the backlog.
    let raw = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::STOP).unwrap();
    let lease = worker.pool.acquire().await.unwrap();
    let request = send(&lease, "GET", "/", "".into());
    let end = async {
        // The connection is made by the first poll of `request`.
        tokio::task::yield_now().await;
        kill(pid);
    };
    let (answer, ()) = tokio::time::timeout(PATIENCE, join(request, end))
        .await
        .expect("an answer");
    assert_eq!(answer.unwrap().text(), "hello");
}

#[tokio::test]
async fn a_busy_loop_is_ended_and_its_request_knows_why() {
    let world = World::with(short(), CapacityLimits::default());
    let worker = world.deploy(project("loop")).await;
    worker.get("/").await;
    let pid = worker.pool.pids()[0];
    let broken = tokio::time::timeout(PATIENCE, worker.fetch("GET", "/loop", ""))
        .await
        .expect("an end")
        .unwrap_err();
    assert!(broken.exceeded_limits);
    eventually("the reaping", || is_gone(pid).then_some(())).await;
    assert_eq!(worker.get("/").await.text(), "hello");
}

#[tokio::test]
async fn a_retired_worker_answers_what_it_has() {
    let world = World::with(short(), CapacityLimits::default());
    let worker = world.deploy(project("retired")).await;
    let slow = async { worker.get("/gate").await };
    let retire = async {
        worker.gate.arrived(1).await;
        worker.pool.retire();
        let refused = eventually_refused(&worker).await;
        assert!(matches!(refused, WorkerUnavailable::Stopping));
        worker.gate.open(1);
    };
    let (answer, ()) = join(slow, retire).await;
    assert_eq!(answer.text(), "through the gate");
    gone(&worker).await;
}

#[tokio::test]
async fn a_retired_worker_sends_its_streams_to_the_end() {
    let world = World::with(
        WorkerTimes {
            drain: Duration::ZERO,
            ..short()
        },
        CapacityLimits::default(),
    );
    let worker = world.deploy(project("streams")).await;
    let stream = async { worker.get("/stream").await };
    let retire = async {
        worker.gate.arrived(1).await;
        worker.pool.retire();
        eventually_refused(&worker).await;
        worker.gate.open(1);
    };
    // The client here does not tell the pool that the head has come, so it must not be
    // the drain of unanswered requests that it falls under.
    let lease = worker.pool.acquire().await.unwrap();
    lease.guard.answered();
    let (answer, ()) = join(stream, retire).await;
    drop(lease);
    assert_eq!(answer.text(), "first last");
    gone(&worker).await;
}

// docs: workers runtime-apis/context: waitUntil outlives the answer.
#[tokio::test]
async fn with_a_tail_a_retired_worker_ends_when_its_wait_until_has() {
    // So long that only the tail event can end it in time.
    let times = WorkerTimes {
        wait_until: Duration::from_mins(10),
        ..short()
    };
    let world = World::with(times, CapacityLimits::default());
    let worker = world.deploy_with(project("tailed"), true).await;
    assert_eq!(worker.get("/later").await.text(), "answered");
    worker.gate.arrived(1).await;
    worker.pool.retire();
    eventually_refused(&worker).await;
    assert_eq!(stored(&world).await, None);
    worker.gate.open(1);
    gone(&worker).await;
    assert_eq!(stored(&world).await.as_deref(), Some(&b"written"[..]));
}

#[tokio::test]
async fn without_a_tail_a_retired_worker_leaves_wait_until_its_time() {
    let times = WorkerTimes {
        wait_until: Duration::from_secs(6),
        ..short()
    };
    let world = World::with(times, CapacityLimits::default());
    let worker = world.deploy(project("untailed")).await;
    worker.gate.open(1);
    assert_eq!(worker.get("/later").await.text(), "answered");
    worker.pool.retire();
    gone(&worker).await;
    assert_eq!(stored(&world).await.as_deref(), Some(&b"written"[..]));
}

#[tokio::test]
async fn hurrying_ends_requests_and_processes_at_once() {
    let world = World::new();
    let worker = world.deploy(project("hurried")).await;
    let slow = worker.fetch("GET", "/gate", "");
    let hurry = async {
        worker.gate.arrived(1).await;
        let pids = worker.pool.pids();
        worker.pool.retire();
        worker.pool.hurry();
        pids
    };
    let (answer, pids) = join(slow, hurry).await;
    assert!(answer.is_err());
    gone(&worker).await;
    assert!(pids.into_iter().all(is_gone));
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    for forgotten in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (program, pid_file) = (dir.path().join("silent"), dir.path().join("pid"));
        let text = format!(
            "#!/bin/sh\necho $$ > {}\nexec /bin/sleep 1000\n",
            pid_file.display()
        );
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(
            &program,
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        let world = World::with_program(program, short(), CapacityLimits::default());
        let worker = world.deploy(project("silent")).await;
        let read_pid = || {
            std::fs::read_to_string(&pid_file)
                .ok()?
                .trim()
                .parse::<u32>()
                .ok()
        };
        let started = async {
            let pid = eventually("the start", read_pid).await;
            if !forgotten {
                worker.pool.retire();
            }
            pid
        };
        let pid = if forgotten {
            // The request goes away, then everything else.
            tokio::select! {
                biased;
                pid = started => pid,
                _ = worker.pool.acquire() => panic!("it never listens"),
            }
        } else {
            let (refused, pid) = join(worker.pool.acquire(), started).await;
            assert!(matches!(
                refused.map(drop),
                Err(WorkerUnavailable::Stopping)
            ));
            gone(&worker).await;
            pid
        };
        drop(worker);
        eventually("the reaping", || is_gone(pid).then_some(())).await;
    }
}

#[tokio::test]
async fn a_pool_that_is_dropped_leaves_no_process() {
    let world = World::with(short(), CapacityLimits::default());
    let worker = world.deploy(project("dropped")).await;
    worker.get("/").await;
    let pid = worker.pool.pids()[0];
    drop(worker);
    eventually("the end of a forgotten worker", || {
        is_gone(pid).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replacing_an_instance_drops_no_request() {
    let world = World::with(short(), CapacityLimits::default());
    let worker = world.deploy(project("replaced")).await;
    worker.get("/").await;
    let old = worker.pool.pids();
    let slow = async { worker.get("/gate").await };
    let replace = async {
        worker.gate.arrived(1).await;
        worker.pool.replace();
        // Requests go on being answered, by the old one or the new one.
        loop {
            assert_eq!(worker.get("/").await.text(), "hello");
            if worker.pool.pids() != old && !worker.pool.pids().is_empty() {
                break;
            }
        }
        assert!(!is_gone(old[0]), "the old one still has a request");
        worker.gate.open(1);
    };
    let (answer, ()) = join(slow, replace).await;
    assert_eq!(answer.text(), "through the gate");
    eventually("the end of the old process", || {
        is_gone(old[0]).then_some(())
    })
    .await;
    assert_eq!(worker.get("/").await.text(), "hello");
}

#[tokio::test]
async fn the_idle_worker_used_longest_ago_makes_way_and_a_busy_one_never() {
    let capacity = CapacityLimits {
        processes: 3,
        ..CapacityLimits::default()
    };
    let world = World::with(short(), capacity);
    let [busy, older, newer, late] = [
        world.deploy(project("busy")).await,
        world.deploy(project("older")).await,
        world.deploy(project("newer")).await,
        world.deploy(project("late")).await,
    ];
    let in_flight = async { busy.get("/gate").await };
    let others = async {
        busy.gate.arrived(1).await;
        older.get("/").await;
        newer.get("/").await;
        assert_eq!(late.get("/").await.text(), "hello");
        assert!(
            older.pool.pids().is_empty(),
            "the one used longest ago is cold"
        );
        assert_eq!(
            (
                busy.pool.pids().len(),
                newer.pool.pids().len(),
                late.pool.pids().len()
            ),
            (1, 1, 1)
        );
        // It comes back when it is wanted.
        assert_eq!(older.get("/").await.text(), "hello");
        busy.gate.open(1);
    };
    let (answer, ()) = join(in_flight, others).await;
    assert_eq!(answer.text(), "through the gate");
}

#[tokio::test]
async fn a_project_at_its_cap_evicts_only_itself() {
    let capacity = CapacityLimits {
        processes_per_project: 1,
        ..CapacityLimits::default()
    };
    let world = World::with(short(), capacity);
    let other = world.deploy(project("other")).await;
    other.get("/").await;
    let first = world.deploy(project("crawled")).await;
    let second = world.deploy(project("crawled")).await;
    first.get("/").await;
    assert_eq!(second.get("/").await.text(), "hello");
    assert!(first.pool.pids().is_empty());
    assert_eq!(other.pool.pids().len(), 1);
}

/// `retire` is an order; it has been carried out when the pool refuses.
async fn eventually_refused(worker: &Worker) -> WorkerUnavailable {
    loop {
        // No lease: one that carries no request would count as a request all the same.
        if let Err(refused) = worker.pool.check().await {
            return refused;
        }
        tokio::task::yield_now().await;
    }
}
