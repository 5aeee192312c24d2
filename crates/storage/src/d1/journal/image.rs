//! A database as it was: the newest snapshot before a moment, and the journal from there.
//!
//! Snapshots are plain SQLite files, named after the last commit that they hold and the
//! CRC of their bytes. All of this reads files that are never written again (and, within
//! the writer's own turn, the segment that it writes), so it needs no lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use engawa_model::ErrorKind;

use super::record::{Next, Reader, Record};
use crate::layout::sync_folder;
use crate::{Error, Stamp};

/// What is copied at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// The files of a journal, oldest first.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) segments: Vec<SegmentFile>,
    pub(super) snapshots: Vec<SnapshotFile>,
}

#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) start: u64,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) struct SnapshotFile {
    /// The last commit that it holds.
    pub(super) stamp: u64,
    crc: u32,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Where a history may begin.
#[derive(Debug, Clone, Copy)]
enum Base<'a> {
    /// An empty database, before this stamp's successors.
    Nothing(u64),
    Snapshot(&'a SnapshotFile),
}

impl Inventory {
    /// What is in a folder; nothing, if there is none.
    pub(super) fn list(folder: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io("read the folder", folder, error);
        let mut all = Self::default();
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let (name, path) = (entry.file_name(), entry.path());
            let Some(name) = name.to_str() else { continue };
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            let number = |text: &str| u64::from_str_radix(text, 16).ok();
            if let Some(start) = name.strip_suffix(".journal").and_then(number) {
                all.segments.push(SegmentFile { start, path, bytes });
            } else if let Some((stamp, crc)) = name
                .strip_suffix(".snapshot")
                .and_then(|name| name.split_once('-'))
                && let (Some(stamp), Ok(crc)) = (number(stamp), u32::from_str_radix(crc, 16))
            {
                all.snapshots.push(SnapshotFile {
                    stamp,
                    crc,
                    path,
                    bytes,
                });
            }
        }
        all.segments.sort_by_key(|segment| segment.start);
        all.snapshots.sort_by_key(|snapshot| snapshot.stamp);
        Ok(all)
    }

    /// The first moment that can be restored.
    fn oldest(&self) -> Result<Option<u64>, Error> {
        let nothing = self.nothing()?;
        let snapshot = self.snapshots.first().map(|snapshot| snapshot.stamp);
        Ok(nothing.into_iter().chain(snapshot).min())
    }

    /// Where the first segment begins, if that is at an empty database.
    fn nothing(&self) -> Result<Option<u64>, Error> {
        let Some(first) = self.segments.first() else {
            return Ok(None);
        };
        let reader = Reader::open(&first.path)?;
        Ok(reader
            .filter(|reader| reader.header.from_nothing)
            .map(|reader| reader.header.start))
    }

    fn base(&self, target: u64) -> Result<Base<'_>, Error> {
        let snapshot = self.snapshots.iter().rfind(|one| one.stamp <= target);
        if let Some(snapshot) = snapshot {
            return Ok(Base::Snapshot(snapshot));
        }
        match self.nothing()? {
            Some(start) if start <= target => Ok(Base::Nothing(start)),
            _ => Err(too_old(self.oldest()?)),
        }
    }

    /// Bytes of the segments behind the newest base, save the one being written.
    pub(super) fn bytes_since_base(&self) -> u64 {
        let from = self.snapshots.last().map_or(0, |newest| newest.stamp);
        let sealed = self.segments.split_last().map_or(&[][..], |(_, rest)| rest);
        let since = sealed.iter().filter(|segment| segment.start >= from);
        since.map(|segment| segment.bytes).sum()
    }

    /// The last commit up to `limit`, or the base if there is none.
    pub(super) fn last_commit(&self, limit: u64) -> Result<u64, Error> {
        let mut last = self.base(limit)?.stamp();
        self.walk(self.base(limit)?, limit, |_, record| {
            let fits = record.commits.iter().filter(|one| one.stamp <= limit);
            last = fits.map(|one| one.stamp).max().unwrap_or(last).max(last);
            Ok(record.commits.iter().all(|one| one.stamp <= limit))
        })?;
        Ok(last)
    }

    /// Writes the database as of `target` into a new file. `is_wanted` is asked now and
    /// then.
    pub(super) fn restore(
        &self,
        target: u64,
        into: &Path,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<File, Error> {
        let failed = |error| Error::io("write", into, error);
        let out = create(into)?;
        let base = self.base(target)?;
        if let Base::Snapshot(snapshot) = base {
            copy_checked(snapshot, &out, into, is_wanted)?;
        }
        let mut image = Image {
            out: &out,
            path: into,
            waiting: Vec::new(),
            pages: None,
        };
        self.walk(base, target, |reader, record| {
            if !is_wanted() {
                return Err(cancelled());
            }
            image.take(reader, record, target)
        })?;
        if let Some((pages, page_bytes)) = image.pages {
            out.set_len(u64::from(pages) * u64::from(page_bytes))
                .map_err(failed)?;
        }
        Ok(out)
    }

    /// Makes a snapshot as of `stamp` beside the segments.
    pub(super) fn snapshot(
        &self,
        folder: &Path,
        stamp: u64,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let path = folder.join("snapshot.tmp");
        self.restore(stamp, &path, is_wanted)?;
        finish_snapshot(folder, &path, stamp)
    }

    /// Visits records from a base on until `visit` says `false` or `target` is passed.
    fn walk(
        &self,
        base: Base<'_>,
        target: u64,
        mut visit: impl FnMut(&Reader, Record) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let wanted = self
            .segments
            .iter()
            .filter(|segment| (base.stamp()..target).contains(&segment.start));
        let mut number = None;
        for segment in wanted {
            let Some(mut reader) = Reader::open(&segment.path)? else {
                return Err(damaged_head(&segment.path));
            };
            if number.is_some_and(|number| number != reader.number) {
                return Err(missing_before(&segment.path));
            }
            loop {
                match reader.next()? {
                    Next::Record(record) => {
                        if !visit(&reader, record)? {
                            return Ok(());
                        }
                    }
                    Next::End => break,
                    Next::Broken => return Err(reader.damaged()),
                }
            }
            number = Some(reader.number);
        }
        Ok(())
    }
}

