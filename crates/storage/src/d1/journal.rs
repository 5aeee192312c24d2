//! The journal of a database: every commit, so that any moment of the last 30 days can be
//! brought back.
//!
//! **What is where.** A folder for each database, beside its file and never inside:
//! *segments* (`<start>.journal`, see [`record`]) hold the pages that each commit wrote,
//! in order, with the commit's stamp; *snapshots* ([`image`]) hold the whole database as
//! of a commit. A moment is the newest snapshot before it and the commits from there on.
//!
//! **Appending** costs no sync. After a group's commits were synced in the `-wal`, their
//! frames are copied from there to the segment and written, before anybody is answered:
//! so a kill loses neither pages nor stamps. The segment is synced before a checkpoint
//! copies frames into the file, behind a *mark*, and at most once a second besides. What
//! a power cut takes from a segment's end is still in the `-wal`; commits that are found
//! there alone are stamped anew when the database is opened (a bookmark of theirs from
//! before the cut means the last commit whose stamp was kept).
//!
//! **Going on.** Each record says where in which run of the `-wal` its frames were (the
//! run's *salts*; SQLite adds one to the first with every new run). At open the journal
//! goes on if the `-wal` is still in the same run, or in the next one and the last record
//! is a mark. Otherwise something else has written to the database (the `sqlite3` program,
//! a copied file), or the journal lost what it had synced: that is logged, and a new
//! snapshot begins a new history. The old one stays and can be restored, as far as it is
//! whole. A database that is older than the journal begins in the same way.
//!
//! **Space.** A segment is closed at [`JournalLimits::segment_bytes`]. Once the closed ones
//! since the last snapshot are twice as large as the database, a thread makes the next
//! snapshot from the journal's own files, so no lock is held. Segments and snapshots that
//! no moment within [`JournalLimits::kept_ms`] needs are removed; the oldest go earlier
//! when all together exceed [`JournalLimits::bytes`].
//!
//! **Failure.** If the journal cannot be written the database goes on, and the `-wal` keeps
//! what is missing, up to a bound. Past that, or when a sync failed, the history is *lost*
//! from there on until a new snapshot can be made. Restores of the gap are refused.

mod image;
mod record;
mod space;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use engawa_model::ErrorKind;
use rusqlite::ffi as sqlite;

use self::image::{Inventory, Snapshotting};
use self::record::{Commit, HEADER_BYTES, Header, Next, Place, RECORD_FRAMES, Reader};
use super::errors::SqlError;
use super::ffi::{Db, Wal};
use super::file::NextStamp;
use crate::layout::{Layout, sync_folder};
use crate::{Error, Stamp};

const WAL_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// Between two syncs that nothing but a power cut's loss of stamps asks for.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// A checkpoint is put off while the journal cannot be written, up to so many times the
/// usual length of the `-wal`.
const PATIENCE: u32 = 16;

/// Bounds of a journal.
#[derive(Debug, Clone)]
pub(super) struct JournalLimits {
    /// How far back a restore may go (docs: d1 time travel, 30 days).
    pub(super) kept_ms: u64,
    /// When a segment is closed.
    pub(super) segment_bytes: u64,
    /// All files of one database's journal.
    pub(super) bytes: u64,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self {
            kept_ms: 30 * 24 * 60 * 60 * 1000,
            segment_bytes: 64 * 1024 * 1024,
            bytes: 64 * 1024 * 1024 * 1024,
        }
    }
}

/// The journal of an open database. The writer's.
pub(super) struct Journal {
    layout: Arc<Layout>,
    folder: PathBuf,
    limits: JournalLimits,
    next_stamp: NextStamp,
    page_bytes: u32,
    /// What of the `-wal` the segments hold.
    place: Place,
    /// The last record is a mark.
    marked: bool,
    /// Of the next record.
    number: u64,
    /// Of the newest commit that the segments hold.
    last_stamp: u64,
    /// Commits of the `-wal` that were not written yet, oldest first.
    pending: VecDeque<Pending>,
    /// `None` until the first commit of a new database, and when the history is lost.
    segment: Option<Segment>,
    /// Nothing is written until there is a new snapshot.
    lost: bool,
    /// A problem was logged and lasts.
    failing: bool,
    synced_at: Instant,
    snapshotting: Option<Snapshotting>,
    snapshots: Arc<AtomicUsize>,
}

