//! The life of a deployment's worker, as a pure state machine: events and the time go
//! in, effects come out. The shell in `pool.rs` performs them.
//!
//! A worker is *cold* (no instance), *starting*, *live*, *draining* or *failing*, and so
//! is each of its instances; only a request, or a deployment's check, starts one.
//! An instance leaves in a fixed order: it is chosen no more, the gateway's requests
//! end, `waitUntil` gets what Cloudflare grants it, then SIGTERM, then SIGKILL. SIGTERM
//! is never the first step, because workerd drops pending `waitUntil` and closes pooled
//! connections at once.
//!
//! There is one instance, and one more at a time while `scale.rs` finds all of them busy.
//! One that is *outdated* (its memory has grown, or what it may reach has changed) leaves
//! when its successor listens, or without a successor when it is idle: the next request
//! starts a new one then.

use std::sync::Arc;
use std::time::Duration;

/// The first wait after a failure; it doubles up to [`RETRY_MAX_MS`].
const RETRY_FIRST_MS: u64 = 500;
const RETRY_MAX_MS: u64 = 60_000;
/// An instance that lived this long was healthy: its end is no repeated failure.
const HEALTHY_AFTER_MS: u64 = 30_000;

/// How long a worker is given. The defaults are what production uses.
#[derive(Debug, Clone)]
pub struct WorkerTimes {
    /// How long requests that have no answer yet may hold up an instance that leaves.
    pub drain: Duration,
    /// How long a stream or a WebSocket may.
    pub drain_streams: Duration,
    /// What `waitUntil` gets after the last answer (docs: workers runtime-apis/context).
    /// A worker is idle, and may make way for others, when it has had this.
    pub wait_until: Duration,
    /// From SIGTERM to SIGKILL.
    pub kill_after: Duration,
    /// CPU time that a process may use without answering a ping (docs: workers limits).
    pub cpu: Duration,
    /// How long one instance fewer must have been enough before one goes.
    pub fewer_after: Duration,
    /// An instance serves at least this long before it is replaced for its memory, so that
    /// a worker that needs much from its start is not started over and over.
    pub replace_after: Duration,
}

impl Default for WorkerTimes {
    fn default() -> Self {
        Self {
            drain: Duration::from_secs(30),
            drain_streams: Duration::from_mins(5),
            wait_until: Duration::from_secs(30),
            kill_after: Duration::from_secs(5),
            cpu: Duration::from_secs(30),
            fewer_after: Duration::from_mins(1),
            replace_after: Duration::from_mins(1),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A request found no live instance.
    Wanted,
    /// An instance listens.
    Started(u64),
    /// An instance did not come to listen.
    StartFailed(u64, Arc<str>),
    /// There was no room for its process, which is no fault of the worker.
    NoRoom(u64),
    /// A process has ended, wanted or not.
    Ended(u64),
    /// Exchange every instance for a new one (changed egress).
    Replace,
    /// Exchange this one (grown memory).
    ReplaceOne(u64),
    /// All instances are busy: add one.
    More,
    /// One can be spared.
    Fewer,
    /// No new requests come: let everything end.
    Retire,
    /// Make room: what is idle leaves.
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
    /// Send SIGKILL, or give up the start.
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
    /// Time since the last request ended, or since the start.
    pub(crate) idle_ms: u64,
}

impl Load {
    fn in_flight(self) -> usize {
        self.unanswered + self.streaming
    }
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
    /// The last start failed; another is tried from `until_ms` on.
    Failing {
        /// When the wait is over.
        until_ms: u64,
        /// Why it failed.
        reason: Arc<str>,
    },
    /// It goes away.
    Retired,
}

/// What an instance is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Requests wait for it.
    Needed,
    /// Others serve too: it is a help, for which nobody else makes way.
    Extra,
    /// To take the place of an outdated one.
    Replacement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting { purpose: Purpose },
    Live { since_ms: u64 },
    Draining { since_ms: u64 },
    Lingering { since_ms: u64 },
    Terminating { kill_at_ms: u64 },
}

/// The state machine.
#[derive(Debug)]
pub(crate) struct Life {
    times: WorkerTimes,
    /// Oldest first.
    instances: Vec<(u64, Stage)>,
    /// Live or starting ones that are to be replaced.
    outdated: Vec<u64>,
    /// Instances that there are to be while it is not cold, and how many there may be.
    wanted: usize,
    most: usize,
    next_number: u64,
    failures: u32,
    failing: Option<(u64, Arc<str>)>,
    retired: bool,
}

impl Life {
    /// A cold worker that runs at `most` so many instances. They are numbered from
    /// `first_number` on.
    pub(crate) fn new(most: usize, first_number: u64, times: WorkerTimes) -> Self {
        Self {
            times,
            instances: Vec::new(),
            outdated: Vec::new(),
            wanted: 1,
            most: most.max(1),
            next_number: first_number,
            failures: 0,
            failing: None,
            retired: false,
        }
    }

