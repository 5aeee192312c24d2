//! Load by wrk.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::float;
use super::servers::Child;
use crate::setup;

/// How long wrk may take to end after its time.
const END: Duration = Duration::from_secs(30);

pub(super) struct Wrk {
    program: PathBuf,
    script: PathBuf,
}

/// What wrk counted.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) requests_per_s: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    /// Answers but 2xx and 3xx, and those that did not come.
    pub(super) errors: u64,
}

impl Wrk {
    pub(super) fn new(script: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            program: setup::debian_program("wrk", "wrk")?,
            script,
        })
    }

    /// Asks for one URL over and over.
    pub(super) fn run(&self, url: &str, connections: u32, time: Duration) -> anyhow::Result<Load> {
        let mut command = Command::new(&self.program);
        command
            .arg("--threads=1")
            .arg(format!("--connections={connections}"))
            .arg(format!("--duration={}s", time.as_secs()))
            .arg("--timeout=10s")
            .arg("--script")
            .arg(&self.script)
            .arg(url)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let output = Child::spawn(command)?.output_within(time + END)?;
        let text = String::from_utf8_lossy(&output);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .with_context(|| format!("wrk said:\n{text}"))?;
        let numbers: Vec<u64> = line
            .split(' ')
            .filter_map(|number| number.parse().ok())
            .collect();
        let [requests, time_us, errors, p50_us, p99_us] = numbers[..] else {
            bail!("wrk's script printed what is not five numbers: {line}");
        };
        if requests == 0 || requests == errors {
            bail!("no request for {url} was answered");
        }
        Ok(Load {
            requests,
            requests_per_s: float(requests) * 1e6 / float(time_us),
            p50_us,
            p99_us,
            errors,
        })
    }
}
