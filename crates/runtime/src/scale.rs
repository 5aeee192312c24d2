//! When a deployment under load gets another instance, and when one of several goes:
//! looks go in, changes come out.
//!
//! An instance runs JavaScript on one thread, so it is busy when it uses a whole core, and
//! another one helps only where requests wait meanwhile and the machine has a core to
//! spare. A single client that waits for each answer never gets a second instance, however
//! long its requests compute; nor do requests that wait for something slow, as long as
//! there are places for them.

/// An instance that uses this share of a core is busy.
const BUSY_CPU: f32 = 0.85;
/// Looks in a row at which all were busy: short bursts start nothing.
const BUSY_LOOKS: u32 = 3;
/// Fewer instances are enough when their load stays below this share of a core each. Far
/// enough below [`BUSY_CPU`] that a change does not cause its opposite.
const ENOUGH_CPU: f32 = 0.6;

/// What a look found at one live instance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    /// Share of a core that it used since the last look.
    pub(crate) cpu: f32,
    /// Requests under way.
    pub(crate) in_flight: usize,
}

/// What is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    More,
    Fewer,
}

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Requests in flight from which an instance counts as full, whatever it computes.
    full_at: usize,
    fewer_after_ms: u64,
    busy_looks: u32,
    enough_since_ms: Option<u64>,
}

impl Scale {
    pub(crate) fn new(full_at: usize, fewer_after_ms: u64) -> Self {
        Self {
            full_at,
            fewer_after_ms,
            busy_looks: 0,
            enough_since_ms: None,
        }
    }

    /// Takes one look at every live instance. `has_core` says whether the machine has a
    /// core for another one.
    pub(crate) fn look(&mut self, looks: &[Look], has_core: bool, now_ms: u64) -> Option<Change> {
        let full = |look: &Look| look.in_flight >= self.full_at;
        let busy = |look: &Look| has_core && look.cpu >= BUSY_CPU && look.in_flight >= 2;
        if !looks.is_empty() && looks.iter().all(|look| full(look) || busy(look)) {
            self.busy_looks += 1;
        } else {
            self.busy_looks = 0;
        }
        if self.busy_looks >= BUSY_LOOKS {
            // What is added shows first: the next one needs its own looks.
            self.busy_looks = 0;
            self.enough_since_ms = None;
            return Some(Change::More);
        }

        let spared = looks.len().saturating_sub(1);
        let cpu: f32 = looks.iter().map(|look| look.cpu).sum();
        let in_flight: usize = looks.iter().map(|look| look.in_flight).sum();
        #[expect(clippy::cast_precision_loss, reason = "there are as many as cores")]
        let enough =
            spared > 0 && cpu < ENOUGH_CPU * spared as f32 && in_flight < self.full_at * spared;
        if !enough {
            self.enough_since_ms = None;
            return None;
        }
        let since_ms = *self.enough_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) < self.fewer_after_ms {
            return None;
        }
        self.enough_since_ms = None;
        Some(Change::Fewer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: usize = 600;

    fn scale() -> Scale {
        Scale::new(FULL, 10_000)
    }

    fn busy() -> Look {
        Look {
            cpu: 0.97,
            in_flight: 8,
        }
    }

    /// The first change, and the time at which it comes; a look each half second for a
    /// minute.
    fn first_change(looks: &[Look], has_core: bool) -> Option<(u64, Change)> {
        let mut scale = scale();
        (0..120)
            .map(|look| look * 500)
            .find_map(|now_ms| Some((now_ms, scale.look(looks, has_core, now_ms)?)))
    }

    #[test]
    fn a_busy_instance_gets_help_after_some_looks() {
        assert_eq!(first_change(&[busy()], true), Some((1000, Change::More)));
        assert_eq!(
            first_change(&[busy(), busy()], true),
            Some((1000, Change::More))
        );
    }

    #[test]
    fn one_client_that_waits_for_its_answers_gets_no_second_instance() {
        let one = Look {
            in_flight: 1,
            ..busy()
        };
        assert_eq!(first_change(&[one], true), None);
    }

    #[test]
    fn without_a_core_to_spare_there_is_no_second_instance() {
        assert_eq!(first_change(&[busy()], false), None);
    }

    #[test]
    fn requests_that_wait_for_something_slow_need_no_instance_until_places_run_out() {
        let waiting = |in_flight| Look {
            cpu: 0.1,
            in_flight,
        };
        assert_eq!(first_change(&[waiting(FULL - 1)], true), None);
        assert_eq!(
            first_change(&[waiting(FULL)], false),
            Some((1000, Change::More))
        );
    }

    #[test]
    fn a_burst_starts_nothing() {
        let mut scale = scale();
        for now_ms in 0..100 {
            let look = if now_ms % 3 == 2 {
                Look::default()
            } else {
                busy()
            };
            assert_eq!(scale.look(&[look], true, now_ms), None);
        }
    }

    #[test]
    fn one_goes_when_the_others_have_been_enough_for_long() {
        let half = Look {
            cpu: 0.25,
            in_flight: 1,
        };
        assert_eq!(
            first_change(&[half, half], true),
            Some((10_000, Change::Fewer))
        );
        assert_eq!(first_change(&[half], true), None);
        // Together they need more than one.
        let more = Look {
            cpu: 0.4,
            in_flight: 1,
        };
        assert_eq!(first_change(&[more, more], true), None);
    }
}
