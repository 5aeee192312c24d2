//! Whether a process still turns its event loop, asked over its private socket.
//!
//! A busy loop never answers, and never sees a SIGTERM either. One that has burnt
//! [`CPU_LIMIT_MS`] without answering is to be killed. CPU time is measured and not wall
//! time, so that a busy machine kills nobody.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::pool::Instance;
use crate::process::Process;

/// CPU time without an answer (docs: workers limits, CPU time).
const CPU_LIMIT_MS: u64 = 30_000;
/// Between two pings.
const EVERY: Duration = Duration::from_millis(500);
/// The shortest time between two pings that ask for the number of finished requests.
const EVERY_UNSETTLED: Duration = Duration::from_millis(20);
/// How long one waits for its answer before CPU time is looked at.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns `true` when the process has to be killed; does not return otherwise.
pub(crate) async fn watch(socket: &Path, process: &Process, instance: &Instance, counts_finished: bool) -> bool {
    // CPU time at the last answer.
    let mut answered_at_cpu_ms = process.cpu_ms();
    let mut pause = EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let unsettled = counts_finished && instance.unsettled();
        if instance.in_flight() == 0 && !unsettled {
            // An idle process is left alone, so that 200 of them cost nothing.
            answered_at_cpu_ms = process.cpu_ms();
            pause = EVERY;
            continue;
        }
        // Whoever waits for the last `waitUntil` should not wait much longer than that,
        // but a request that never reached the worker has no tail event at all.
        pause = if unsettled { (pause * 2).clamp(EVERY_UNSETTLED, EVERY) } else { EVERY };
        match tokio::time::timeout(PATIENCE, ping(socket)).await {
            Ok(Ok(count)) => {
                if instance.note_finished(count) && unsettled {
                    pause = EVERY_UNSETTLED;
                }
                answered_at_cpu_ms = process.cpu_ms();
            }
            // It may be on its way out, which its owner sees.
            Ok(Err(_)) => tokio::time::sleep(EVERY).await,
            Err(_) => {
                if process.cpu_ms().saturating_sub(answered_at_cpu_ms) >= CPU_LIMIT_MS {
                    return true;
                }
            }
        }
    }
}

/// One ping: the answer is the number of requests whose tail event has come.
async fn ping(socket: &Path) -> std::io::Result<u64> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ping\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::with_capacity(256);
    stream.take(4096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    text.rsplit_once("\r\n\r\n")
        .and_then(|(_, body)| body.trim().parse().ok())
        .ok_or_else(|| std::io::Error::other("not an answer to a ping"))
}
