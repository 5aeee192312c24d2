//! How many worker processes may run at once.
//!
//! Live processes are capped in number, by memory of their own, and for each project, so
//! that a crawler on the old deployments of one project evicts only that project. When
//! there is no room, the least recently used idle worker makes way; a busy one never
//! does, and with none idle the start waits, as its requests do. Further instances of a
//! busy deployment take only places that nobody needs, and give them back to who does.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use engawa_model::{AccountId, ProjectName};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::pool::Shared;

/// How long a start waits for room.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two looks at who has become idle.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a worker that was asked to make way has for that, before another is asked.
const MAKE_WAY_WITHIN: Duration = Duration::from_secs(1);

/// Replacements that start at the same time: when what workers may reach changes, all are
/// replaced.
const REPLACEMENTS: usize = 2;
/// What Cloudflare gives an isolate (docs: workers platform/limits), and what a workerd
/// process needs besides.
const INSTANCE_BYTES: u64 = (128 + 64) * 1024 * 1024;

/// The caps.
#[derive(Debug, Clone)]
pub struct CapacityLimits {
    /// Processes in all.
    pub processes: usize,
    /// Processes of one project.
    pub processes_per_project: usize,
    /// Memory of all processes, without shared program text.
    pub memory_bytes: u64,
    /// Memory of one process, above which it is replaced by a new one.
    pub memory_bytes_per_instance: u64,
    /// Processes of one deployment under load.
    pub instances_per_deployment: usize,
    /// A deployment gets a further instance only while the machine has this many cores
    /// idle: without one it could only take time from the others.
    pub spare_cores: f32,
}

impl Default for CapacityLimits {
    fn default() -> Self {
        Self {
            processes: 256,
            processes_per_project: 16,
            memory_bytes: half_of_memory_bytes(),
            memory_bytes_per_instance: INSTANCE_BYTES,
            instances_per_deployment: std::thread::available_parallelism().map_or(1, usize::from),
            spare_cores: 0.5,
        }
    }
}

/// The caps and who lives under them.
#[derive(Debug)]
pub(crate) struct Capacity {
    limits: CapacityLimits,
    /// A worker is idle this long after its last answer: `waitUntil` may run until then.
    idle_after: Duration,
    state: Mutex<State>,
    freed: Notify,
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct State {
    tenants: Vec<Tenant>,
    /// One entry for each place taken.
    places: Vec<(AccountId, ProjectName)>,
}

#[derive(Debug)]
struct Tenant {
    account: AccountId,
    project: ProjectName,
    pool: Weak<Shared>,
}

/// A process's place; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Room {
    capacity: Arc<Capacity>,
    account: AccountId,
    project: ProjectName,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.capacity.lock();
        let mine = |(account, project): &(AccountId, ProjectName)| {
            *account == self.account && *project == self.project
        };
        if let Some(place) = state.places.iter().position(mine) {
            state.places.swap_remove(place);
        }
        drop(state);
        self.capacity.freed.notify_waiters();
    }
}

enum Admission {
    Admitted(Room),
    /// One was asked to make way.
    Asked,
    Full,
}