    /// Takes an event; returns what to do about it.
    pub(crate) fn on(
        &mut self,
        event: Event,
        now_ms: u64,
        load: impl Fn(u64) -> Load,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Wanted => self.want(now_ms, &mut effects),
            Event::Started(number) => self.started(number, now_ms),
            Event::StartFailed(number, reason) => {
                self.forget(number);
                self.fail(now_ms, reason);
            }
            Event::NoRoom(number) => {
                self.forget(number);
                self.wanted = self.live().count().max(1);
            }
            Event::Ended(number) => self.ended(number, now_ms, load(number), &mut effects),
            Event::Replace => {
                let serving =
                    |stage: &Stage| matches!(stage, Stage::Live { .. } | Stage::Starting { .. });
                self.outdated = self
                    .instances
                    .iter()
                    .filter(|(_, stage)| serving(stage))
                    .map(|(number, _)| *number)
                    .collect();
            }
            Event::ReplaceOne(number) => {
                if self.live().any(|live| live == number) && !self.outdated.contains(&number) {
                    self.outdated.push(number);
                }
            }
            Event::More => {
                let live = self.live().count();
                let may = !self.retired && !self.starting() && !self.waits(now_ms);
                if may && (1..self.most).contains(&live) {
                    self.wanted = live + 1;
                    self.start(Purpose::Extra, &mut effects);
                }
            }
            Event::Fewer => {
                if self.live().count() > 1 {
                    let youngest = self.live().last();
                    self.drain(now_ms, |number| Some(number) == youngest);
                    self.wanted = self.live().count();
                }
            }
            Event::Retire => {
                self.retired = true;
                self.drain(now_ms, |_| true);
                // Nobody waits any more for what is still starting.
                self.kill(
                    |stage| matches!(stage, Stage::Starting { .. }),
                    &mut effects,
                );
            }
            Event::Evict => {
                let idle_ms = millis(self.times.wait_until);
                self.drain(now_ms, |number| {
                    let load = load(number);
                    load.in_flight() == 0 && load.idle_ms >= idle_ms
                });
            }
            Event::Hurry => {
                self.retired = true;
                self.kill(|_| true, &mut effects);
            }
            Event::Tick => {}
        }
        self.renew(now_ms, &load, &mut effects);
        if !self.starting() && self.live().next().is_none() {
            self.wanted = 1;
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
        !self.outdated.is_empty()
            || self.count(|stage| {
                matches!(
                    stage,
                    Stage::Draining { .. } | Stage::Lingering { .. } | Stage::Terminating { .. }
                )
            }) > 0
    }

    /// What a starting instance is for.
    pub(crate) fn purpose(&self, number: u64) -> Purpose {
        self.instances
            .iter()
            .find_map(|(other, stage)| match stage {
                Stage::Starting { purpose } if *other == number => Some(*purpose),
                _ => None,
            })
            .unwrap_or(Purpose::Needed)
    }

    /// Whether an instance is on its way to be live.
    pub(crate) fn starting(&self) -> bool {
        self.count(|stage| matches!(stage, Stage::Starting { .. })) > 0
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
            Some((until_ms, reason)) if now_ms < *until_ms => Availability::Failing {
                until_ms: *until_ms,
                reason: Arc::clone(reason),
            },
            _ if self.starting() => Availability::Starting,
            _ => Availability::Cold,
        }
    }

    fn count(&self, of: impl Fn(&Stage) -> bool) -> usize {
        self.instances.iter().filter(|(_, stage)| of(stage)).count()
    }

    /// Whether a start failed so lately that none is tried.
    fn waits(&self, now_ms: u64) -> bool {
        self.failing
            .as_ref()
            .is_some_and(|(until_ms, _)| now_ms < *until_ms)
    }

    fn want(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if !matches!(
            self.availability(now_ms),
            Availability::Cold | Availability::Live
        ) {
            return;
        }
        let running =
            self.count(|stage| matches!(stage, Stage::Live { .. } | Stage::Starting { .. }));
        for number in running..self.wanted {
            let purpose = if number == 0 {
                Purpose::Needed
            } else {
                Purpose::Extra
            };
            self.start(purpose, effects);
        }
    }

    /// Starts successors of what is outdated. What is idle leaves without one.
    fn renew(&mut self, now_ms: u64, load: impl Fn(u64) -> Load, effects: &mut Vec<Effect>) {
        if !self.live().any(|live| self.outdated.contains(&live)) {
            return;
        }
        let outdated = self.outdated.clone();
        let idle_ms = millis(self.times.wait_until);
        self.drain(now_ms, |number| {
            let load = load(number);
            outdated.contains(&number) && load.in_flight() == 0 && load.idle_ms >= idle_ms
        });
        if self.retired || self.waits(now_ms) {
            return;
        }
        let coming = self.count(|stage| {
            matches!(
                stage,
                Stage::Starting {
                    purpose: Purpose::Replacement
                }
            )
        });
        let due = self
            .live()
            .filter(|live| self.outdated.contains(live))
            .count();
        for _ in coming..due {
            self.start(Purpose::Replacement, effects);
        }
    }

