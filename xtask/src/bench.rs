//! `cargo xtask bench`: Engawa beside its peers, on the same work, on one machine.
//!
//! In each round every peer runs once, alone: it is started through its own door with
//! fresh state, filled by one request, loaded path by path, and ended. So what slows the
//! machine for a while slows one round of all. A figure is the median of the rounds, and
//! a ratio the median of the rounds' ratios.
//!
//! The **ceiling** of a path is what workerd itself gives when gateway and storage cost
//! nothing: the very worker and configuration that Engawa runs, between two nginx, one
//! as gateway and one that answers constants in the wire formats of KV, D1 and R2.
//!
//! A busy machine moves throughput much and CPU time little: so the CPU time that a
//! request took is told for each program of a server, and for Engawa's own apart from
//! workerd's.

mod ceiling;
mod load;
mod processes;
mod report;
mod servers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{root, setup};
use load::{Load, Wrk};
use servers::{Programs, Server};

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Seconds of load for each figure.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often every peer runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Connections that wrk holds.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 16, 64])]
    connections: Vec<u32>,
    /// Only these paths.
    #[arg(long, value_name = "PATH,…", value_delimiter = ',')]
    only: Vec<Work>,
    /// Only these peers.
    #[arg(long, value_name = "PEER,…", value_delimiter = ',')]
    peers: Vec<Peer>,
    /// One round of one second at 16 connections: whether it works, and a first look.
    #[arg(long, conflicts_with_all = ["seconds", "rounds", "connections"])]
    quick: bool,
    /// Measure this program instead of building one.
    #[arg(long, value_name = "FILE")]
    engawa: Option<PathBuf>,
}

/// A path of the fixture in `bench/project`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Work {
    /// A small HTML page.
    Static,
    /// A script of 22 KB.
    Script,
    /// A function that says hello.
    Hello,
    /// A value of 1 KB.
    KvRead,
    KvWrite,
    /// A row by its key.
    D1Read,
    D1Insert,
    /// An object of 16 KB.
    R2Read,
    R2Write,
    /// Hello with one `writeDataPoint`.
    Point,
}

impl Work {
    fn name(self) -> String {
        self.to_possible_value()
            .expect("no path is hidden")
            .get_name()
            .to_owned()
    }

    fn path(self) -> String {
        match self {
            Self::Static => "/".to_owned(),
            Self::Script => "/app.js".to_owned(),
            function => format!("/{}", function.name()),
        }
    }

    fn is_static(self) -> bool {
        matches!(self, Self::Static | Self::Script)
    }
}

/// Whoever does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Peer {
    /// `engawa dev --log-level none`.
    Engawa,
    /// `engawa dev`, which gathers logs.
    EngawaLogs,
    /// `wrangler pages dev`.
    Wrangler,
    /// `workerd serve wrangler.json --experimental`.
    WorkerdDev,
    /// workerd with a plain configuration.
    Workerd,
    /// nginx with static files.
    Nginx,
    /// Engawa's worker between two nginx.
    Ceiling,
}

impl Peer {
    fn name(self) -> String {
        self.to_possible_value()
            .expect("no peer is hidden")
            .get_name()
            .to_owned()
    }

    fn does(self, work: Work) -> bool {
        match self {
            Self::Engawa | Self::EngawaLogs | Self::Wrangler => true,
            Self::WorkerdDev => {
                !work.is_static() && !matches!(work, Work::R2Read | Work::R2Write | Work::Point)
            }
            Self::Workerd => work == Work::Hello,
            Self::Nginx => work.is_static(),
            Self::Ceiling => !work.is_static(),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    round: u32,
    peer: Peer,
    work: Work,
    connections: u32,
    #[serde(flatten)]
    load: Load,
    /// CPU time of a request by program, in microseconds.
    cpu_us: processes::ByProgram,
    /// Memory of the server's processes right after the load.
    resident_bytes: u64,
}

struct Plan {
    seconds: u64,
    rounds: u32,
    connections: Vec<u32>,
    works: Vec<Work>,
    peers: Vec<Peer>,
}

impl Plan {
    fn new(args: &BenchArgs) -> anyhow::Result<Self> {
        let all_or = |chosen: &[Work]| {
            if chosen.is_empty() {
                Work::value_variants().to_vec()
            } else {
                chosen.to_vec()
            }
        };
        let works = all_or(&args.only);
        let peers: Vec<Peer> = Peer::value_variants()
            .iter()
            .copied()
            .filter(|peer| args.peers.is_empty() || args.peers.contains(peer))
            .filter(|peer| works.iter().any(|work| peer.does(*work)))
            .collect();
        if peers.is_empty() {
            bail!("None of the chosen peers does any of the chosen paths.");
        }
        if args
            .connections
            .iter()
            .any(|count| !(1..=1024).contains(count))
        {
            bail!("--connections takes numbers from 1 to 1024.");
        }
        let quick = |normal, quick| if args.quick { quick } else { normal };
        Ok(Self {
            seconds: quick(args.seconds, 1),
            rounds: if args.quick { 1 } else { args.rounds },
            connections: if args.quick {
                vec![16]
            } else {
                args.connections.clone()
            },
            works,
            peers,
        })
    }
}

/// Runs what the arguments choose, prints the tables and writes the figures.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let plan = Plan::new(args)?;
    let engawa = match &args.engawa {
        Some(path) => path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?,
        None => setup::build_engawa(true)?,
    };
    let programs = Programs::find(engawa, &plan.peers)?;
    let wrk = Wrk::new(root().join("bench/wrk.lua"))?;

    let mut samples = Vec::new();
    for round in 1..=plan.rounds {
        for peer in &plan.peers {
            eprintln!("Round {round} of {}: {} …", plan.rounds, peer.name());
            let server = Server::start(*peer, &programs)?;
            let measured = measure(&plan, round, *peer, &server, &wrk, &mut samples);
            // What it said is worth more than that a request failed.
            measured.with_context(|| format!("{} said:\n{}", peer.name(), server.log_tail()))?;
            server.stop();
        }
    }

    report::print(&plan, &samples);
    let results = setup::target_dir().join("bench");
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
    let seconds = SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    let file = results.join(format!("{seconds}.json"));
    fs::write(&file, report::json(&plan, &programs, &samples)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("\nAll figures: {}", file.display());
    Ok(())
}

fn measure(
    plan: &Plan,
    round: u32,
    peer: Peer,
    server: &Server,
    wrk: &Wrk,
    samples: &mut Vec<Sample>,
) -> anyhow::Result<()> {
    for work in plan.works.iter().copied().filter(|work| peer.does(*work)) {
        server.check(work)?;
        let url = server.url(&work.path());
        // Compiled, cached, connected: a server is measured as it is while it runs.
        wrk.run(&url, 16, Duration::from_secs(1))?;
        for connections in plan.connections.iter().copied() {
            let before = server.processes()?;
            let load = wrk.run(&url, connections, Duration::from_secs(plan.seconds))?;
            let after = server.processes()?;
            if load.errors > 0 {
                eprintln!(
                    "{} answered {} of {} requests for {url} with an error",
                    peer.name(),
                    load.errors,
                    load.requests
                );
            }
            samples.push(Sample {
                round,
                peer,
                work,
                connections,
                cpu_us: after.cpu_us_since(&before, load.requests),
                resident_bytes: after.resident_bytes(),
                load,
            });
        }
    }
    Ok(())
}

/// Copies a folder of the repository's `bench/`, so that no server writes into it.
fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are far below 2^53"
)]
fn float(count: u64) -> f64 {
    count as f64
}