impl Base<'_> {
    fn stamp(self) -> u64 {
        match self {
            Self::Nothing(stamp) => stamp,
            Self::Snapshot(snapshot) => snapshot.stamp,
        }
    }
}

/// An image being written.
struct Image<'a> {
    out: &'a File,
    path: &'a Path,
    /// Records with pages of a transaction whose commit has not come; how many pages of
    /// each were written before. A transaction lies in one segment.
    waiting: Vec<(Record, usize)>,
    /// Pages of the database after the last commit, and the bytes of each.
    pages: Option<(u32, u32)>,
}

impl Image<'_> {
    /// Writes what is committed up to `target`; `false`: there is no more.
    fn take(&mut self, reader: &Reader, record: Record, target: u64) -> Result<bool, Error> {
        if record.is_mark {
            return Ok(true);
        }
        let fits = record.commits.iter().rfind(|one| one.stamp <= target);
        let (fits, is_over) = (
            fits.copied(),
            record.commits.iter().any(|one| one.stamp > target),
        );
        let length = record.page_numbers.len();
        self.waiting.push((record, 0));
        if let Some(commit) = fits {
            let count = self.waiting.len();
            for (index, (record, done)) in self.waiting.iter().enumerate() {
                let until = if index + 1 == count {
                    commit.frame as usize + 1
                } else {
                    record.page_numbers.len()
                };
                self.write(reader, record, *done..until.min(record.page_numbers.len()))?;
            }
            self.pages = Some((commit.pages, reader.header.page_bytes));
            let last = self.waiting.pop();
            self.waiting.clear();
            let done = commit.frame as usize + 1;
            if let Some((record, _)) = last
                && done < length
            {
                self.waiting.push((record, done));
            }
        }
        Ok(!is_over)
    }

    fn write(
        &self,
        reader: &Reader,
        record: &Record,
        range: std::ops::Range<usize>,
    ) -> Result<(), Error> {
        let pages = reader.pages(record)?.ok_or_else(|| reader.damaged())?;
        let page_bytes = reader.header.page_bytes as usize;
        for index in range {
            let number = u64::from(record.page_numbers[index]);
            let page = &pages[index * page_bytes..(index + 1) * page_bytes];
            let offset = number.saturating_sub(1) * page_bytes as u64;
            self.out
                .write_all_at(page, offset)
                .map_err(|error| Error::io("write", self.path, error))?;
        }
        Ok(())
    }
}

