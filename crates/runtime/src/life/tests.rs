//! The state machine alone: no process, no clock.

use super::*;

/// A request has just ended, and may have left a `waitUntil`.
const IDLE: Load = Load {
    unanswered: 0,
    streaming: 0,
    settled: false,
    idle_ms: 0,
};

fn on(life: &mut Life, event: Event, now_ms: u64) -> Vec<Effect> {
    life.on(event, now_ms, |_| IDLE)
}

fn live_worker() -> Life {
    let mut life = Life::new(1, 0, WorkerTimes::default());
    assert_eq!(on(&mut life, Event::Wanted, 0), [Effect::Start(0)]);
    on(&mut life, Event::Started(0), 10);
    life
}

#[test]
fn many_requests_start_one_process() {
    let mut life = Life::new(1, 7, WorkerTimes::default());
    assert_eq!(on(&mut life, Event::Wanted, 0), [Effect::Start(7)]);
    assert_eq!(on(&mut life, Event::Wanted, 1), []);
    assert_eq!(life.availability(1), Availability::Starting);
    on(&mut life, Event::Started(7), 2);
    assert_eq!(life.live().collect::<Vec<_>>(), [7]);
    assert_eq!(on(&mut life, Event::Wanted, 3), []);
}

#[test]
fn a_failed_start_is_remembered_with_growing_waits() {
    let mut life = Life::new(1, 0, WorkerTimes::default());
    let mut now_ms = 0;
    let mut waits = Vec::new();
    for number in 0..9 {
        assert_eq!(
            on(&mut life, Event::Wanted, now_ms),
            [Effect::Start(number)]
        );
        on(&mut life, Event::StartFailed(number, "no".into()), now_ms);
        let failed_at = now_ms;
        assert_eq!(on(&mut life, Event::Wanted, now_ms), []);
        while matches!(life.availability(now_ms), Availability::Failing { .. }) {
            now_ms += 100;
        }
        waits.push(now_ms - failed_at);
    }
    assert_eq!(
        waits,
        [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
    );
}

#[test]
fn the_first_crash_costs_no_wait_and_quick_repeats_do() {
    let mut life = live_worker();
    on(&mut life, Event::Ended(0), 20);
    assert_eq!(life.availability(20), Availability::Cold);
    assert_eq!(on(&mut life, Event::Wanted, 21), [Effect::Start(1)]);
    on(&mut life, Event::Started(1), 30);
    on(&mut life, Event::Ended(1), 40);
    assert!(matches!(
        life.availability(40),
        Availability::Failing { .. }
    ));
}

#[test]
fn a_leaving_instance_waits_for_requests_then_for_wait_until_then_gets_sigterm_then_sigkill() {
    let mut life = live_worker();
    let busy = |_| Load {
        unanswered: 1,
        ..IDLE
    };
    assert_eq!(life.on(Event::Retire, 1000, busy), []);
    assert_eq!(life.live().count(), 0);
    assert_eq!(life.on(Event::Tick, 2000, busy), []);
    assert_eq!(on(&mut life, Event::Tick, 3000), []);
    assert_eq!(on(&mut life, Event::Tick, 32_999), []);
    assert_eq!(on(&mut life, Event::Tick, 33_000), [Effect::Terminate(0)]);
    assert_eq!(on(&mut life, Event::Tick, 37_999), []);
    assert_eq!(on(&mut life, Event::Tick, 38_000), [Effect::Kill(0)]);
    assert!(!life.gone());
    on(&mut life, Event::Ended(0), 38_010);
    assert!(life.gone());
}

#[test]
fn an_instance_that_is_known_to_be_settled_goes_with_the_next_tick() {
    let mut life = live_worker();
    let settled = |_| Load {
        settled: true,
        ..IDLE
    };
    // A request may have chosen it a moment before.
    assert_eq!(life.on(Event::Retire, 1000, settled), []);
    assert_eq!(life.on(Event::Tick, 1050, settled), [Effect::Terminate(0)]);
}

#[test]
fn what_wait_until_is_granted_counts_from_the_last_answer() {
    let mut life = live_worker();
    life.on(Event::Retire, 100_000, |_| Load {
        idle_ms: 29_000,
        ..IDLE
    });
    assert_eq!(
        life.on(Event::Tick, 100_500, |_| Load {
            idle_ms: 29_500,
            ..IDLE
        }),
        []
    );
    let effects = life.on(Event::Tick, 101_000, |_| Load {
        idle_ms: 30_000,
        ..IDLE
    });
    assert_eq!(effects, [Effect::Terminate(0)]);
}

#[test]
fn requests_that_outlast_the_deadline_get_a_last_wait_and_then_sigterm() {
    let mut life = live_worker();
    let hung = |_| Load {
        unanswered: 1,
        ..IDLE
    };
    life.on(Event::Retire, 0, hung);
    assert_eq!(life.on(Event::Tick, 30_000, hung), []);
    assert_eq!(life.on(Event::Tick, 59_999, hung), []);
    assert_eq!(life.on(Event::Tick, 60_000, hung), [Effect::Terminate(0)]);
}

#[test]
fn a_stream_may_hold_up_an_instance_for_five_minutes() {
    let mut life = live_worker();
    let streaming = |_| Load {
        streaming: 1,
        settled: true,
        ..IDLE
    };
    assert_eq!(life.on(Event::Retire, 0, streaming), []);
    assert_eq!(life.on(Event::Tick, 299_999, streaming), []);
    assert_eq!(
        life.on(Event::Tick, 300_000, streaming),
        [Effect::Terminate(0)]
    );
}

#[test]
fn a_replacement_serves_before_the_old_one_drains() {
    let mut life = live_worker();
    assert_eq!(on(&mut life, Event::Replace, 100), [Effect::Start(1)]);
    assert_eq!(life.live().collect::<Vec<_>>(), [0]);
    on(&mut life, Event::Started(1), 150);
    assert_eq!(life.live().collect::<Vec<_>>(), [1]);
}

#[test]
fn an_evicted_worker_becomes_cold_and_starts_again() {
    let mut life = live_worker();
    let idle = |_| Load {
        idle_ms: 30_000,
        ..IDLE
    };
    assert_eq!(life.on(Event::Evict, 40_000, idle), []);
    assert_eq!(life.availability(40_000), Availability::Cold);
    assert_eq!(
        life.on(Event::Wanted, 40_001, idle),
        [Effect::Start(1), Effect::Terminate(0)]
    );
}

#[test]
fn a_worker_that_is_busy_or_was_a_moment_ago_is_not_evicted() {
    let mut life = live_worker();
    life.on(Event::Evict, 40_000, |_| Load {
        streaming: 1,
        ..IDLE
    });
    life.on(Event::Evict, 40_001, |_| Load {
        idle_ms: 29_999,
        ..IDLE
    });
    assert_eq!(life.live().collect::<Vec<_>>(), [0]);
}

#[test]
fn the_backlog_of_a_crashed_instance_gets_a_new_process_unasked() {
    let mut life = live_worker();
    let waiting = |_| Load {
        unanswered: 1,
        ..IDLE
    };
    assert_eq!(life.on(Event::Ended(0), 20, waiting), [Effect::Start(1)]);
    assert_eq!(life.availability(20), Availability::Starting);
    life.on(Event::Started(1), 30, waiting);
    // One that ends again and again is not started for ever.
    assert_eq!(life.on(Event::Ended(1), 40, waiting), []);
    assert!(matches!(
        life.availability(40),
        Availability::Failing { .. }
    ));
}

#[test]
fn a_healthy_life_forgives_earlier_failures_however_it_ended() {
    let mut life = live_worker();
    on(&mut life, Event::Ended(0), 20);
    on(&mut life, Event::Wanted, 20);
    on(&mut life, Event::Started(1), 30);
    life.on(Event::Evict, 60_000, |_| Load {
        idle_ms: 30_000,
        ..IDLE
    });
    on(&mut life, Event::Wanted, 60_010);
    on(&mut life, Event::Started(2), 60_020);
    on(&mut life, Event::Ended(2), 60_030);
    assert_eq!(life.availability(60_030), Availability::Cold);
}

#[test]
fn a_start_without_room_is_no_failure() {
    let mut life = Life::new(1, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::NoRoom(0), 30_000);
    assert_eq!(life.availability(30_000), Availability::Cold);
    assert_eq!(on(&mut life, Event::Wanted, 30_001), [Effect::Start(1)]);
}

#[test]
fn replacing_twice_starts_one_replacement() {
    let mut life = live_worker();
    assert_eq!(on(&mut life, Event::Replace, 100), [Effect::Start(1)]);
    assert_eq!(on(&mut life, Event::Replace, 101), []);
}

#[test]
fn hurrying_kills_everything_and_starts_nothing() {
    let mut life = live_worker();
    on(&mut life, Event::Replace, 4);
    assert_eq!(
        on(&mut life, Event::Hurry, 5),
        [Effect::Kill(0), Effect::Kill(1)]
    );
    assert_eq!(on(&mut life, Event::Wanted, 6), []);
    on(&mut life, Event::Ended(0), 7);
    assert!(!life.gone());
    on(&mut life, Event::Ended(1), 8);
    assert!(life.gone());
}

#[test]
fn a_worker_that_retires_while_it_starts_gives_the_start_up() {
    let mut life = Life::new(1, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    assert_eq!(on(&mut life, Event::Retire, 1), [Effect::Kill(0)]);
    // It was ready a moment before it was told.
    on(&mut life, Event::Started(0), 2);
    assert_eq!(life.live().count(), 0);
    on(&mut life, Event::Ended(0), 3);
    assert!(life.gone());
}

/// Idle for so long that no `waitUntil` can be pending.
const RESTED: Load = Load {
    idle_ms: 60_000,
    ..IDLE
};

fn live(life: &Life) -> Vec<u64> {
    life.live().collect()
}

#[test]
fn a_busy_worker_gets_one_instance_at_a_time_up_to_its_most() {
    let mut life = Life::new(3, 0, WorkerTimes::default());
    assert_eq!(on(&mut life, Event::More, 0), [], "a cold one is not busy");
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::Started(0), 10);
    assert_eq!(on(&mut life, Event::More, 20), [Effect::Start(1)]);
    assert_eq!(life.purpose(1), Purpose::Extra);
    assert_eq!(on(&mut life, Event::More, 30), [], "one is coming");
    on(&mut life, Event::Started(1), 40);
    assert_eq!(on(&mut life, Event::More, 50), [Effect::Start(2)]);
    on(&mut life, Event::Started(2), 60);
    assert_eq!(on(&mut life, Event::More, 70), []);
    assert_eq!(live(&life), [0, 1, 2]);
}

#[test]
fn the_youngest_goes_first_and_the_last_one_stays() {
    let mut life = Life::new(2, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::Started(0), 10);
    on(&mut life, Event::More, 20);
    on(&mut life, Event::Started(1), 30);
    on(&mut life, Event::Fewer, 40);
    assert_eq!(live(&life), [0]);
    on(&mut life, Event::Fewer, 50);
    assert_eq!(live(&life), [0]);
    // It is not brought back by the next request.
    assert_eq!(on(&mut life, Event::Wanted, 60), []);
}

#[test]
fn a_worker_that_had_many_instances_starts_again_with_one() {
    let mut life = Life::new(2, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::Started(0), 10);
    on(&mut life, Event::More, 20);
    on(&mut life, Event::Started(1), 30);
    life.on(Event::Evict, 60_000, |_| RESTED);
    assert_eq!(live(&life), [] as [u64; 0]);
    let effects = life.on(Event::Wanted, 60_001, |_| RESTED);
    let starts = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Start(_)));
    assert_eq!(starts.count(), 1);
}