struct Pending {
    /// Frames in the `-wal` with the commit.
    frames: u32,
    stamp: u64,
}

struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
    synced_bytes: u64,
    /// Its name outlives a power cut.
    is_named: bool,
}

/// What opening a journal needs.
pub(super) struct Opening<'a> {
    pub(super) layout: &'a Arc<Layout>,
    pub(super) folder: PathBuf,
    pub(super) limits: &'a JournalLimits,
    pub(super) next_stamp: &'a NextStamp,
    /// Snapshots being made in the process.
    pub(super) snapshots: &'a Arc<AtomicUsize>,
    /// The writer's connection, after its first read.
    pub(super) db: &'a Db,
    pub(super) page_bytes: u32,
    /// The database's file was made just now.
    pub(super) is_new: bool,
    /// A sync failed when it was open last.
    pub(super) is_distrusted: bool,
}

impl Journal {
    /// Opens a journal and completes it from the `-wal`. What goes wrong here costs history
    /// and is logged; the database opens.
    pub(super) fn open(opening: Opening<'_>) -> Self {
        let mut journal = Self {
            layout: Arc::clone(opening.layout),
            folder: opening.folder,
            limits: opening.limits.clone(),
            next_stamp: Arc::clone(opening.next_stamp),
            page_bytes: opening.page_bytes,
            place: Place::default(),
            marked: true,
            number: 0,
            last_stamp: 0,
            pending: VecDeque::new(),
            segment: None,
            lost: false,
            failing: false,
            synced_at: Instant::now(),
            snapshotting: None,
            snapshots: Arc::clone(opening.snapshots),
        };
        let db = opening.db;
        let opened = journal.go_on(db, opening.is_new, opening.is_distrusted);
        let complete = opened.and_then(|goes_on| {
            if goes_on {
                Ok(())
            } else {
                journal.begin_anew(db)
            }
        });
        if let Err(error) = complete {
            journal.lose(&error);
        }
        journal
    }

    /// A commit is in the `-wal` now; it is written by the next [`Journal::append`].
    pub(super) fn note(&mut self, frames: u32, stamp: u64) {
        if !self.lost {
            self.pending.push_back(Pending { frames, stamp });
        }
    }

    /// Writes what was noted. The `-wal` is synced up to there.
    pub(super) fn append(&mut self, wal: &Wal<'_>) {
        let Some(last) = self.pending.back() else {
            return;
        };
        let until = last.frames;
        match self.append_until(wal, until) {
            Ok(()) => self.failing = false,
            Err(error) => self.report(&error),
        }
    }

    /// Whether a sync is due that nobody waits for.
    pub(super) fn sync_if_due(&mut self) -> bool {
        let unsynced = self
            .segment
            .as_ref()
            .is_some_and(|segment| segment.synced_bytes < segment.bytes);
        !unsynced || self.synced_at.elapsed() < SYNC_EVERY || self.sync_or_lose()
    }

    /// Makes all that was written durable, behind a mark, so that a checkpoint may copy it.
    /// `false`: it must not, this time.
    pub(super) fn before_checkpoint(&mut self, db: &Db, wal_pages: u32, usual_pages: u32) -> bool {
        self.append(&db.wal());
        if !self.lost && !self.pending.is_empty() {
            if wal_pages < usual_pages.saturating_mul(PATIENCE) {
                return false;
            }
            let text = "the write-ahead log cannot wait any longer for the journal";
            self.lose(&Error::new(ErrorKind::Internal, text));
        }
        if self.lost {
            if let Err(error) = self.begin_anew(db) {
                self.report(&error);
            }
            return true;
        }
        if let Err(error) = self.mark() {
            self.report(&error);
            return wal_pages >= usual_pages.saturating_mul(PATIENCE) && {
                self.lose(&error);
                true
            };
        }
        self.sync_or_lose();
        true
    }

    /// After a checkpoint: closes a long segment, begins a snapshot, removes what is old.
    pub(super) fn tidy(&mut self, database_bytes: u64) {
        if self
            .snapshotting
            .as_ref()
            .is_some_and(Snapshotting::is_finished)
        {
            self.snapshotting = None;
        }
        let is_long = self.segment.as_ref().is_some_and(|segment| {
            segment.bytes >= self.limits.segment_bytes && segment.synced_bytes == segment.bytes
        });
        if !is_long || self.lost || !self.marked {
            return;
        }
        let tidied = self
            .begin_segment(self.last_stamp, false)
            .and_then(|()| self.sync())
            .and_then(|()| {
                self.begin_snapshot(database_bytes)?;
                self.trim()
            });
        if let Err(error) = tidied {
            self.report(&error);
        }
    }