/// Syncs a finished image and gives it the name of a snapshot.
pub(super) fn finish_snapshot(folder: &Path, path: &Path, stamp: u64) -> Result<(), Error> {
    let failed = |error| Error::io("finish the snapshot", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut crc, mut chunk) = (0, vec![0; CHUNK_BYTES]);
    loop {
        let length = file.read(&mut chunk).map_err(failed)?;
        if length == 0 {
            break;
        }
        crc = crc32c::crc32c_append(crc, &chunk[..length]);
    }
    file.sync_all().map_err(failed)?;
    let name = folder.join(format!("{stamp:016x}-{crc:08x}.snapshot"));
    fs::rename(path, name).map_err(failed)?;
    sync_folder(folder)
}

/// A new file for an image, in place of one that a crash left.
fn create(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io("create", path, error))
}

fn copy_checked(
    snapshot: &SnapshotFile,
    mut out: &File,
    path: &Path,
    is_wanted: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let failed = |error| Error::io("read", &snapshot.path, error);
    let mut file = File::open(&snapshot.path).map_err(failed)?;
    let (mut crc, mut chunk) = (0, vec![0; CHUNK_BYTES]);
    loop {
        if !is_wanted() {
            return Err(cancelled());
        }
        let length = file.read(&mut chunk).map_err(failed)?;
        if length == 0 {
            break;
        }
        crc = crc32c::crc32c_append(crc, &chunk[..length]);
        out.write_all(&chunk[..length])
            .map_err(|error| Error::io("write", path, error))?;
    }
    if crc == snapshot.crc {
        return Ok(());
    }
    let message = format!(
        "the snapshot {} is damaged: moments from {} to the next snapshot cannot be restored; \
         choose another one",
        snapshot.path.display(),
        time(snapshot.stamp)
    );
    Err(Error::new(ErrorKind::Corrupt, message))
}

fn too_old(oldest: Option<u64>) -> Error {
    let message = match oldest {
        Some(oldest) => format!(
            "The history of this database begins at {}; choose a later moment.",
            time(oldest)
        ),
        None => "This database has no history yet.".to_owned(),
    };
    Error::new(ErrorKind::InvalidArgument, message)
}

pub(super) fn damaged_head(path: &Path) -> Error {
    let message = format!(
        "the journal file {} is damaged at its beginning: what it holds cannot be restored; \
         choose an earlier moment, or one after the next snapshot",
        path.display()
    );
    Error::new(ErrorKind::Corrupt, message)
}

fn missing_before(path: &Path) -> Error {
    let message = format!(
        "a journal file before {} is missing: moments after it cannot be restored up to the \
         next snapshot",
        path.display()
    );
    Error::new(ErrorKind::Corrupt, message)
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Unavailable, "the database is being closed")
}

/// A stamp's time, in UTC.
fn time(stamp: u64) -> String {
    let ms = Stamp::from_sql(stamp.cast_signed()).ms();
    let days = ms / 86_400_000;
    let of_day = ms % 86_400_000 / 1000;
    // Days to a date of the proleptic Gregorian calendar, with years that begin in March.
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Makes a snapshot on a thread of its own. Dropping it ends the work.
pub(super) struct Snapshotting {
    cancelled: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Snapshotting {
    /// `permit` is held as long as the work lasts.
    pub(super) fn start<P: Send + 'static>(
        folder: PathBuf,
        stamp: u64,
        permit: P,
    ) -> io::Result<Self> {
        let cancelled = std::sync::Arc::new(AtomicBool::new(false));
        let flag = std::sync::Arc::clone(&cancelled);
        let thread = std::thread::Builder::new()
            .name("d1-snapshot".into())
            .spawn(move || {
                let _permit = permit;
                let is_wanted = || !flag.load(Ordering::Relaxed);
                let done = Inventory::list(&folder)
                    .and_then(|all| all.snapshot(&folder, stamp, &is_wanted));
                match done {
                    Err(error) if is_wanted() => {
                        let folder = folder.display();
                        tracing::error!(%folder, %error, "no snapshot of a D1 database could be made");
                    }
                    _ => {}
                }
            })?;
        Ok(Self {
            cancelled,
            thread: Some(thread),
        })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread
            .as_ref()
            .is_none_or(std::thread::JoinHandle::is_finished)
    }
}

impl Drop for Snapshotting {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
