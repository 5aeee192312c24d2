//! Figures as tables and as JSON.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::servers::Programs;
use super::{Peer, Plan, Sample, Work, float};

/// The connections at which a target holds unless it says otherwise.
const CONNECTIONS: u32 = 16;

/// What Engawa must reach: its throughput by another's, both of one round.
struct Target {
    work: Work,
    connections: u32,
    by: (Peer, Work),
    at_least: f64,
}

/// The targets of the specification.
fn targets() -> Vec<Target> {
    use Work::{D1Read, Hello, KvRead, Point, R2Read, Script, Static};
    let mut targets = Vec::new();
    let mut add = |work, connections, by, at_least| {
        targets.push(Target {
            work,
            connections,
            by,
            at_least,
        });
    };
    for work in [KvRead, D1Read, R2Read] {
        add(work, CONNECTIONS, (Peer::Ceiling, work), 0.6);
    }
    add(Hello, CONNECTIONS, (Peer::Workerd, Hello), 0.65);
    add(Hello, 64, (Peer::Workerd, Hello), 0.75);
    for (work, at_least) in [
        (Hello, 12.0),
        (KvRead, 12.0),
        (D1Read, 8.0),
        (R2Read, 8.0),
        (Static, 40.0),
        (Script, 40.0),
    ] {
        add(work, CONNECTIONS, (Peer::Wrangler, work), at_least);
    }
    add(KvRead, CONNECTIONS, (Peer::WorkerdDev, KvRead), 2.0);
    add(D1Read, CONNECTIONS, (Peer::WorkerdDev, D1Read), 1.5);
    add(Point, CONNECTIONS, (Peer::Engawa, Hello), 0.9);
    targets
}

/// The samples of all rounds, and what the tables ask of them.
struct Figures<'a>(&'a [Sample]);

impl<'a> Figures<'a> {
    fn of(&self, peer: Peer, work: Work, connections: u32) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| {
            (sample.peer, sample.work, sample.connections) == (peer, work, connections)
        })
    }

    fn median(
        &self,
        peer: Peer,
        work: Work,
        connections: u32,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<f64> {
        median(self.of(peer, work, connections).map(figure).collect())
    }

    fn throughput(&self, peer: Peer, work: Work, connections: u32) -> Option<f64> {
        self.median(peer, work, connections, |sample| sample.load.requests_per_s)
    }

    /// The median of the rounds' ratios: both sides of one are minutes apart at most.
    fn ratio(&self, of: (Peer, Work), by: (Peer, Work), connections: u32) -> Option<f64> {
        let ratios = self.of(of.0, of.1, connections).filter_map(|sample| {
            let other = self
                .of(by.0, by.1, connections)
                .find(|other| other.round == sample.round)?;
            Some(sample.load.requests_per_s / other.load.requests_per_s)
        });
        median(ratios.collect())
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    Some(if figures.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(upper, figures[figures.len() / 2 - 1])
    })
}

pub(super) fn print(plan: &Plan, samples: &[Sample]) {
    let figures = Figures(samples);
    for connections in &plan.connections {
        print_throughput(plan, &figures, *connections);
        print_latency(plan, &figures, *connections);
    }
    let connections = if plan.connections.contains(&CONNECTIONS) {
        CONNECTIONS
    } else {
        plan.connections[0]
    };
    print_cpu(plan, &figures, connections);
    print_memory(plan, samples);
    print_targets(&figures);
}

fn print_throughput(plan: &Plan, figures: &Figures<'_>, connections: u32) {
    let mut rows = vec![names(plan, &["of ceiling", "of wrangler"])];
    for work in &plan.works {
        let mut row = vec![work.name()];
        row.extend(
            plan.peers
                .iter()
                .map(|peer| shown(figures.throughput(*peer, *work, connections), 0, "")),
        );
        for (by, unit) in [(Peer::Ceiling, ""), (Peer::Wrangler, " x")] {
            row.push(shown(
                figures.ratio((Peer::Engawa, *work), (by, *work), connections),
                2,
                unit,
            ));
        }
        rows.push(row);
    }
    print_table(
        &format!("Requests a second, {connections} connections (ratios: engawa's)"),
        &rows,
    );
}

fn print_latency(plan: &Plan, figures: &Figures<'_>, connections: u32) {
    let mut rows = vec![names(plan, &[])];
    for work in &plan.works {
        let mut row = vec![work.name()];
        row.extend(plan.peers.iter().map(|peer| {
            let ms = |us: fn(&Sample) -> u64| {
                figures.median(*peer, *work, connections, |sample| {
                    float(us(sample)) / 1000.0
                })
            };
            match (
                ms(|sample| sample.load.p50_us),
                ms(|sample| sample.load.p99_us),
            ) {
                (Some(half), Some(most)) => format!("{half:.2} / {most:.2}"),
                _ => String::new(),
            }
        }));
        rows.push(row);
    }
    print_table(
        &format!("Milliseconds, median / 99 of 100, {connections} connections"),
        &rows,
    );
}

