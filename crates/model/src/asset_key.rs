//! The key of a static file, which is also its `ETag`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Digits of a key.
const ASSET_KEY_DIGITS: usize = 32;

/// The key of a file: BLAKE3 of the base64 text of its bytes followed by its extension
/// (without the dot), the first 32 hex digits (pages.md 1.10).
pub fn asset_key(content: &[u8], extension: &str) -> String {
    let mut hasher = AssetKeyHasher::default();
    // Not all at once: base64 would take a third more than the file.
    for piece in content.chunks(PIECE_BYTES) {
        hasher.update(piece);
    }
    hasher.finish(extension)
}

/// Whether a text has the form of a key: 32 lower-case hex digits.
pub fn is_asset_key(text: &str) -> bool {
    text.len() == ASSET_KEY_DIGITS
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Divisible by three, see [`AssetKeyHasher`].
const PIECE_BYTES: usize = 48 * 1024;

/// [`asset_key`] of a content that comes in pieces: whole groups of three bytes have a
/// base64 of their own.
#[derive(Debug, Default)]
pub struct AssetKeyHasher {
    hasher: blake3::Hasher,
    rest: Vec<u8>,
    text: String,
}

impl AssetKeyHasher {
    /// Takes the next piece.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if !self.rest.is_empty() {
            let wanted = bytes.len().min(3 - self.rest.len());
            self.rest.extend_from_slice(&bytes[..wanted]);
            bytes = &bytes[wanted..];
            if self.rest.len() < 3 {
                return;
            }
            let group = std::mem::take(&mut self.rest);
            self.whole_groups(&group);
        }
        let (whole, rest) = bytes.split_at(bytes.len() / 3 * 3);
        self.whole_groups(whole);
        self.rest.extend_from_slice(rest);
    }

    /// The key, with the file's extension (without its dot).
    pub fn finish(mut self, extension: &str) -> String {
        let rest = STANDARD.encode(&self.rest);
        self.hasher.update(rest.as_bytes());
        self.hasher.update(extension.as_bytes());
        let mut hex = self.hasher.finalize().to_hex().to_string();
        hex.truncate(ASSET_KEY_DIGITS);
        hex
    }

    fn whole_groups(&mut self, bytes: &[u8]) {
        self.text.clear();
        STANDARD.encode_string(bytes, &mut self.text);
        self.hasher.update(self.text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // docs: pages.md 1.10, "Key examples": wrangler's own results; 9.7, U5
    #[test]
    fn keys_are_those_that_wrangler_computes() {
        assert_eq!(
            asset_key(b"hello", "txt"),
            "f0b3413d4cabb000327fad369003d6a5"
        );
        assert_eq!(
            asset_key(b"<h1>x</h1>\n", "html"),
            "6e685e4883fed022eae92500f07d7f39"
        );
        assert_eq!(asset_key(b"", ""), "af1349b9f5f9a1a6a0404dea36dcc949");
    }

    #[test]
    fn pieces_of_any_length_give_the_key_of_the_whole() {
        let long: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let whole = STANDARD.encode(&long) + "js";
        let key = &blake3::hash(whole.as_bytes()).to_hex()[..32];
        assert_eq!(asset_key(&long, "js"), key);
        for length in [1, 2, 3, 4, 64 * 1024] {
            let mut hasher = AssetKeyHasher::default();
            long.chunks(length).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish("js"), key, "{length}");
        }
    }

    #[test]
    fn only_lower_case_hex_digits_make_a_key() {
        assert!(is_asset_key("f0b3413d4cabb000327fad369003d6a5"));
        for text in [
            "",
            "F0B3413D4CABB000327FAD369003D6A5",
            "../../../../etc/passwd",
        ] {
            assert!(!is_asset_key(text), "{text}");
        }
    }
}
