//! What an operation cost. Every storage operation returns its [`Usage`] with its
//! result; the door that asked hands it to whoever counts.

/// Which of Cloudflare's billed operations a call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageClass {
    /// KV `get`, one a key.
    KvRead,
    /// KV `put`.
    KvWrite,
    /// KV `delete`.
    KvDelete,
    /// KV `list`, one a page.
    KvList,
    /// A D1 request.
    D1Query,
    /// R2 class A: writes, lists, multipart.
    R2ClassA,
    /// R2 class B: reads.
    R2ClassB,
    /// R2 operations that cost nothing: `delete`, aborting an upload.
    R2Free,
    /// Analytics Engine data points written.
    AnalyticsWrite,
}

/// The cost of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What was billed.
    pub class: UsageClass,
    /// How many operations of that class (a bulk read counts its keys).
    pub operations: u64,
    /// D1: rows read. Zero elsewhere.
    pub rows_read: u64,
    /// D1: rows written. Zero elsewhere.
    pub rows_written: u64,
    /// Bytes of values that went in.
    pub bytes_in: u64,
    /// Bytes of values that came out.
    pub bytes_out: u64,
}

impl Usage {
    /// One operation that moved no bytes.
    pub fn one(class: UsageClass) -> Self {
        Self {
            class,
            operations: 1,
            rows_read: 0,
            rows_written: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// The same with the number of bytes that came out.
    pub fn with_bytes_out(self, bytes_out: u64) -> Self {
        Self { bytes_out, ..self }
    }

    /// The same with the number of bytes that went in.
    pub fn with_bytes_in(self, bytes_in: u64) -> Self {
        Self { bytes_in, ..self }
    }
}

/// A result together with its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metered<T> {
    /// What was asked for.
    pub value: T,
    /// What it cost.
    pub usage: Usage,
}
