//! The one error of this crate: a kind for the caller, a text for the user.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use engawa_model::ErrorKind;

use crate::pool::Refused;

/// What went wrong. The message stands alone (a door shows it as it is); the source is
/// for the log. Cheap to clone, since one failed sync may answer many writers.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind, with the text that the user reads.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same with its cause.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            source: Some(Arc::new(source)),
        }
    }

    /// What it means for the caller.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for whoever runs the machine: it may name files.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The text for a tenant's code, which learns nothing of the machine.
    pub fn public_message(&self) -> &str {
        match self.kind {
            ErrorKind::DiskFull => "The disk is full.",
            ErrorKind::Unknown => {
                "It is not known whether the write was stored. Please read and try again."
            }
            ErrorKind::Corrupt | ErrorKind::Internal => {
                "We encountered an internal error. Please try again."
            }
            _ => &self.message,
        }
    }

    /// A failed step on a file or folder: `step` is a verb phrase, as in "write".
    pub(crate) fn io(step: &str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let message = format!("no space left on the disk to {step} {}", path.display());
                Self::with_source(ErrorKind::DiskFull, message, source)
            }
            _ => {
                let message = format!("cannot {step} {}: {source}", path.display());
                Self::with_source(ErrorKind::Internal, message, source)
            }
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::with_source(refused.kind(), refused.to_string(), refused)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