    /// The commit that was the last one at a moment.
    pub(super) fn commit_at(&self, limit: Stamp) -> Result<u64, Error> {
        self.check_whole()?;
        self.inventory()?
            .last_commit(limit.to_sql().cast_unsigned())
    }

    /// Writes the database as of a commit into a file of the journal's folder, which the
    /// caller removes. A page holds the database at least, except before its first commit.
    pub(super) fn restore(&self, stamp: u64) -> Result<PathBuf, Error> {
        self.check_whole()?;
        let path = self.folder.join("restore.tmp");
        self.layout.ensure_folder(&self.folder)?;
        let all = self.inventory()?;
        let file = all.restore(stamp, &path, &|| true)?;
        let failed = |error| Error::io("write", &path, error);
        if file.metadata().map_err(failed)?.len() > 0 {
            // The image is no WAL database itself: nothing is beside it.
            file.write_all_at(&[1, 1], 18).map_err(failed)?;
        }
        Ok(path)
    }

    fn check_whole(&self) -> Result<(), Error> {
        if self.lost || !self.pending.is_empty() {
            let message = format!(
                "the journal {} cannot be written (the log says why), so nothing can be \
                 restored now",
                self.folder.display()
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(())
    }

    fn inventory(&self) -> Result<Inventory, Error> {
        Inventory::list(&self.folder)
    }

    /// Finds the place where the last process stopped. `false`: there is none to go on from.
    fn go_on(&mut self, db: &Db, is_new: bool, is_distrusted: bool) -> Result<bool, Error> {
        remove_leftovers(&self.folder)?;
        let mut all = self.inventory()?;
        let frames = db.wal_frames().map_err(|error| wal_error(&error))?;
        let salts = salts(&db.wal())?;
        let (last, mut reader) = match last_segment(&mut all)? {
            Newest::Segment(last, reader) => (last, reader),
            Newest::Broken(last) => {
                let error = image::damaged_head(&last);
                tracing::error!(%error, "Time Travel goes on from a new snapshot");
                return Ok(false);
            }
            Newest::None => {
                let begins = all.snapshots.is_empty() && is_new;
                if begins {
                    self.last_stamp = (self.next_stamp)()?;
                }
                return Ok(begins);
            }
        };
        self.place = reader.header.place;
        self.marked = reader.header.marked;
        self.last_stamp = reader.header.start;
        let is_whole = loop {
            match reader.next()? {
                Next::Record(record) => {
                    self.marked = record.is_mark;
                    self.place = record.place;
                    let added = u32::try_from(record.page_numbers.len()).unwrap_or(u32::MAX);
                    self.place.frames = self.place.frames.saturating_add(added);
                    if let Some(commit) = record.commits.last() {
                        self.last_stamp = commit.stamp;
                    }
                }
                Next::End => break true,
                Next::Broken => break false,
            }
        };
        self.number = reader.number;
        let next = salts.and_then(|salts| follow(self.place, self.marked, Place { salts, frames }));
        let fits = reader.header.page_bytes == self.page_bytes && !is_distrusted;
        let Some(next) = next.filter(|_| fits) else {
            let folder = self.folder.display();
            if is_whole {
                tracing::warn!(
                    %folder,
                    "a D1 database was changed by something else than Engawa; its Time Travel \
                     goes on from a new snapshot"
                );
            } else {
                let error = reader.damaged();
                tracing::error!(%folder, %error, "Time Travel goes on from a new snapshot");
            }
            return Ok(false);
        };
        let file = open_segment(&last)?;
        let failed = |error| Error::io("open", &last, error);
        if !is_whole {
            // A power cut took it; all of it is in the `-wal`.
            file.set_len(reader.offset).map_err(failed)?;
        }
        self.segment = Some(Segment {
            file,
            path: last,
            bytes: reader.offset,
            synced_bytes: 0,
            is_named: false,
        });
        self.place = next;
        self.append_until(&db.wal(), frames)?;
        self.trim()?;
        Ok(true)
    }

    /// A snapshot of the database as it is, and a segment that goes on from there.
    fn begin_anew(&mut self, db: &Db) -> Result<(), Error> {
        let sql = |error: SqlError| {
            let message = format!("no snapshot of the database could be made: {error}");
            Error::with_source(ErrorKind::Internal, message, error)
        };
        self.layout.ensure_folder(&self.folder)?;
        self.pending.clear();
        let stamp = (self.next_stamp)()?;
        let frames = db.wal_frames().map_err(sql)?;
        let salts = salts(&db.wal())?;
        let path = self.folder.join("snapshot.tmp");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, error));
            }
            _ => {}
        }
        let flags = sqlite::SQLITE_OPEN_READWRITE
            | sqlite::SQLITE_OPEN_CREATE
            | sqlite::SQLITE_OPEN_NOMUTEX;
        {
            let copy = Db::open(&path, flags).map_err(sql)?;
            // It is synced as a whole, and a half one is removed.
            copy.pragma("PRAGMA synchronous = OFF").map_err(sql)?;
            copy.pragma("PRAGMA journal_mode = OFF").map_err(sql)?;
            db.copy_to(&copy).map_err(sql)?;
        }
        image::finish_snapshot(&self.folder, &path, stamp)?;
        self.place = match salts {
            Some(salts) => Place { salts, frames },
            None => Place::default(),
        };
        self.marked = true;
        self.last_stamp = stamp;
        self.lost = false;
        self.begin_segment(stamp, false)?;
        self.failing = false;
        Ok(())
    }

    fn append_until(&mut self, wal: &Wal<'_>, until: u32) -> Result<(), Error> {
        if self.lost {
            return Ok(());
        }
        let salts = salts(wal)?.ok_or_else(changed_log)?;
        if salts != self.place.salts {
            self.place = Place { salts, frames: 0 };
        }
        if self.place.frames >= until {
            return Ok(());
        }
        if self.segment.is_none() {
            self.layout.ensure_folder(&self.folder)?;
            self.begin_segment(self.last_stamp, true)?;
        }
        while self.place.frames < until {
            let count = (until - self.place.frames).min(RECORD_FRAMES);
            self.append_frames(wal, count)?;
        }
        Ok(())
    }

    /// Copies frames from the `-wal` to one record.
    fn append_frames(&mut self, wal: &Wal<'_>, count: u32) -> Result<(), Error> {
        let page_bytes = self.page_bytes as usize;
        let frame_bytes = FRAME_HEADER_BYTES + page_bytes;
        let offset = WAL_HEADER_BYTES as u64 + u64::from(self.place.frames) * frame_bytes as u64;
        let mut frames = vec![0; count as usize * frame_bytes];
        if !wal
            .read(offset, &mut frames)
            .map_err(|error| wal_error(&error))?
        {
            return Err(changed_log());
        }
        let (mut numbers, mut commits) = (Vec::with_capacity(count as usize), Vec::new());
        let mut pages = Vec::with_capacity(count as usize * page_bytes);
        let mut taken = 0;
        for (index, frame) in (0..).zip(frames.chunks_exact(frame_bytes)) {
            let word = |at: usize| -> u32 {
                let bytes = frame
                    .get(at..at + 4)
                    .and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u32::from_be_bytes)
            };
            if [word(8), word(12)] != self.place.salts {
                return Err(changed_log());
            }
            numbers.push(word(0));
            pages.extend_from_slice(&frame[FRAME_HEADER_BYTES..]);
            let pages_after = word(4);
            if pages_after == 0 {
                continue;
            }
            let end = self.place.frames + index + 1;
            let stamp = match self.pending.get(taken) {
                Some(pending) if pending.frames == end => {
                    taken += 1;
                    pending.stamp
                }
                // Found after a crash.
                _ => (self.next_stamp)()?,
            };
            commits.push(Commit {
                frame: index,
                pages: pages_after,
                stamp,
            });
        }
        let record = record::encode(self.number, self.place, &commits, &numbers, &pages);
        self.write(&record)?;
        self.place.frames += count;
        self.marked = false;
        self.pending.drain(..taken);
        if let Some(commit) = commits.last() {
            self.last_stamp = commit.stamp;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<(), Error> {
        if self.marked || self.segment.is_none() {
            return Ok(());
        }
        let record = record::encode(self.number, self.place, &[], &[], &[]);
        self.write(&record)?;
        self.marked = true;
        Ok(())
    }

    /// Appends a record. If that fails, the next one takes its place.
    fn write(&mut self, record: &[u8]) -> Result<(), Error> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        segment
            .file
            .write_all_at(record, segment.bytes)
            .map_err(|error| Error::io("write", &segment.path, error))?;
        segment.bytes += record.len() as u64;
        self.number += 1;
        Ok(())
    }

    /// Begins a segment; the one before is synced. So is its beginning: a damaged one is
    /// damage then, and not what a power cut took.
    fn begin_segment(&mut self, start: u64, from_nothing: bool) -> Result<(), Error> {
        let header = Header {
            page_bytes: self.page_bytes,
            from_nothing,
            number: self.number,
            start,
            place: if from_nothing {
                Place::default()
            } else {
                self.place
            },
            marked: true,
        };
        let path = self.folder.join(format!("{start:016x}.journal"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        file.write_all_at(&header.encode(), 0)
            .map_err(|error| Error::io("write", &path, error))?;
        file.sync_data()
            .map_err(|error| Error::io("sync", &path, error))?;
        sync_folder(&self.folder)?;
        self.segment = Some(Segment {
            file,
            path,
            bytes: HEADER_BYTES as u64,
            synced_bytes: HEADER_BYTES as u64,
            is_named: true,
        });
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.synced_at = Instant::now();
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        if segment.synced_bytes < segment.bytes {
            segment
                .file
                .sync_data()
                .map_err(|error| Error::io("sync", &segment.path, error))?;
            segment.synced_bytes = segment.bytes;
        }
        if !std::mem::replace(&mut segment.is_named, true) {
            sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// A failed sync is never tried again: what the disk holds is not known.
    fn sync_or_lose(&mut self) -> bool {
        match self.sync() {
            Ok(()) => true,
            Err(error) => {
                self.lose(&error);
                false
            }
        }
    }

    /// Gives up what comes from here on, until there is a new snapshot.
    fn lose(&mut self, error: &Error) {
        self.report(error);
        self.lost = true;
        self.pending.clear();
        self.segment = None;
    }

    /// Logs a problem once.
    fn report(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let folder = self.folder.display();
            tracing::error!(%folder, %error, "the journal of a D1 database cannot be written");
        }
    }
}

/// Where to go on in the `-wal` behind `last`; `None`: something in between is missing.
fn follow(last: Place, marked: bool, now: Place) -> Option<Place> {
    if now.salts == last.salts {
        return (last.frames <= now.frames).then_some(last);
    }
    // Before the first commit of a new database there was no run.
    let is_next = last == Place::default() || now.salts[0] == last.salts[0].wrapping_add(1);
    (marked && is_next).then_some(Place {
        salts: now.salts,
        frames: 0,
    })
}

enum Newest {
    None,
    Segment(PathBuf, Reader),
    /// It has no header that is whole.
    Broken(PathBuf),
}

/// The newest segment. One that was being made in a crash goes, if nothing is in it.
fn last_segment(all: &mut Inventory) -> Result<Newest, Error> {
    while let Some(last) = all.segments.pop() {
        if let Some(reader) = Reader::open(&last.path)? {
            return Ok(Newest::Segment(last.path, reader));
        }
        if last.bytes > HEADER_BYTES as u64 {
            return Ok(Newest::Broken(last.path));
        }
        fs::remove_file(&last.path).map_err(|error| Error::io("remove", &last.path, error))?;
    }
    Ok(Newest::None)
}

fn open_segment(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| Error::io("open", path, error))
}

/// What a crash left half made.
fn remove_leftovers(folder: &Path) -> Result<(), Error> {
    for name in ["restore.tmp", "snapshot.tmp", "snapshot.tmp-journal"] {
        let path = folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The salts in the `-wal`'s header; `None`: it is empty.
fn salts(wal: &Wal<'_>) -> Result<Option<[u32; 2]>, Error> {
    let mut header = [0; WAL_HEADER_BYTES];
    let is_there = wal
        .read(0, &mut header)
        .map_err(|error| wal_error(&error))?;
    let word = |at: usize| -> u32 {
        let bytes = header
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    Ok(is_there.then(|| [word(16), word(20)]))
}

fn wal_error(error: &SqlError) -> Error {
    Error::new(ErrorKind::Internal, error.to_string())
}

fn changed_log() -> Error {
    let text = "the write-ahead log is not the one that the journal follows";
    Error::new(ErrorKind::Corrupt, text)
}
