//! The life of a deployment's worker, as a pure state machine: events and the time go
//! in, effects come out. The shell in `pool.rs` performs them.
//!
//! A worker is *cold* (no instance), *starting*, *live*, *draining* or *failing*, and so
//! is each of its instances; only a request, or a deployment's check, starts one.
//! An instance leaves in a fixed order: it is chosen no more, the gateway's requests
//! end, `waitUntil` gets what Cloudflare grants it, then SIGTERM, then SIGKILL. SIGTERM
//! is never the first step, because workerd drops pending `waitUntil` and closes pooled
//! connections at once.

use std::sync::Arc;

/// How long requests that have no answer yet may hold up an instance that leaves.
const DRAIN_MS: u64 = 30_000;
/// How long a stream or a WebSocket may (a new version).
const DRAIN_STREAMS_MS: u64 = 5 * 60_000;
/// What `waitUntil` gets after the last answer (docs: workers runtime-apis/context).
const WAIT_UNTIL_MS: u64 = 30_000;
/// From SIGTERM to SIGKILL.
const KILL_AFTER_MS: u64 = 5_000;
/// The first wait after a failure; it doubles up to [`RETRY_MAX_MS`].
const RETRY_FIRST_MS: u64 = 500;
const RETRY_MAX_MS: u64 = 60_000;
/// An instance that lived this long was healthy: its end is no repeated failure.
const HEALTHY_AFTER_MS: u64 = 30_000;

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A request found no live instance.
    Wanted,
    /// An instance listens.
    Started(u64),
    /// An instance did not come to listen.
    StartFailed(u64, Arc<str>),
    /// A process has ended, wanted or not.
    Ended(u64),
    /// Exchange every instance for a new one (grown memory, changed egress).
    Replace,
    /// No new requests come: let everything end.
    Retire,
    /// Make room: the worker is idle and becomes cold.
    Evict,
    /// Cut all waiting short.
    Hurry,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start a process under this number.
    Start(u64),
    /// Send SIGTERM.
    Terminate(u64),
    /// Send SIGKILL.
    Kill(u64),
}

/// What is under way at an instance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    /// Requests without an answer yet.
    pub(crate) unanswered: usize,
    /// Answers still streaming, and WebSockets.
    pub(crate) streaming: usize,
    /// It is known that no `waitUntil` is pending.
    pub(crate) settled: bool,
}

/// What a request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Availability {
    /// No instance, none coming.
    Cold,
    /// One is coming.
    Starting,
    /// There are live instances.
    Live,
    /// The last start failed, and its wait has not passed.
    Failing(Arc<str>),
    /// It goes away.
    Retired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting { replacement: bool },
    Live { since_ms: u64 },
    Draining { since_ms: u64 },
    Lingering { until_ms: u64 },
    Terminating { kill_at_ms: u64 },
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Life {
    instances: Vec<(u64, Stage)>,
    wanted: usize,
    next_number: u64,
    failures: u32,
    failing: Option<(u64, Arc<str>)>,
    retired: bool,
}

impl Life {
    /// A cold worker that runs `wanted` instances when it is wanted. Instances are
    /// numbered from `first_number` on.
    pub(crate) fn new(wanted: usize, first_number: u64) -> Self {
        Self {
            instances: Vec::new(),
            wanted: wanted.max(1),
            next_number: first_number,
            failures: 0,
            failing: None,
            retired: false,
        }
    }

