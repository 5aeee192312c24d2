//! Content codings of precompressed files.

/// A content coding that static files are kept in beside their own bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `br`
    Brotli,
    /// `zstd`
    Zstd,
    /// `gzip`
    Gzip,
}

impl Encoding {
    /// All of them, the one that is preferred among equals first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// As it stands in `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// How long the precompressed forms of a file are; `None` where there is none, since it
/// would save too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodedSizes {
    /// In the order of [`Encoding::ALL`], in bytes.
    pub sizes_bytes: [Option<u64>; 3],
}

impl EncodedSizes {
    /// The length of one form.
    pub fn size_bytes(&self, encoding: Encoding) -> Option<u64> {
        self.sizes_bytes[encoding as usize]
    }
}
