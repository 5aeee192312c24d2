//! The bytes of a segment: a header, then records, all numbers little-endian.
//!
//! ```text
//! header   magic 8, page bytes 4, flags 4, first record's number 8, start (stamp) 8,
//!          place in the -wal: salts 8, frames 4; marked 4, zeros 12, CRC 4        = 64
//! record   magic 4, kind 4, number 8, place: salts 8, first frame 4; frames 4,
//!          commits 4, CRC of the lists 4, CRC of the pages 4, CRC of these 4       = 48
//!          commits x (frame within the record 4, pages of the database 4, stamp 8)
//!          frames x page number 4
//!          frames x page
//! ```
//!
//! CRCs are CRC32C. A transaction may be longer than a record: its pages count when the
//! record with its commit is there.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use engawa_model::ErrorKind;

use crate::Error;

pub(super) const HEADER_BYTES: usize = 64;
const HEAD_BYTES: usize = 48;
const SEGMENT_MAGIC: [u8; 8] = *b"EngwJnl1";
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"EgRc");
/// Frames that are read and written at once: 1 MiB of pages.
pub(super) const RECORD_FRAMES: u32 = 256;
/// More in one record is no record: commits are at most as many as frames.
const MAX_FRAMES: u32 = 4 * RECORD_FRAMES;

/// A place in the `-wal`: everything before it is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Tell one run through the `-wal` from the next.
    pub(super) salts: [u32; 2],
    pub(super) frames: u32,
}

/// What a segment's first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) page_bytes: u32,
    /// The database had no page before it.
    pub(super) from_nothing: bool,
    /// Of its first record.
    pub(super) number: u64,
    /// Its commits are newer than this.
    pub(super) start: u64,
    pub(super) place: Place,
    /// As if a record before it were a mark.
    pub(super) marked: bool,
}

/// A commit within a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    /// The number of its last frame within the record.
    pub(super) frame: u32,
    /// Pages of the database from then on.
    pub(super) pages: u32,
    pub(super) stamp: u64,
}

/// A record without its pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Nothing but: a checkpoint may copy all that came before, and the `-wal` may start
    /// anew behind it.
    pub(super) is_mark: bool,
    pub(super) number: u64,
    /// Of its first frame.
    pub(super) place: Place,
    pub(super) commits: Vec<Commit>,
    pub(super) page_numbers: Vec<u32>,
    pages_crc: u32,
    /// Where its pages begin in the segment.
    pages_offset: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(SEGMENT_MAGIC);
        bytes.extend(self.page_bytes.to_le_bytes());
        bytes.extend(u32::from(self.from_nothing).to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.start.to_le_bytes());
        push_place(&mut bytes, self.place);
        bytes.extend(u32::from(self.marked).to_le_bytes());
        bytes.resize(HEADER_BYTES - 4, 0);
        push_crc(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes)?;
        if fields.take::<8>()? != SEGMENT_MAGIC {
            return None;
        }
        Some(Self {
            page_bytes: fields.u32()?,
            from_nothing: fields.u32()? != 0,
            number: fields.u64()?,
            start: fields.u64()?,
            place: fields.place()?,
            marked: fields.u32()? != 0,
        })
    }
}

/// A record's bytes; `pages` are those of `page_numbers`, in order.
pub(super) fn encode(
    number: u64,
    place: Place,
    commits: &[Commit],
    page_numbers: &[u32],
    pages: &[u8],
) -> Vec<u8> {
    let mut lists = Vec::with_capacity(commits.len() * 16 + page_numbers.len() * 4);
    for commit in commits {
        lists.extend(commit.frame.to_le_bytes());
        lists.extend(commit.pages.to_le_bytes());
        lists.extend(commit.stamp.to_le_bytes());
    }
    for page in page_numbers {
        lists.extend(page.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES + lists.len() + pages.len());
    bytes.extend(RECORD_MAGIC.to_le_bytes());
    bytes.extend(u32::from(page_numbers.is_empty()).to_le_bytes());
    bytes.extend(number.to_le_bytes());
    push_place(&mut bytes, place);
    for length in [page_numbers.len(), commits.len()] {
        bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }
    bytes.extend(crc32c::crc32c(&lists).to_le_bytes());
    bytes.extend(crc32c::crc32c(pages).to_le_bytes());
    push_crc(&mut bytes);
    bytes.extend(lists);
    bytes.extend(pages);
    bytes
}

/// Reads a segment's records one after the other.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    pub(super) header: Header,
    /// Where the next record begins.
    pub(super) offset: u64,
    /// The next record's number.
    pub(super) number: u64,
    pub(super) file_bytes: u64,
}

/// What follows in a segment.
pub(super) enum Next {
    Record(Record),
    /// It ends here, whole.
    End,
    /// What follows is no record.
    Broken,
}

