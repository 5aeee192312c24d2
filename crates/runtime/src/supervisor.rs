//! The runtime: versions go in, pools of running workers come out.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use engawa_model::{Version, WorkerCode};

use crate::capacity::{Capacity, CapacityLimits};
use crate::config::{ConfigOptions, Egress, SharedEgress, WorkerdConfig};
use crate::life::WorkerTimes;
use crate::pool::{Pool, PoolContext, PoolOptions};
use crate::process::Spawner;
use crate::sockets::SocketDir;

/// How a runtime runs.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The workerd program.
    pub workerd: PathBuf,
    /// What workers may reach.
    pub egress: Egress,
    /// How many processes, and how large.
    pub capacity: CapacityLimits,
    /// How long they are given.
    pub times: WorkerTimes,
}

/// Starts workers. One for each program.
#[derive(Debug)]
pub struct Runtime {
    context: Arc<PoolContext>,
    egress: SharedEgress,
    next_deployment: AtomicU64,
}

/// A deployment's worker that can be served.
pub struct Deployed {
    /// Where requests go.
    pub pool: Arc<Pool>,
    /// Where the worker's calls come from; the data plane serves it with `Bindings`.
    pub binding_listener: UnixListener,
    /// The path of that listener, to be removed with the deployment.
    pub binding_socket: PathBuf,
}

impl Runtime {
    /// Prepares the folder of sockets and the spawning thread.
    ///
    /// # Errors
    /// When the machine gives no folder for temporary files or no thread.
    pub fn new(options: RuntimeOptions) -> io::Result<Self> {
        let RuntimeOptions {
            workerd,
            egress,
            capacity,
            times,
        } = options;
        let context = PoolContext {
            spawner: Spawner::start()?,
            workerd,
            // It goes with the last pool.
            sockets: SocketDir::new()?,
            capacity: Capacity::new(capacity, times.wait_until),
            times,
        };
        Ok(Self {
            context: Arc::new(context),
            egress: Arc::new(ArcSwap::from_pointee(egress)),
            next_deployment: AtomicU64::new(1),
        })
    }

    /// Prepares a version's worker, cold. Must be called inside a tokio runtime, which
    /// then supervises its processes.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn deploy(
        &self,
        version: &Arc<Version>,
        code: &WorkerCode,
        logging: bool,
    ) -> io::Result<Deployed> {
        let number = self.next_deployment.fetch_add(1, Ordering::Relaxed);
        let binding_socket = self.context.sockets.path().join(format!("b{number:x}"));
        let binding_listener = UnixListener::bind(&binding_socket)?;
        let options = ConfigOptions {
            binding_socket: binding_socket.clone(),
            egress: Arc::clone(&self.egress),
            logging,
        };
        let config = WorkerdConfig::new(Arc::clone(version), code.clone(), options);
        let pool_options = PoolOptions {
            account: version.account.clone(),
            project: version.project.clone(),
            logging,
        };
        let pool = Pool::new(Arc::clone(&self.context), config, pool_options);
        Ok(Deployed {
            pool,
            binding_listener,
            binding_socket,
        })
    }

    /// Changes what workers may reach, also those that run: each of their processes is
    /// replaced, and ends what it has begun. To be called when the operator's ranges or the
    /// machine's own addresses have changed.
    pub fn set_egress(&self, egress: Egress) {
        if **self.egress.load() == egress {
            return;
        }
        // A process that starts from now on has the new one; all others are replaced.
        self.egress.store(Arc::new(egress));
        for pool in self.context.capacity.pools() {
            pool.replace();
        }
    }
}

/// A version's configuration as workerd gets it in development, with secrets blanked. The
/// code itself is not in it.
pub fn redacted_config(version: &Arc<Version>, code: &WorkerCode, egress: Egress) -> String {
    let options = ConfigOptions {
        binding_socket: PathBuf::from("/run/engawa/bindings.sock"),
        egress: Arc::new(ArcSwap::from_pointee(egress)),
        logging: true,
    };
    WorkerdConfig::new(Arc::clone(version), code.clone(), options).redacted()
}
