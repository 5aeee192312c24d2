//! Compatibility date and flags: what the user wrote, and what the pinned workerd runs.

/// Date and flags of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compatibility {
    /// The date as written, `YYYY-MM-DD`; today's if the file has none.
    pub date: String,
    /// The date that workerd is given and that bundling follows: the same, or the newest
    /// that the pinned workerd knows, if that is older.
    pub effective_date: String,
    /// Flags as written, in order; none needs `--experimental`.
    pub flags: Vec<String>,
}