fn print_cpu(plan: &Plan, figures: &Figures<'_>, connections: u32) {
    let mut rows = vec![names(plan, &[])];
    for work in &plan.works {
        let mut row = vec![work.name()];
        row.extend(plan.peers.iter().map(|peer| {
            let programs: BTreeSet<&String> = figures
                .of(*peer, *work, connections)
                .flat_map(|sample| sample.cpu_us.keys())
                .collect();
            let shown: Vec<String> = programs
                .into_iter()
                .filter_map(|program| {
                    let cpu_us = figures.median(*peer, *work, connections, |sample| {
                        sample.cpu_us.get(program).copied().unwrap_or_default()
                    })?;
                    (cpu_us >= 0.1).then(|| format!("{program} {cpu_us:.1}"))
                })
                .collect();
            shown.join(", ")
        }));
        rows.push(row);
    }
    print_table(
        &format!("CPU time of a request in microseconds, by program, {connections} connections"),
        &rows,
    );
}

fn print_memory(plan: &Plan, samples: &[Sample]) {
    let mut rows = vec![names(plan, &[])];
    let mut row = vec!["most".to_owned()];
    row.extend(plan.peers.iter().map(|peer| {
        let most = samples
            .iter()
            .filter(|sample| sample.peer == *peer)
            .map(|sample| sample.resident_bytes)
            .max();
        shown(
            most.map(|bytes| float(bytes) / f64::from(1 << 20)),
            0,
            " MB",
        )
    }));
    rows.push(row);
    print_table("Resident memory of a server's processes, after load", &rows);
}

fn print_targets(figures: &Figures<'_>) {
    let header = [
        "path",
        "connections",
        "beside",
        "target",
        "--log-level none",
        "",
        "default level",
        "",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for target in targets() {
        let mut row = vec![
            target.work.name(),
            target.connections.to_string(),
            match target.by {
                (Peer::Engawa, work) => format!("its {}", work.name()),
                (peer, _) => peer.name(),
            },
            format!("{}", target.at_least),
        ];
        for (peer, ratio) in target.reached(figures) {
            let word = ratio.map_or("", |ratio| {
                if ratio >= target.at_least {
                    "met"
                } else {
                    "NOT MET"
                }
            });
            debug_assert!(matches!(peer, Peer::Engawa | Peer::EngawaLogs));
            row.extend([shown(ratio, 2, ""), word.to_owned()]);
        }
        rows.push(row);
    }
    print_table("Targets", &rows);
}

impl Target {
    /// For both levels of logging.
    fn reached(&self, figures: &Figures<'_>) -> [(Peer, Option<f64>); 2] {
        [Peer::Engawa, Peer::EngawaLogs].map(|peer| {
            // A ratio to Engawa itself is one of two paths at the same level.
            let by = if self.by.0 == Peer::Engawa {
                (peer, self.by.1)
            } else {
                self.by
            };
            (peer, figures.ratio((peer, self.work), by, self.connections))
        })
    }
}

fn names(plan: &Plan, more: &[&str]) -> Vec<String> {
    std::iter::once(String::new())
        .chain(plan.peers.iter().map(|peer| peer.name()))
        .chain(more.iter().map(|name| (*name).to_owned()))
        .collect()
}

fn shown(figure: Option<f64>, digits: usize, unit: &str) -> String {
    figure.map_or_else(String::new, |figure| format!("{figure:.digits$}{unit}"))
}

fn print_table(title: &str, rows: &[Vec<String>]) {
    println!("\n{title}");
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        println!("  {}", line.join("  ").trim_end());
    }
}

/// Everything measured, and what it was measured on.
pub(super) fn json(plan: &Plan, programs: &Programs, samples: &[Sample]) -> anyhow::Result<String> {
    let figures = Figures(samples);
    let targets: Vec<Value> = targets()
        .iter()
        .map(|target| {
            let [(_, quiet), (_, logging)] = target.reached(&figures);
            json!({
                "work": target.work,
                "connections": target.connections,
                "beside": target.by.0,
                "beside_work": target.by.1,
                "at_least": target.at_least,
                "log_level_none": quiet,
                "log_level_default": logging,
                "met": quiet.map(|ratio| ratio >= target.at_least),
            })
        })
        .collect();
    let report = json!({
        "machine": {
            "cores": std::thread::available_parallelism().map_or(1, usize::from),
            "cpu": first_value("/proc/cpuinfo", "model name"),
            "memory": first_value("/proc/meminfo", "MemTotal"),
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
            "load_average": fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
        },
        "versions": {
            "engawa": version(&programs.engawa, "--version"),
            "workerd": version(&programs.workerd, "--version"),
            "nginx": programs.nginx().map_or_else(|_| String::new(), |nginx| version(nginx, "-v")),
            "wrangler": programs.wrangler_version(),
        },
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "targets": targets,
        "samples": samples,
    });
    Ok(serde_json::to_string_pretty(&report)?)
}

fn version(program: &Path, option: &str) -> String {
    Command::new(program).arg(option).output().map_or_else(
        |_| String::new(),
        |output| {
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
                .trim()
                .to_owned()
        },
    )
}

/// The value of the first `key: value` of a file in `/proc`.
fn first_value(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    })
}
