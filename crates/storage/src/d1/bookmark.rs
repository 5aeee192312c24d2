//! Bookmarks: `epoch-sequence` in D1's shape of four groups of 8, 8, 8 and 32 lower-case
//! hex digits. Ours are the epoch (0 on one node), the stamp of the commit as two groups,
//! and the lineage: which database of which account. Stamps grow for ever in a data
//! folder, over restarts and whatever the clock does, so bookmarks sort in commit order
//! as text, which is what a session relies on (workerd.md 4.6).

use engawa_model::{AccountId, DatabaseId};

/// The last group: 32 hex digits.
pub(super) type Lineage = [u8; 32];

pub(super) fn lineage(account: &AccountId, database: &DatabaseId) -> Lineage {
    let mut hasher = blake3::Hasher::new_derive_key("engawa d1 bookmark lineage");
    // The length keeps the two texts apart.
    hasher.update(&(account.as_str().len() as u64).to_le_bytes());
    hasher.update(account.as_str().as_bytes());
    hasher.update(database.as_str().as_bytes());
    let mut lineage = [0; 32];
    lineage.copy_from_slice(&hasher.finalize().to_hex().as_bytes()[..32]);
    lineage
}

/// The bookmark of a commit.
pub(super) fn format(commit: u64, lineage: &Lineage) -> String {
    let (high, low) = (commit >> 32, commit & 0xffff_ffff);
    let lineage = std::str::from_utf8(lineage).unwrap_or_default();
    format!("{:08x}-{high:08x}-{low:08x}-{lineage}", 0)
}

/// Whether a session's constraint is one that this database satisfies now. On a single
/// node it has every commit that it ever made, so a bookmark is satisfied unless it comes
/// from a future: of another lineage, or of a later state of this one.
pub(super) fn is_satisfied(constraint: &str, commit: u64, lineage: &Lineage) -> bool {
    match constraint {
        "first-unconstrained" | "first-primary" => true,
        bookmark => is_bookmark(bookmark) && bookmark <= format(commit, lineage).as_str(),
    }
}

/// The commit that a bookmark of this database names.
pub(super) fn commit(text: &str, lineage: &Lineage) -> Option<u64> {
    if !is_bookmark(text) {
        return None;
    }
    let mut groups = text.split('-');
    let mut number = || u64::from_str_radix(groups.next()?, 16).ok();
    let (epoch, high, low) = (number()?, number()?, number()?);
    let is_ours = epoch == 0 && groups.next()?.as_bytes() == lineage;
    is_ours.then_some(high << 32 | low)
}

fn is_bookmark(text: &str) -> bool {
    let mut groups = text.split('-');
    [8, 8, 8, 32].into_iter().all(|length| {
        groups.next().is_some_and(|group| {
            group.len() == length
                && group
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        })
    }) && groups.next().is_none()
}