#[test]
fn a_further_instance_without_room_or_that_does_not_start_changes_nothing() {
    let mut life = Life::new(2, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::Started(0), 10);
    on(&mut life, Event::More, 20);
    on(&mut life, Event::NoRoom(1), 30);
    assert_eq!(on(&mut life, Event::Wanted, 40), []);
    assert_eq!(on(&mut life, Event::More, 50), [Effect::Start(2)]);
    on(&mut life, Event::StartFailed(2, "no".into()), 60);
    assert_eq!(life.availability(61), Availability::Live);
    assert_eq!(on(&mut life, Event::More, 70), [], "not again at once");
    assert_eq!(on(&mut life, Event::More, 1000), [Effect::Start(3)]);
}

#[test]
fn an_idle_instance_that_is_outdated_leaves_without_a_successor() {
    let mut life = live_worker();
    assert_eq!(life.on(Event::Replace, 60_000, |_| RESTED), []);
    assert_eq!(life.availability(60_000), Availability::Cold);
}

#[test]
fn an_instance_that_starts_while_all_are_replaced_is_replaced_too() {
    let mut life = Life::new(1, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    assert_eq!(on(&mut life, Event::Replace, 5), []);
    assert_eq!(on(&mut life, Event::Started(0), 10), [Effect::Start(1)]);
    assert_eq!(life.purpose(1), Purpose::Replacement);
    on(&mut life, Event::Started(1), 20);
    assert_eq!(live(&life), [1]);
}

#[test]
fn a_replacement_that_does_not_start_is_tried_again_when_its_wait_is_over() {
    let mut life = live_worker();
    on(&mut life, Event::Replace, 100);
    assert_eq!(on(&mut life, Event::StartFailed(1, "no".into()), 110), []);
    assert_eq!(live(&life), [0], "the old one goes on");
    assert!(life.ticking());
    assert_eq!(on(&mut life, Event::Tick, 609), []);
    assert_eq!(on(&mut life, Event::Tick, 610), [Effect::Start(2)]);
    on(&mut life, Event::Started(2), 700);
    assert_eq!(live(&life), [2]);
}

#[test]
fn only_the_instance_that_has_grown_is_replaced() {
    let mut life = Life::new(2, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::Started(0), 10);
    on(&mut life, Event::More, 20);
    on(&mut life, Event::Started(1), 30);
    assert_eq!(on(&mut life, Event::ReplaceOne(1), 40), [Effect::Start(2)]);
    assert_eq!(on(&mut life, Event::ReplaceOne(1), 41), [], "it is coming");
    on(&mut life, Event::Started(2), 50);
    assert_eq!(live(&life), [0, 2]);
}

#[test]
fn one_that_ends_while_its_successor_starts_costs_no_other() {
    let mut life = Life::new(2, 0, WorkerTimes::default());
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::Started(0), 10);
    on(&mut life, Event::More, 20);
    on(&mut life, Event::Started(1), 30);
    on(&mut life, Event::ReplaceOne(0), 40);
    on(&mut life, Event::Ended(0), 45);
    on(&mut life, Event::Started(2), 50);
    assert_eq!(live(&life), [1, 2]);
}
