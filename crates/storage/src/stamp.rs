//! One clock for everything that is committed in a data folder.
//!
//! A stamp is 64 bits, milliseconds and a counter, and strictly grows: within a process,
//! across restarts, and whatever the machine's clock does. Stamps are handed out only
//! below a ceiling that was made durable before; a start goes on from the ceiling. The
//! reservation is 10 s long, so a busy server writes it six times a minute and an idle
//! one never.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use engawa_model::Clock;

use crate::Error;

/// The low bits that count within a millisecond. The rest holds milliseconds since 1970
/// and stays positive as a signed number (as SQLite stores it) until the year 2248.
const COUNTER_BITS: u32 = 20;
/// How far ahead of the clock the ceiling is put.
const RESERVED_MS: u64 = 10_000;

/// The place of a commit in the order of all commits of a data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp as SQLite stores it.
    pub fn to_sql(self) -> i64 {
        self.0.cast_signed()
    }

    /// The stamp that SQLite stored.
    pub fn from_sql(value: i64) -> Self {
        Self(value.cast_unsigned())
    }

    /// No stamp of this millisecond or an earlier one is greater.
    pub(crate) fn last_of_ms(ms: u64) -> Self {
        let next = ms.saturating_add(1).min(u64::MAX >> COUNTER_BITS);
        Self((next << COUNTER_BITS) - 1)
    }

    /// When it was handed out: milliseconds since 1970, at least as late as the clock.
    pub fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes a ceiling durable before it returns.
pub(crate) type ReserveCeiling = Box<dyn Fn(Stamp) -> Result<(), Error> + Send + Sync>;

/// Hands out stamps.
pub(crate) struct Stamps {
    clock: Clock,
    state: Mutex<State>,
    reserve: ReserveCeiling,
}

struct State {
    /// The next stamp is greater than this.
    last: u64,
    /// The next stamp is less than this.
    ceiling: u64,
}

impl Stamps {
    /// Goes on from the ceiling that an earlier process reserved (0 in a new folder).
    pub(crate) fn new(clock: Clock, reserved: Stamp, reserve: ReserveCeiling) -> Self {
        Self {
            clock,
            state: Mutex::new(State {
                last: reserved.0,
                ceiling: reserved.0,
            }),
            reserve,
        }
    }

    /// The next stamp. Blocks for one sync at most every 10 s: for storage threads only.
    pub(crate) fn next(&self) -> Result<Stamp, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now_ms() << COUNTER_BITS;
        let next = now.max(state.last + 1);
        if next >= state.ceiling {
            let ceiling = next + (RESERVED_MS << COUNTER_BITS);
            (self.reserve)(Stamp(ceiling))?;
            state.ceiling = ceiling;
        }
        state.last = next;
        Ok(Stamp(next))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use engawa_model::ErrorKind;

    use super::*;

    struct Disk {
        now_ms: Arc<AtomicU64>,
        ceiling: Arc<AtomicU64>,
        writes: Arc<AtomicU64>,
    }

    impl Disk {
        fn at(now_ms: u64) -> Self {
            Self {
                now_ms: Arc::new(now_ms.into()),
                ceiling: Arc::default(),
                writes: Arc::default(),
            }
        }

        fn start(&self) -> Stamps {
            let now = self.now_ms.clone();
            let (ceiling, writes) = (self.ceiling.clone(), self.writes.clone());
            Stamps::new(
                Clock::from_fn(move || now.load(Ordering::SeqCst)),
                Stamp(self.ceiling.load(Ordering::SeqCst)),
                Box::new(move |stamp| {
                    ceiling.store(stamp.0, Ordering::SeqCst);
                    writes.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }),
            )
        }
    }

    #[test]
    fn stamps_grow_across_starts_although_the_clock_jumps_back() {
        let disk = Disk::at(1_000_000);
        let mut last = Stamp(0);
        for now_ms in [1_000_000, 5_000, 2_000_000, 0, 1_000_001] {
            disk.now_ms.store(now_ms, Ordering::SeqCst);
            let stamps = disk.start();
            for _ in 0..1_000 {
                let next = stamps.next().unwrap();
                assert!(next > last);
                assert!(next.0 < disk.ceiling.load(Ordering::SeqCst));
                assert!(next.ms() >= now_ms);
                last = next;
            }
        }
    }

    #[test]
    fn ten_seconds_of_stamps_cost_one_write() {
        let disk = Disk::at(1_000);
        let stamps = disk.start();
        for now_ms in 1_000..11_000 {
            disk.now_ms.store(now_ms, Ordering::SeqCst);
            stamps.next().unwrap();
        }
        assert_eq!(disk.writes.load(Ordering::SeqCst), 1);
        disk.now_ms.store(11_000, Ordering::SeqCst);
        stamps.next().unwrap();
        assert_eq!(disk.writes.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn no_stamp_is_handed_out_past_a_ceiling_that_could_not_be_written() {
        let stamps = Stamps::new(
            Clock::from_fn(|| 1),
            Stamp(0),
            Box::new(|_| Err(Error::new(ErrorKind::DiskFull, "full"))),
        );
        assert_eq!(stamps.next().unwrap_err().kind(), ErrorKind::DiskFull);
        assert_eq!(stamps.next().unwrap_err().kind(), ErrorKind::DiskFull);
    }
}