    fn start(&mut self, purpose: Purpose, effects: &mut Vec<Effect>) {
        let number = self.next_number;
        self.next_number += 1;
        self.instances.push((number, Stage::Starting { purpose }));
        effects.push(Effect::Start(number));
    }

    fn started(&mut self, number: u64, now_ms: u64) {
        let Some((_, stage)) = self
            .instances
            .iter_mut()
            .find(|(other, _)| *other == number)
        else {
            return;
        };
        let Stage::Starting { purpose } = *stage else {
            return;
        };
        *stage = Stage::Live { since_ms: now_ms };
        self.failing = None;
        if purpose == Purpose::Replacement {
            // The oldest outdated one makes way. Should that have ended by itself, its
            // successor is there already.
            let leaves = self
                .live()
                .find(|other| *other != number && self.outdated.contains(other));
            self.drain(now_ms, |other| Some(other) == leaves);
        }
    }

    fn fail(&mut self, now_ms: u64, reason: Arc<str>) {
        let wait_ms = RETRY_FIRST_MS
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.failing = Some((now_ms + wait_ms, reason));
    }

    fn forget(&mut self, number: u64) -> Option<Stage> {
        self.outdated.retain(|other| *other != number);
        let position = self
            .instances
            .iter()
            .position(|(other, _)| *other == number)?;
        Some(self.instances.remove(position).1)
    }

    fn ended(&mut self, number: u64, now_ms: u64, load: Load, effects: &mut Vec<Effect>) {
        let Some(Stage::Live { since_ms }) = self.forget(number) else {
            return;
        };
        // Nobody asked for it. The first such end costs nothing. Quick repeats wait longer
        // and longer.
        if now_ms.saturating_sub(since_ms) >= HEALTHY_AFTER_MS {
            self.failures = 0;
        } else if self.failures == 0 {
            self.failures = 1;
        } else {
            self.fail(
                now_ms,
                Arc::from("the worker's process ends again and again"),
            );
        }
        // Requests that wait in the backlog of its socket ask for nothing again: the next
        // process finds them there.
        if load.unanswered > 0 && !self.retired && !self.starting() && !self.waits(now_ms) {
            self.start(Purpose::Needed, effects);
        }
    }

    fn drain(&mut self, now_ms: u64, chosen: impl Fn(u64) -> bool) {
        for (number, stage) in &mut self.instances {
            if let Stage::Live { since_ms } = *stage
                && chosen(*number)
            {
                if now_ms.saturating_sub(since_ms) >= HEALTHY_AFTER_MS {
                    self.failures = 0;
                }
                *stage = Stage::Draining { since_ms: now_ms };
                self.outdated.retain(|other| other != number);
            }
        }
    }

    fn kill(&mut self, chosen: impl Fn(&Stage) -> bool, effects: &mut Vec<Effect>) {
        for (number, stage) in &mut self.instances {
            if chosen(stage) {
                *stage = Stage::Terminating {
                    kill_at_ms: u64::MAX,
                };
                self.outdated.retain(|other| other != number);
                effects.push(Effect::Kill(*number));
            }
        }
    }

    /// Moves leaving instances on to their next stage when its time has come.
    fn advance(&mut self, now_ms: u64, load: impl Fn(u64) -> Load, effects: &mut Vec<Effect>) {
        for (number, stage) in &mut self.instances {
            let load = load(*number);
            if let Stage::Draining { since_ms } = *stage {
                let waited_ms = now_ms.saturating_sub(since_ms);
                let answered = load.unanswered == 0 || waited_ms >= millis(self.times.drain);
                let streamed = load.streaming == 0 || waited_ms >= millis(self.times.drain_streams);
                // Never in the step that took it out of choice: a request may have chosen it
                // a moment before, and is counted by the next tick.
                if waited_ms > 0 && answered && streamed {
                    *stage = Stage::Lingering { since_ms: now_ms };
                }
            }
            if let Stage::Lingering { since_ms } = *stage {
                let wait_until_ms = millis(self.times.wait_until);
                let rested = load.in_flight() == 0 && load.idle_ms >= wait_until_ms;
                if load.settled || rested || now_ms.saturating_sub(since_ms) >= wait_until_ms {
                    *stage = Stage::Terminating {
                        kill_at_ms: now_ms + millis(self.times.kill_after),
                    };
                    effects.push(Effect::Terminate(*number));
                }
            }
            if let Stage::Terminating { kill_at_ms } = *stage
                && now_ms >= kill_at_ms
            {
                *stage = Stage::Terminating {
                    kill_at_ms: u64::MAX,
                };
                effects.push(Effect::Kill(*number));
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
