//! The state machine alone: no process, no clock.

use super::*;

const IDLE: Load = Load { unanswered: 0, streaming: 0, settled: false };

fn on(life: &mut Life, event: Event, now_ms: u64) -> Vec<Effect> {
    life.on(event, now_ms, |_| IDLE)
}

fn live_worker() -> Life {
    let mut life = Life::new(1, 0);
    assert_eq!(on(&mut life, Event::Wanted, 0), [Effect::Start(0)]);
    on(&mut life, Event::Started(0), 10);
    life
}

#[test]
fn many_requests_start_one_process() {
    let mut life = Life::new(1, 7);
    assert_eq!(on(&mut life, Event::Wanted, 0), [Effect::Start(7)]);
    assert_eq!(on(&mut life, Event::Wanted, 1), []);
    assert_eq!(life.availability(1), Availability::Starting);
    on(&mut life, Event::Started(7), 2);
    assert_eq!(life.live().collect::<Vec<_>>(), [7]);
    assert_eq!(on(&mut life, Event::Wanted, 3), []);
}

#[test]
fn a_failed_start_is_remembered_with_growing_waits() {
    let mut life = Life::new(1, 0);
    let mut now_ms = 0;
    let mut waits = Vec::new();
    for number in 0..9 {
        assert_eq!(on(&mut life, Event::Wanted, now_ms), [Effect::Start(number)]);
        on(&mut life, Event::StartFailed(number, "no".into()), now_ms);
        let failed_at = now_ms;
        assert_eq!(on(&mut life, Event::Wanted, now_ms), []);
        while matches!(life.availability(now_ms), Availability::Failing(_)) {
            now_ms += 100;
        }
        waits.push(now_ms - failed_at);
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
}

#[test]
fn the_first_crash_costs_no_wait_and_quick_repeats_do() {
    let mut life = live_worker();
    on(&mut life, Event::Ended(0), 20);
    assert_eq!(life.availability(20), Availability::Cold);
    assert_eq!(on(&mut life, Event::Wanted, 21), [Effect::Start(1)]);
    on(&mut life, Event::Started(1), 30);
    on(&mut life, Event::Ended(1), 40);
    assert!(matches!(life.availability(40), Availability::Failing(_)));
}

#[test]
fn a_leaving_instance_waits_for_requests_then_for_wait_until_then_gets_sigterm_then_sigkill() {
    let mut life = live_worker();
    let busy = |_| Load { unanswered: 1, ..IDLE };
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
fn an_instance_that_is_known_to_be_settled_goes_at_once() {
    let mut life = live_worker();
    let effects = life.on(Event::Retire, 1000, |_| Load { settled: true, ..IDLE });
    assert_eq!(effects, [Effect::Terminate(0)]);
}

#[test]
fn a_stream_may_hold_up_an_instance_for_five_minutes() {
    let mut life = live_worker();
    let streaming = |_| Load { streaming: 1, settled: true, ..IDLE };
    assert_eq!(life.on(Event::Retire, 0, streaming), []);
    assert_eq!(life.on(Event::Tick, 299_999, streaming), []);
    assert_eq!(life.on(Event::Tick, 300_000, streaming), [Effect::Terminate(0)]);
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
    life.on(Event::Evict, 100, |_| Load { settled: true, ..IDLE });
    assert_eq!(life.availability(100), Availability::Cold);
    assert_eq!(on(&mut life, Event::Wanted, 101), [Effect::Start(1)]);
}

#[test]
fn hurrying_kills_everything_and_starts_nothing() {
    let mut life = live_worker();
    assert!(on(&mut life, Event::Hurry, 5).contains(&Effect::Kill(0)));
    assert_eq!(on(&mut life, Event::Wanted, 6), []);
    on(&mut life, Event::Ended(0), 7);
    assert!(life.gone());
}

#[test]
fn an_instance_that_started_too_late_for_a_retired_worker_is_let_go() {
    let mut life = Life::new(1, 0);
    on(&mut life, Event::Wanted, 0);
    on(&mut life, Event::Retire, 1);
    on(&mut life, Event::Started(0), 2);
    assert_eq!(life.live().count(), 0);
    assert_eq!(life.on(Event::Tick, 3, |_| Load { settled: true, ..IDLE }), [Effect::Terminate(0)]);
}
