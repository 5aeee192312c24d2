//! CPU time and memory of a server's processes, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use rustix::param::{clock_ticks_per_second, page_size};

use super::float;

/// A number for each program, by the name of its file.
pub(super) type ByProgram = BTreeMap<String, f64>;

/// What a server's processes have used so far.
pub(super) struct Processes {
    list: Vec<Process>,
}

pub(super) struct Process {
    pub(super) pid: u32,
    parent: u32,
    /// A pid may be used again; with this it is the same process.
    pub(super) started_ticks: u64,
    program: String,
    cpu_ticks: u64,
    resident_bytes: u64,
}

impl Processes {
    /// These processes and all below them.
    pub(super) fn below(roots: &[u32]) -> anyhow::Result<Self> {
        let mut others: Vec<Process> = fs::read_dir("/proc")
            .context("cannot read /proc")?
            .filter_map(|entry| Process::read(entry.ok()?.file_name().to_str()?.parse().ok()?))
            .collect();
        let mut list: Vec<Process> = Vec::new();
        loop {
            let belongs = |process: &Process| {
                roots.contains(&process.pid) || list.iter().any(|known| known.pid == process.parent)
            };
            let (found, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(belongs);
            others = rest;
            if found.is_empty() {
                return Ok(Self { list });
            }
            list.extend(found);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.list.iter()
    }

    /// The processes of one program.
    pub(super) fn of_program(&self, program: &str) -> impl Iterator<Item = u32> {
        self.list
            .iter()
            .filter(move |process| process.program == program)
            .map(|process| process.pid)
    }

    pub(super) fn resident_bytes(&self) -> u64 {
        self.list.iter().map(|process| process.resident_bytes).sum()
    }

    /// CPU time for each of so many requests.
    pub(super) fn cpu_us_since(&self, before: &Self, requests: u64) -> ByProgram {
        let mut by_program = ByProgram::new();
        for process in &self.list {
            let used_before = before
                .list
                .iter()
                .find(|old| old.is_same(process))
                .map_or(0, |old| old.cpu_ticks);
            let seconds = float(process.cpu_ticks.saturating_sub(used_before))
                / float(clock_ticks_per_second());
            *by_program.entry(process.program.clone()).or_default() +=
                seconds * 1e6 / float(requests);
        }
        by_program
    }
}

impl Process {
    /// `None` when it has gone.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, the name, may hold blanks and brackets.
        let (name, fields) = stat.rsplit_once(')')?;
        let name = name.split_once('(')?.1;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and here the first is its third.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let program = program
            .as_ref()
            .and_then(|path| path.file_name()?.to_str())
            .unwrap_or(name);
        Some(Self {
            pid,
            parent: number(4)?.try_into().ok()?,
            started_ticks: number(22)?,
            // A program that was built anew while it runs.
            program: program.trim_end_matches(" (deleted)").to_owned(),
            cpu_ticks: number(14)? + number(15)?,
            resident_bytes: number(24)? * page_size() as u64,
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.pid == other.pid && self.started_ticks == other.started_ticks
    }

    /// Whether it still runs. A zombie has no memory.
    pub(super) fn runs(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.is_same(self) && now.resident_bytes > 0)
    }
}
