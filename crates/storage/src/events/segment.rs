//! Segment files: appended to, cut at a torn end, read in order.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use engawa_model::ErrorKind;

use super::{BATCH_BYTES, EventBatch, record};
use crate::Error;
use crate::layout::sync_folder;

const MAGIC: &[u8; 8] = b"EngawaE1";
/// A segment that has reached this is followed by a new one.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Length and checksum.
const HEAD_BYTES: usize = 8;

/// The end of a log, where it is written.
pub(super) struct Segments {
    folder: PathBuf,
    number: u64,
    path: PathBuf,
    file: File,
    len_bytes: u64,
    segment_bytes: u64,
}

impl Segments {
    /// Opens a log at its end, cutting off what a crash left of a record, and gives the
    /// batches of its last two segments to `seen`. Its folder exists.
    pub(super) fn open(folder: PathBuf, mut seen: impl FnMut(EventBatch)) -> Result<Self, Error> {
        let numbers = list(&folder)?;
        let Some((&number, earlier)) = numbers.split_last() else {
            return Self::create(folder, 1);
        };
        if let Some(&earlier) = earlier.last() {
            let mut scan = Scan::open(&folder.join(name(earlier)))?;
            while let Some(batch) = scan.next_batch()? {
                seen(batch);
            }
        }
        let path = folder.join(name(number));
        let mut scan = Scan::open(&path)?;
        while let Some(batch) = scan.next_batch()? {
            seen(batch);
        }
        let (good, found) = (scan.good_bytes, scan.len_bytes);
        let failed = |step: &'static str, path: &Path| {
            let path = path.to_owned();
            move |error| Error::io(step, &path, error)
        };
        let mut file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut len_bytes = good;
        if found > good {
            tracing::warn!(
                path = %path.display(),
                bytes = found - good,
                "cut off data points that were being written when the process ended"
            );
            file.set_len(good).map_err(failed("cut", &path))?;
        }
        if good == 0 {
            // It was just being made.
            file.write_all(MAGIC).map_err(failed("write", &path))?;
            len_bytes = MAGIC.len() as u64;
        }
        // The last records may have been written and never synced.
        file.sync_all().map_err(failed("sync", &path))?;
        sync_folder(&folder)?;
        Ok(Self {
            folder,
            number,
            path,
            file,
            len_bytes,
            segment_bytes: SEGMENT_BYTES,
        })
    }

    fn create(folder: PathBuf, number: u64) -> Result<Self, Error> {
        let path = folder.join(name(number));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                // The first records' sync is also its own.
                file.write_all(MAGIC)?;
                Ok(file)
            })
            .map_err(|error| Error::io("create", &path, error))?;
        sync_folder(&folder)?;
        Ok(Self {
            folder,
            number,
            path,
            file,
            len_bytes: MAGIC.len() as u64,
            segment_bytes: SEGMENT_BYTES,
        })
    }

    /// Writes records and syncs once. After an error this must not be used any more.
    pub(super) fn append(&mut self, records: &[&[u8]]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        if self.len_bytes >= self.segment_bytes {
            let segment_bytes = self.segment_bytes;
            *self = Self::create(self.folder.clone(), self.number + 1)?;
            self.segment_bytes = segment_bytes;
        }
        let mut bytes = Vec::new();
        for record in records {
            let len = u32::try_from(record.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes();
            bytes.extend(len);
            bytes.extend(checksum(len, record).to_le_bytes());
            bytes.extend(*record);
        }
        if let Err(error) = self.file.write_all(&bytes) {
            // Nothing of it may be found later, since its senders hear that it failed.
            let _ = self.file.set_len(self.len_bytes);
            return Err(Error::io("write", &self.path, error));
        }
        self.file.sync_data().map_err(|error| {
            let message = format!(
                "the disk failed to sync {}: whether the last data points survive is not known",
                self.path.display()
            );
            Error::with_source(ErrorKind::Unknown, message, error)
        })?;
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
    }
}

/// Reads a log from its beginning.
#[derive(Debug)]
pub struct EventReader {
    folder: PathBuf,
    /// The segments still to be read, last one first.
    numbers: Vec<u64>,
    scan: Option<Scan>,
}

impl EventReader {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Error> {
        let mut numbers = list(&folder)?;
        numbers.reverse();
        Ok(Self {
            folder,
            numbers,
            scan: None,
        })
    }

    fn next_batch(&mut self) -> Result<Option<EventBatch>, Error> {
        loop {
            if let Some(scan) = &mut self.scan {
                if let Some(batch) = scan.next_batch()? {
                    return Ok(Some(batch));
                }
                if scan.good_bytes < scan.len_bytes && !self.numbers.is_empty() {
                    // Only the last segment can have a torn end.
                    let message = format!(
                        "the stored file {} is corrupt from byte {} on",
                        scan.path.display(),
                        scan.good_bytes
                    );
                    return Err(Error::new(ErrorKind::Corrupt, message));
                }
            }
            let Some(number) = self.numbers.pop() else {
                return Ok(None);
            };
            self.scan = Some(Scan::open(&self.folder.join(name(number)))?);
        }
    }
}

impl Iterator for EventReader {
    type Item = Result<EventBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_batch();
        if next.is_err() {
            self.numbers.clear();
            self.scan = None;
        }
        next.transpose()
    }
}

/// Reads one segment up to its end, or to the first record that is not whole.
#[derive(Debug)]
struct Scan {
    path: PathBuf,
    reader: BufReader<File>,
    len_bytes: u64,
    /// Up to here all is well.
    good_bytes: u64,
}

impl Scan {
    fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io("read", path, error);
        let file = File::open(path).map_err(failed)?;
        let len_bytes = file.metadata().map_err(failed)?.len();
        let mut scan = Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            len_bytes,
            good_bytes: 0,
        };
        if len_bytes >= MAGIC.len() as u64 {
            let magic = scan.read(MAGIC.len())?.unwrap_or_default();
            // After a power cut a file may have its length and none of its bytes.
            if magic == [0; MAGIC.len()] {
                return Ok(scan);
            }
            if magic != MAGIC {
                let message = format!("{} is not a log of data points", path.display());
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            scan.good_bytes = MAGIC.len() as u64;
        }
        Ok(scan)
    }

    fn next_batch(&mut self) -> Result<Option<EventBatch>, Error> {
        if self.good_bytes == 0 {
            return Ok(None);
        }
        let Some(head) = self.read(HEAD_BYTES)? else {
            return Ok(None);
        };
        let (len, crc) = head.split_at(4);
        let len: [u8; 4] = len.try_into().expect("four bytes");
        let payload_bytes = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if payload_bytes > BATCH_BYTES {
            return Ok(None);
        }
        let Some(payload) = self.read(payload_bytes)? else {
            return Ok(None);
        };
        if checksum(len, &payload).to_le_bytes() != crc {
            return Ok(None);
        }
        let Some(batch) = record::decode(&payload) else {
            let message = format!(
                "{} holds data points in a form that this version does not know",
                self.path.display()
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        self.good_bytes += (HEAD_BYTES + payload_bytes) as u64;
        Ok(Some(batch))
    }

    /// `None` if the file ends before.
    fn read(&mut self, len: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = vec![0; len];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(Error::io("read", &self.path, error)),
        }
    }
}

fn checksum(len: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len), payload)
}

fn name(number: u64) -> String {
    format!("{number:016}.log")
}

/// The numbers of a log's segments, in order.
fn list(folder: &Path) -> Result<Vec<u64>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| Error::io("read the folder", folder, error))?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read the folder", folder, error))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}