impl Reader {
    /// `None`: it has no header that is whole.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let failed = |error| Error::io("read", path, error);
        let file = File::open(path).map_err(failed)?;
        let file_bytes = file.metadata().map_err(failed)?.len();
        let mut bytes = [0; HEADER_BYTES];
        if file_bytes < HEADER_BYTES as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        Ok(Header::decode(&bytes).map(|header| Self {
            file,
            path: path.to_owned(),
            header,
            offset: HEADER_BYTES as u64,
            number: header.number,
            file_bytes,
        }))
    }

    /// The next record, without its pages.
    pub(super) fn next(&mut self) -> Result<Next, Error> {
        if self.offset == self.file_bytes {
            return Ok(Next::End);
        }
        let Some(record) = self.record()? else {
            return Ok(Next::Broken);
        };
        let pages = record.page_numbers.len() as u64 * u64::from(self.header.page_bytes);
        if record.number != self.number || record.pages_offset + pages > self.file_bytes {
            return Ok(Next::Broken);
        }
        self.number += 1;
        self.offset = record.pages_offset + pages;
        Ok(Next::Record(record))
    }

    fn record(&self) -> Result<Option<Record>, Error> {
        let Some(head) = self.bytes(self.offset, HEAD_BYTES)? else {
            return Ok(None);
        };
        let Some((mut record, frames, commits, lists_crc)) = decode_head(&head) else {
            return Ok(None);
        };
        let start = self.offset + HEAD_BYTES as u64;
        let length = commits as usize * 16 + frames as usize * 4;
        let Some(lists) = self.bytes(start, length)? else {
            return Ok(None);
        };
        if crc32c::crc32c(&lists) != lists_crc {
            return Ok(None);
        }
        let mut fields = Fields(&lists);
        for _ in 0..commits {
            let (Some(frame), Some(pages), Some(stamp)) =
                (fields.u32(), fields.u32(), fields.u64())
            else {
                return Ok(None);
            };
            record.commits.push(Commit {
                frame,
                pages,
                stamp,
            });
        }
        record.page_numbers = std::iter::from_fn(|| fields.u32()).collect();
        record.pages_offset = start + length as u64;
        Ok(Some(record))
    }

    /// The pages of a record. `None`: they are damaged.
    pub(super) fn pages(&self, record: &Record) -> Result<Option<Vec<u8>>, Error> {
        let length = record.page_numbers.len() * self.header.page_bytes as usize;
        let pages = self.bytes(record.pages_offset, length)?;
        Ok(pages.filter(|pages| crc32c::crc32c(pages) == record.pages_crc))
    }

    /// `None`: the file ends before.
    fn bytes(&self, offset: u64, length: usize) -> Result<Option<Vec<u8>>, Error> {
        if offset + length as u64 > self.file_bytes {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| Error::io("read", &self.path, error))?;
        Ok(Some(bytes))
    }

    /// The error about what [`Next::Broken`] or missing pages mean for a restore.
    pub(super) fn damaged(&self) -> Error {
        let message = format!(
            "the journal file {} is damaged at byte {}: what it holds from there on cannot be \
             restored; choose an earlier moment, or one after the next snapshot",
            self.path.display(),
            self.offset
        );
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// The head of a record, and how long its lists are.
fn decode_head(bytes: &[u8]) -> Option<(Record, u32, u32, u32)> {
    let mut fields = Fields::checked(bytes)?;
    if fields.u32()? != RECORD_MAGIC {
        return None;
    }
    let is_mark = fields.u32()? != 0;
    let number = fields.u64()?;
    let place = fields.place()?;
    let (frames, commits) = (fields.u32()?, fields.u32()?);
    let (lists_crc, pages_crc) = (fields.u32()?, fields.u32()?);
    let record = Record {
        is_mark,
        number,
        place,
        commits: Vec::new(),
        page_numbers: Vec::new(),
        pages_crc,
        pages_offset: 0,
    };
    (frames <= MAX_FRAMES && commits <= frames).then_some((record, frames, commits, lists_crc))
}

fn push_place(bytes: &mut Vec<u8>, place: Place) {
    bytes.extend(place.salts[0].to_le_bytes());
    bytes.extend(place.salts[1].to_le_bytes());
    bytes.extend(place.frames.to_le_bytes());
}

fn push_crc(bytes: &mut Vec<u8>) {
    bytes.extend(crc32c::crc32c(bytes).to_le_bytes());
}

/// Numbers from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// All but the last four bytes, which are the CRC of those before.
    fn checked(bytes: &'a [u8]) -> Option<Self> {
        let (fields, crc) = bytes.split_last_chunk::<4>()?;
        (crc32c::crc32c(fields) == u32::from_le_bytes(*crc)).then_some(Self(fields))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place {
            salts: [self.u32()?, self.u32()?],
            frames: self.u32()?,
        })
    }
}
