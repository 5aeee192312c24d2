//! Precompressed forms of a static file: all of them in one file beside it.
//!
//! They follow from the file's content, so they are made once for each key and never
//! change. The file is [`MAGIC`], three lengths, and the forms one after the other in the
//! order of [`Encoding::ALL`]; a length of 0 says that this form would save too little. So
//! that a file for which no form is worth its room is known by a header alone and is not
//! tried again.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use bytes::Bytes;
use engawa_model::{EncodedSizes, Encoding};

/// Of another version of the settings below: what is stored is made anew.
const MAGIC: &[u8; 8] = b"EGWFORM1";
const HEADER_BYTES: usize = MAGIC.len() + 3 * size_of::<u64>();

/// A form is kept if it is at most this much of the file, in percent.
const WORTH_PERCENT: usize = 95;
/// The best below the two that search for the shortest text, which take ten times as long
/// for a twentieth less.
const BROTLI_QUALITY: u32 = 9;
/// 4 MiB, the most that a browser has to take.
const BROTLI_WINDOW_BITS: u32 = 22;
const ZSTD_LEVEL: i32 = 15;
const GZIP_LEVEL: u32 = 9;

/// The forms of one content, ready to be stored.
#[derive(Debug, Clone)]
pub struct EncodedForms {
    sizes: EncodedSizes,
    packed: Bytes,
}

impl EncodedForms {
    /// Compresses a content in every way. It takes about half a second for a mebibyte, so
    /// it belongs on a thread of its own.
    pub fn of(content: &[u8]) -> io::Result<Self> {
        let mut packed = vec![0; HEADER_BYTES];
        packed[..MAGIC.len()].copy_from_slice(MAGIC);
        let mut sizes = EncodedSizes::default();
        for encoding in Encoding::ALL {
            let form = compress(content, encoding)?;
            if form.len() * 100 > content.len() * WORTH_PERCENT {
                continue;
            }
            let len_bytes = form.len() as u64;
            let at = MAGIC.len() + encoding as usize * size_of::<u64>();
            packed[at..at + size_of::<u64>()].copy_from_slice(&len_bytes.to_le_bytes());
            packed.extend_from_slice(&form);
            sizes.sizes_bytes[encoding as usize] = Some(len_bytes);
        }
        Ok(Self {
            sizes,
            packed: packed.into(),
        })
    }

    /// How long they are.
    pub fn sizes(&self) -> EncodedSizes {
        self.sizes
    }

    /// The file that holds them.
    pub(super) fn into_file(self) -> Bytes {
        self.packed
    }
}

/// Reads the lengths; `None` for a file that is not whole or of another version.
pub(super) fn read_sizes(file: &mut File) -> io::Result<Option<EncodedSizes>> {
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let (magic, lengths) = header.split_at(MAGIC.len());
    let mut sizes = EncodedSizes::default();
    let mut total_bytes = HEADER_BYTES as u64;
    for (size, length) in sizes
        .sizes_bytes
        .iter_mut()
        .zip(lengths.chunks_exact(size_of::<u64>()))
    {
        let mut bytes = [0; size_of::<u64>()];
        bytes.copy_from_slice(length);
        let len_bytes = u64::from_le_bytes(bytes);
        total_bytes = total_bytes.saturating_add(len_bytes);
        *size = (len_bytes > 0).then_some(len_bytes);
    }
    let is_whole = magic == MAGIC && total_bytes == file.metadata()?.len();
    Ok(is_whole.then_some(sizes))
}

/// Moves a file of forms to where one of them begins.
pub(super) fn seek(file: &mut File, encoding: Encoding) -> io::Result<()> {
    let sizes = read_sizes(file)?.ok_or(io::ErrorKind::InvalidData)?;
    let before = &sizes.sizes_bytes[..encoding as usize];
    let before_bytes: u64 = before.iter().flatten().sum();
    file.seek(SeekFrom::Start(HEADER_BYTES as u64 + before_bytes))?;
    Ok(())
}

fn compress(content: &[u8], encoding: Encoding) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Brotli => {
            let mut writer = brotli::CompressorWriter::new(
                Vec::new(),
                64 * 1024,
                BROTLI_QUALITY,
                BROTLI_WINDOW_BITS,
            );
            writer.write_all(content)?;
            Ok(writer.into_inner())
        }
        Encoding::Zstd => zstd::bulk::compress(content, ZSTD_LEVEL),
        Encoding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
            writer.write_all(content)?;
            writer.finish()
        }
    }
}
