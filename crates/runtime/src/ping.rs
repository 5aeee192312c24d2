//! Whether a process still turns its event loop, asked over its private socket.
//!
//! A busy loop never answers, and never sees a SIGTERM either. One that has burnt its
//! limit of CPU time without answering is to be killed. CPU time is measured and not wall
//! time, so that a busy machine kills nobody.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::pool::Instance;
use crate::process::Process;

/// Between two pings.
const EVERY: Duration = Duration::from_millis(500);
/// The shortest time between two pings that ask for the number of finished requests.
const EVERY_UNSETTLED: Duration = Duration::from_millis(20);
/// How long one waits for its answer before CPU time is looked at.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns when the process has used `cpu_limit` without answering and is to be killed.
pub(crate) async fn exhausted(
    socket: &Path,
    process: &Process,
    instance: &Instance,
    counts_finished: bool,
    cpu_limit: Duration,
) {
    // CPU time at the last answer.
    let mut answered_at = process.cpu_time();
    let mut pause = EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let unsettled = counts_finished && instance.unsettled();
        if instance.in_flight() == 0 && !unsettled {
            // An idle process is left alone, so that 200 of them cost nothing.
            answered_at = process.cpu_time();
            pause = EVERY;
            continue;
        }
        // Whoever waits for the last `waitUntil` should not wait much longer than that,
        // but a request that never reached the worker has no tail event at all.
        pause = if unsettled {
            (pause * 2).clamp(EVERY_UNSETTLED, EVERY)
        } else {
            EVERY
        };
        // A refused connection is no answer either: a loop may have filled the backlog.
        if let Ok(Ok(count)) = tokio::time::timeout(PATIENCE.min(cpu_limit), ping(socket)).await {
            if instance.note_finished(count) && unsettled {
                pause = EVERY_UNSETTLED;
            }
            answered_at = process.cpu_time();
        } else if process.cpu_time().saturating_sub(answered_at) >= cpu_limit {
            return;
        }
    }
}

/// One ping: the answer is the number of requests whose tail event has come.
async fn ping(socket: &Path) -> std::io::Result<u64> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: ping\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::with_capacity(256);
    stream.take(4096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    text.rsplit_once("\r\n\r\n")
        .and_then(|(_, body)| body.trim().parse().ok())
        .ok_or_else(|| std::io::Error::other("not an answer to a ping"))
}