    /// Takes an event; returns what to do about it.
    pub(crate) fn on(&mut self, event: Event, now_ms: u64, load: impl Fn(u64) -> Load) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Wanted => self.want(now_ms, &mut effects),
            Event::Started(number) => self.started(number, now_ms),
            Event::StartFailed(number, reason) => {
                self.instances.retain(|(other, _)| *other != number);
                self.fail(now_ms, reason);
            }
            Event::Ended(number) => self.ended(number, now_ms),
            Event::Replace => {
                for _ in 0..self.live().count() {
                    self.start(true, &mut effects);
                }
            }
            Event::Retire => {
                self.retired = true;
                self.drain(now_ms, |_| true);
            }
            Event::Evict => self.drain(now_ms, |_| true),
            Event::Hurry => {
                self.retired = true;
                for (number, stage) in &mut self.instances {
                    if !matches!(stage, Stage::Terminating { .. }) {
                        *stage = Stage::Terminating { kill_at_ms: now_ms };
                    }
                    effects.push(Effect::Kill(*number));
                }
            }
            Event::Tick => {}
        }
        self.advance(now_ms, load, &mut effects);
        effects
    }

    /// Numbers of the instances that may be given requests.
    pub(crate) fn live(&self) -> impl Iterator<Item = u64> {
        self.instances
            .iter()
            .filter(|(_, stage)| matches!(stage, Stage::Live { .. }))
            .map(|(number, _)| *number)
    }

    /// Whether time alone will change something.
    pub(crate) fn ticking(&self) -> bool {
        self.instances.iter().any(|(_, stage)| {
            matches!(stage, Stage::Draining { .. } | Stage::Lingering { .. } | Stage::Terminating { .. })
        })
    }

    /// Whether nothing is left of it.
    pub(crate) fn gone(&self) -> bool {
        self.retired && self.instances.is_empty()
    }

    /// What a request meets.
    pub(crate) fn availability(&self, now_ms: u64) -> Availability {
        if self.retired {
            return Availability::Retired;
        }
        if self.live().next().is_some() {
            return Availability::Live;
        }
        match &self.failing {
            Some((until_ms, reason)) if now_ms < *until_ms => Availability::Failing(Arc::clone(reason)),
            _ if self.instances.iter().any(|(_, stage)| matches!(stage, Stage::Starting { .. })) => {
                Availability::Starting
            }
            _ => Availability::Cold,
        }
    }

    fn want(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if !matches!(self.availability(now_ms), Availability::Cold | Availability::Live) {
            return;
        }
        let running = self
            .instances
            .iter()
            .filter(|(_, stage)| matches!(stage, Stage::Live { .. } | Stage::Starting { .. }))
            .count();
        for _ in running..self.wanted {
            self.start(false, effects);
        }
    }

    fn start(&mut self, replacement: bool, effects: &mut Vec<Effect>) {
        let number = self.next_number;
        self.next_number += 1;
        self.instances.push((number, Stage::Starting { replacement }));
        effects.push(Effect::Start(number));
    }

    fn started(&mut self, number: u64, now_ms: u64) {
        let retired = self.retired;
        let Some((_, stage)) = self.instances.iter_mut().find(|(other, _)| *other == number) else { return };
        let Stage::Starting { replacement } = *stage else { return };
        if retired {
            *stage = Stage::Draining { since_ms: now_ms };
            return;
        }
        *stage = Stage::Live { since_ms: now_ms };
        self.failing = None;
        if replacement {
            // The oldest live one makes way.
            let oldest = self.live().find(|other| *other != number);
            self.drain(now_ms, |other| Some(other) == oldest);
        }
    }

    fn fail(&mut self, now_ms: u64, reason: Arc<str>) {
        let wait_ms = RETRY_FIRST_MS.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX_MS);
        self.failures += 1;
        self.failing = Some((now_ms + wait_ms, reason));
    }

    fn ended(&mut self, number: u64, now_ms: u64) {
        let Some(position) = self.instances.iter().position(|(other, _)| *other == number) else { return };
        let (_, stage) = self.instances.remove(position);
        if let Stage::Live { since_ms } = stage {
            // Nobody asked for it. The first such end costs nothing: the next request
            // starts another. Quick repeats wait longer and longer.
            if now_ms.saturating_sub(since_ms) >= HEALTHY_AFTER_MS {
                self.failures = 0;
            } else if self.failures == 0 {
                self.failures = 1;
            } else {
                self.fail(now_ms, Arc::from("the worker's process ends again and again"));
            }
        }
    }

    fn drain(&mut self, now_ms: u64, chosen: impl Fn(u64) -> bool) {
        for (number, stage) in &mut self.instances {
            if matches!(stage, Stage::Live { .. }) && chosen(*number) {
                *stage = Stage::Draining { since_ms: now_ms };
            }
        }
    }

    /// Moves leaving instances on to their next stage when its time has come.
    fn advance(&mut self, now_ms: u64, load: impl Fn(u64) -> Load, effects: &mut Vec<Effect>) {
        for (number, stage) in &mut self.instances {
            let Load { unanswered, streaming, settled } = load(*number);
            if let Stage::Draining { since_ms } = *stage {
                let waited_ms = now_ms.saturating_sub(since_ms);
                let answered = unanswered == 0 || waited_ms >= DRAIN_MS;
                if answered && (streaming == 0 || waited_ms >= DRAIN_STREAMS_MS) {
                    *stage = Stage::Lingering { until_ms: now_ms + WAIT_UNTIL_MS };
                }
            }
            if let Stage::Lingering { until_ms } = *stage
                && (settled || now_ms >= until_ms)
            {
                *stage = Stage::Terminating { kill_at_ms: now_ms + KILL_AFTER_MS };
                effects.push(Effect::Terminate(*number));
            }
            if let Stage::Terminating { kill_at_ms } = *stage
                && now_ms >= kill_at_ms
            {
                *stage = Stage::Terminating { kill_at_ms: u64::MAX };
                effects.push(Effect::Kill(*number));
            }
        }
    }
}

#[cfg(test)]
mod tests;
