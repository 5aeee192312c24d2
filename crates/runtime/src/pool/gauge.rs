//! How busy and how large the processes of one pool are.
//!
//! Looked at by the clock, and only while requests come: an idle pool costs a counter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::IN_FLIGHT_MAX;
use super::instance::{Instance, uptime_ms};
use crate::capacity::CapacityLimits;
use crate::life::{Event, WorkerTimes};
use crate::process::Process;
use crate::scale::{Change, Look, Scale};

/// Between two looks.
pub(super) const EVERY: Duration = Duration::from_millis(500);

pub(super) struct Gauge {
    scale: Scale,
    memory_bytes: u64,
    spare_cores: f32,
    replace_after: Duration,
    seen: HashMap<u64, Seen>,
    last: Option<Last>,
}

/// What is remembered of an instance.
struct Seen {
    first: Instant,
    requests: u64,
    cpu: Duration,
}

/// The last look.
struct Last {
    at: Instant,
    machine_idle: Duration,
}

impl Gauge {
    pub(super) fn new(limits: &CapacityLimits, times: &WorkerTimes) -> Self {
        let fewer_after_ms = u64::try_from(times.fewer_after.as_millis()).unwrap_or(u64::MAX);
        Self {
            scale: Scale::new(IN_FLIGHT_MAX / 4 * 3, fewer_after_ms),
            memory_bytes: limits.memory_bytes_per_instance,
            spare_cores: limits.spare_cores,
            replace_after: times.replace_after,
            seen: HashMap::new(),
            last: None,
        }
    }

    /// Looks at every live instance; returns what the worker's life should hear of.
    pub(super) fn look(&mut self, live: &[Arc<Instance>]) -> Vec<Event> {
        self.seen
            .retain(|number, _| live.iter().any(|instance| instance.number() == *number));
        let used = live.iter().any(|instance| {
            let before = self.seen.get(&instance.number());
            instance.in_flight() > 0
                || before.map_or(0, |seen| seen.requests) != instance.requests()
        });
        if !used {
            self.last = None;
            let looks = vec![Look::default(); live.len()];
            let change = self.scale.look(&looks, false, uptime_ms());
            return change.map(event).into_iter().collect();
        }

        let now = Instant::now();
        let machine_idle = machine_idle();
        let (elapsed, idle) = self.last.as_ref().map_or((0.0, 0.0), |last| {
            let idle = machine_idle.saturating_sub(last.machine_idle);
            ((now - last.at).as_secs_f32(), idle.as_secs_f32())
        });
        let per_second = |seconds: f32| {
            if elapsed > 0.0 {
                seconds / elapsed
            } else {
                0.0
            }
        };
        self.last = Some(Last {
            at: now,
            machine_idle,
        });
        let mut events = Vec::new();
        let mut looks = Vec::with_capacity(live.len());
        for instance in live {
            let cpu = instance.process().map_or(Duration::ZERO, Process::cpu_time);
            let seen = self.seen.entry(instance.number()).or_insert(Seen {
                first: now,
                requests: 0,
                cpu,
            });
            looks.push(Look {
                cpu: per_second(cpu.saturating_sub(seen.cpu).as_secs_f32()),
                in_flight: instance.in_flight(),
            });
            seen.cpu = cpu;
            seen.requests = instance.requests();
            let memory_bytes = instance.process().map_or(0, Process::memory_bytes);
            if memory_bytes > self.memory_bytes && now - seen.first >= self.replace_after {
                events.push(Event::ReplaceOne(instance.number()));
            }
        }
        let has_core = per_second(idle) >= self.spare_cores;
        events.extend(self.scale.look(&looks, has_core, uptime_ms()).map(event));
        events
    }
}

fn event(change: Change) -> Event {
    match change {
        Change::More => Event::More,
        Change::Fewer => Event::Fewer,
    }
}

/// Time that the machine's cores have idled since it started, all of them together.
fn machine_idle() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    // `cpu user nice system idle iowait …`, in ticks of 10 ms.
    let ticks = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(4)
        .take(2)
        .map(|field| field.parse().unwrap_or(0));
    Duration::from_millis(10 * ticks.sum::<u64>())
}