impl Capacity {
    pub(crate) fn new(limits: CapacityLimits, idle_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            limits,
            idle_after,
            state: Mutex::default(),
            freed: Notify::new(),
            turns: Semaphore::new(REPLACEMENTS),
        })
    }

    /// Makes a pool known as one that can be asked to make way.
    pub(crate) fn register(&self, account: &AccountId, project: &ProjectName, pool: &Arc<Shared>) {
        let mut state = self.lock();
        state
            .tenants
            .retain(|tenant| tenant.pool.strong_count() > 0);
        state.tenants.push(Tenant {
            account: account.clone(),
            project: project.clone(),
            pool: Arc::downgrade(pool),
        });
    }

    /// Waits for room for one process; `None` when nothing has become idle for long.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        account: &AccountId,
        project: &ProjectName,
    ) -> Option<Room> {
        let deadline = Instant::now() + WAIT_MAX;
        // Each start that waits asks one worker at a time, so that a burst of starts
        // empties no more places than it needs.
        let mut ask_from = Instant::now();
        while Instant::now() < deadline {
            let freed = self.freed.notified();
            let may_ask = Instant::now() >= ask_from;
            match self.try_admit(account, project, may_ask) {
                Admission::Admitted(room) => return Some(room),
                Admission::Asked => ask_from = Instant::now() + MAKE_WAY_WITHIN,
                Admission::Full => {}
            }
            if tokio::time::timeout(LOOK_AGAIN, freed).await.is_ok() {
                ask_from = Instant::now();
            }
        }
        None
    }

    /// A place for a further instance, if one is free.
    pub(crate) fn admit_extra(
        self: &Arc<Self>,
        account: &AccountId,
        project: &ProjectName,
    ) -> Option<Room> {
        match self.try_admit(account, project, false) {
            Admission::Admitted(room) => Some(room),
            Admission::Asked | Admission::Full => None,
        }
    }

    /// Waits for one's turn to replace an instance.
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns
            .acquire()
            .await
            .expect("the semaphore is never closed")
    }

    /// A place for a process that takes over from another: beyond the caps if need be,
    /// since the other one leaves, and may be what fills them.
    pub(crate) fn admit_replacement(
        self: &Arc<Self>,
        account: &AccountId,
        project: &ProjectName,
    ) -> Room {
        self.take_place(&mut self.lock(), account, project)
    }

    /// The caps.
    pub(crate) fn limits(&self) -> &CapacityLimits {
        &self.limits
    }

    /// Every pool that there is.
    pub(crate) fn pools(&self) -> Vec<Arc<Shared>> {
        let state = self.lock();
        let pools = state.tenants.iter();
        pools.filter_map(|tenant| tenant.pool.upgrade()).collect()
    }

    fn take_place(
        self: &Arc<Self>,
        state: &mut State,
        account: &AccountId,
        project: &ProjectName,
    ) -> Room {
        state.places.push((account.clone(), project.clone()));
        Room {
            capacity: Arc::clone(self),
            account: account.clone(),
            project: project.clone(),
        }
    }

    /// Takes a place, or asks the idle worker that was used longest ago to make way, or
    /// else one of several instances.
    fn try_admit(
        self: &Arc<Self>,
        account: &AccountId,
        project: &ProjectName,
        may_ask: bool,
    ) -> Admission {
        let mut state = self.lock();
        let own = |other_account: &AccountId, other_project: &ProjectName| {
            other_account == account && other_project == project
        };
        let of_project = state
            .places
            .iter()
            .filter(|(account, project)| own(account, project))
            .count();
        let project_is_full = of_project >= self.limits.processes_per_project;
        if !project_is_full
            && state.places.len() < self.limits.processes
            && (state.places.is_empty() || state.memory_bytes() < self.limits.memory_bytes)
        {
            return Admission::Admitted(self.take_place(&mut state, account, project));
        }
        if !may_ask {
            return Admission::Full;
        }
        let candidates: Vec<_> = state
            .tenants
            .iter()
            .filter(|tenant| !project_is_full || own(&tenant.account, &tenant.project))
            .filter_map(|tenant| tenant.pool.upgrade())
            .collect();
        let idle = candidates
            .iter()
            .filter_map(|pool| pool.idle_for().map(|idle_for| (idle_for, pool)))
            .filter(|(idle_for, _)| *idle_for >= self.idle_after)
            .max_by_key(|(idle_for, _)| *idle_for);
        match idle {
            Some((_, pool)) => pool.evict(),
            None => match candidates.iter().max_by_key(|pool| pool.extras()) {
                Some(pool) if pool.extras() > 0 => pool.spare_one(),
                _ => return Admission::Full,
            },
        }
        Admission::Asked
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn memory_bytes(&self) -> u64 {
        self.tenants
            .iter()
            .filter_map(|tenant| tenant.pool.upgrade())
            .map(|pool| pool.memory_bytes())
            .sum()
    }
}

fn half_of_memory_bytes() -> u64 {
    let total_kib = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemTotal:"))?;
            line.trim()
                .trim_end_matches(" kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(2 * 1024 * 1024);
    total_kib * 1024 / 2
}
