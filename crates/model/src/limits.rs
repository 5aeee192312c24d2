//! Bounds, each with a unit and its source.

/// A KV key, in bytes of UTF-8 (docs: kv limits).
pub const KV_KEY_BYTES: usize = 512;
/// A KV value, inclusive (docs: kv limits; miniflare `constants.ts`).
pub const KV_VALUE_BYTES: u64 = 25 * 1024 * 1024;
/// KV metadata, in bytes of its JSON text (docs: kv limits).
pub const KV_METADATA_BYTES: usize = 1024;
/// The shortest life of a KV key, in seconds (docs: kv limits).
pub const KV_EXPIRATION_MIN_S: u64 = 60;
/// Keys in a page of a KV list (docs: kv limits).
pub const KV_LIST_KEYS: usize = 1000;
/// Keys in a bulk read (docs: kv limits).
pub const KV_BULK_KEYS: usize = 100;

/// An R2 key, in bytes of UTF-8 (docs: r2 limits).
pub const R2_KEY_BYTES: usize = 1024;
/// R2 custom metadata (docs: r2 limits; miniflare's 2,048 is older).
pub const R2_METADATA_BYTES: usize = 8192;
/// An R2 object put at once: 5 GiB − 5 MiB (miniflare `constants.ts`).
pub const R2_PUT_BYTES: u64 = 5_363_466_240;
/// The smallest part of a multipart upload but the last (docs: r2 limits).
pub const R2_PART_MIN_BYTES: u64 = 5 * 1024 * 1024;
/// Part numbers run from 1 to this (docs: r2 limits).
pub const R2_PARTS: u32 = 10_000;
/// Keys and prefixes in a page of an R2 list (docs: r2 limits).
pub const R2_LIST_KEYS: usize = 1000;

/// Parameters of a D1 statement (docs: d1 limits).
pub const D1_PARAMETERS: i32 = 100;
/// Text of a D1 statement (docs: d1 limits; workerd `sqlite.c++`).
pub const D1_SQL_BYTES: i32 = 100_000;
/// A D1 string, BLOB or row (docs: d1 limits).
pub const D1_VALUE_BYTES: i32 = 2_000_000;
/// Columns of a D1 table or result (docs: d1 limits).
pub const D1_COLUMNS: i32 = 100;
/// A D1 query or batch (docs: d1 limits).
pub const D1_QUERY_MS: u64 = 30_000;

/// Files of a Pages project (docs: pages limits).
pub const ASSET_FILES: usize = 20_000;
/// A static file, inclusive (docs: pages limits).
pub const ASSET_BYTES: u64 = 25 * 1024 * 1024;

/// Rules of a `_routes.json`, both lists together (docs: pages functions routing).
pub const ROUTES_RULES: usize = 100;
/// A rule of a `_routes.json`, in UTF-16 units (docs: pages functions routing).
pub const ROUTES_RULE_CHARS: usize = 100;
