//! The handful of kinds into which every storage error folds. A door (a binding, the
//! REST API) maps a kind to a status; nothing deeper knows about HTTP.

/// What an error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing asked for does not exist.
    NotFound,
    /// It exists already, or changed meanwhile.
    Conflict,
    /// A condition of the request did not hold.
    PreconditionFailed,
    /// The request itself is wrong; its text says what to do.
    InvalidArgument,
    /// A key is longer than its limit.
    KeyTooLong,
    /// A value, a page or a statement is larger than its limit.
    TooLarge,
    /// A byte range lies outside of its object.
    RangeNotSatisfiable,
    /// A body ended before its announced length.
    Incomplete,
    /// The user's SQL failed; the text is SQLite's.
    Sql,
    /// A queue is full or a deadline passed before work began: safe to repeat.
    Unavailable,
    /// A sync failed: whether the write will survive is not known.
    Unknown,
    /// The disk is full.
    DiskFull,
    /// Stored bytes do not match their checksum, or a file is not what it should be.
    Corrupt,
    /// A defect or a fault of the machine.
    Internal,
}
