//! What a user's SQL may do, decided by SQLite's authorizer while it compiles a statement
//! (never by looking at the text), and what the statement is about, noted on the way.
//!
//! Rules and lists: workerd `util/sqlite.c++` (`isAuthorized`), storage.md 2.2.

use std::ffi::c_int;

use rusqlite::ffi;

/// The text for `BEGIN`, `COMMIT`, `SAVEPOINT` and their kin (workerd `api/sql.c++`; also
/// what D1 answers).
pub(super) const TRANSACTION_DENIED: &str = "To execute a transaction, please use the \
    state.storage.transaction() or state.storage.transactionSync() APIs instead of the SQL \
    BEGIN TRANSACTION or SAVEPOINT statements. The JavaScript API is safer because it will \
    automatically roll back on exceptions, and because it interacts correctly with Durable \
    Objects' automatic atomic write coalescing.";

/// What was noticed while a statement was compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Facts {
    /// A transaction statement was refused: it has a text of its own.
    pub(super) transaction: bool,
    /// `CREATE …`.
    pub(super) creates: bool,
    /// `CREATE INDEX`, `CREATE TRIGGER`.
    pub(super) creates_one_row: bool,
    /// `ALTER TABLE`: the new name has to be looked at afterwards.
    pub(super) alters: bool,
    /// Changes the schema.
    pub(super) schema: bool,
    pub(super) inserts: bool,
    /// Calls `count`.
    pub(super) counts: bool,
    /// Any `PRAGMA`: compiling it may act already, so it is never kept.
    pub(super) pragma: bool,
    /// `PRAGMA foreign_keys = …`.
    pub(super) foreign_keys: bool,
    /// Depends on, or changes, the state of the connection: only the writer's will do.
    pub(super) connection_state: bool,
}

/// Reserved for Cloudflare's own tables, in any case.
pub(super) fn is_reserved(name: &str) -> bool {
    name.as_bytes()
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"_cf_"))
}

/// Whether a user's statement may do this. Notes what it is about in `facts`.
pub(super) fn is_allowed<'a>(
    facts: &mut Facts,
    action: c_int,
    mut first: Option<&'a str>,
    mut second: Option<&'a str>,
    mut schema: Option<&'a str>,
) -> bool {
    // SQLite passes the schema's name first for these two.
    if action == ffi::SQLITE_ALTER_TABLE || action == ffi::SQLITE_DETACH {
        (first, second, schema) = (second, None, first);
    }
    let allowed_name = |name: Option<&str>| name.is_some_and(|name| !is_reserved(name));
    match schema {
        None | Some("main") => {}
        Some("temp") => {
            return matches!(action, ffi::SQLITE_READ | ffi::SQLITE_UPDATE) && allowed_name(first);
        }
        Some(_) => return false,
    }
    match action {
        ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE | ffi::SQLITE_ANALYZE => true,
        ffi::SQLITE_READ | ffi::SQLITE_UPDATE | ffi::SQLITE_DELETE | ffi::SQLITE_REINDEX => {
            allowed_name(first)
        }
        ffi::SQLITE_INSERT => {
            facts.inserts = true;
            allowed_name(first)
        }
        ffi::SQLITE_CREATE_TABLE | ffi::SQLITE_CREATE_VIEW => {
            (facts.schema, facts.creates) = (true, true);
            allowed_name(first)
        }
        ffi::SQLITE_DROP_TABLE | ffi::SQLITE_DROP_VIEW => {
            facts.schema = true;
            allowed_name(first)
        }
        ffi::SQLITE_ALTER_TABLE => {
            (facts.schema, facts.alters) = (true, true);
            allowed_name(first)
        }
        ffi::SQLITE_CREATE_INDEX | ffi::SQLITE_CREATE_TRIGGER => {
            // The index of a UNIQUE column comes with its table.
            facts.creates_one_row = !facts.creates;
            (facts.schema, facts.creates) = (true, true);
            allowed_name(first) && allowed_name(second)
        }
        ffi::SQLITE_DROP_INDEX | ffi::SQLITE_DROP_TRIGGER => {
            facts.schema = true;
            allowed_name(first) && allowed_name(second)
        }
        ffi::SQLITE_CREATE_VTABLE | ffi::SQLITE_DROP_VTABLE => {
            facts.schema = true;
            facts.creates |= action == ffi::SQLITE_CREATE_VTABLE;
            let known = second.is_some_and(|module| {
                ["fts5", "fts5vocab", "rtree", "rtree_i32"]
                    .iter()
                    .any(|known| module.eq_ignore_ascii_case(known))
            });
            known && allowed_name(first)
        }
        ffi::SQLITE_TRANSACTION | ffi::SQLITE_SAVEPOINT => {
            facts.transaction = true;
            false
        }
        ffi::SQLITE_PRAGMA => {
            facts.pragma = true;
            first.is_some_and(|name| {
                let name = name.to_ascii_lowercase();
                facts.connection_state |= !is_introspection(&name);
                facts.foreign_keys |= name == "foreign_keys" && second.is_some();
                is_allowed_pragma(&name, second)
            })
        }
        ffi::SQLITE_FUNCTION => second.is_some_and(|name| {
            match name {
                "count" => facts.counts = true,
                "last_insert_rowid" | "changes" | "total_changes" => facts.connection_state = true,
                _ => {}
            }
            // The name is the function's own, but as the user wrote it where SQLite checks a
            // column's default (`DEFAULT CURRENT_TIMESTAMP`).
            FUNCTIONS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
        }),
        // ATTACH, DETACH, everything TEMP, and what a later SQLite may add.
        _ => false,
    }
}

/// Pragmas that only describe the schema: any connection answers them alike.
fn is_introspection(name: &str) -> bool {
    matches!(
        name,
        "table_list"
            | "table_info"
            | "table_xinfo"
            | "index_list"
            | "index_info"
            | "index_xinfo"
            | "foreign_key_list"
            | "foreign_key_check"
            | "quick_check"
            | "page_size"
    )
}

fn is_allowed_pragma(name: &str, argument: Option<&str>) -> bool {
    let name_or = |otherwise| argument.map_or(otherwise, |name| !is_reserved(name));
    match name {
        "table_list" => true,
        "data_version" | "page_size" => argument.is_none(),
        "case_sensitive_like"
        | "foreign_keys"
        | "defer_foreign_keys"
        | "ignore_check_constraints"
        | "legacy_alter_table"
        | "recursive_triggers"
        | "reverse_unordered_selects" => argument.is_none_or(starts_like_a_boolean),
        "table_info" | "table_xinfo" | "foreign_key_list" | "index_info" | "index_list"
        | "index_xinfo" => name_or(false),
        "foreign_key_check" => name_or(true),
        "optimize" => argument.is_none_or(|text| parse_integer(text).is_some()),
        "quick_check" => argument.is_none_or(|text| {
            parse_integer(text).is_some_and(|number| number >= 0) || !is_reserved(text)
        }),
        _ => false,
    }
}

/// workerd compares by prefix, after taking off one pair of quotes.
fn starts_like_a_boolean(text: &str) -> bool {
    let unquoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
        .as_bytes();
    ["true", "false", "yes", "no", "on", "off", "1", "0"]
        .iter()
        .any(|word| {
            unquoted
                .get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
        })
}

fn parse_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let number = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) => i64::from(u32::from_str_radix(hex, 16).ok()?),
        None => i64::from(digits.parse::<u32>().ok()?),
    };
    Some(if negative { -number } else { number })
}

/// SQLite's canonical names. Aliases are names of their own: `pow` is here, `power` is not.
const FUNCTIONS: &[&str] = &[
    // lang_corefunc
    "abs",
    "changes",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "format",
    "glob",
    "hex",
    "ifnull",
    "iif",
    "instr",
    "last_insert_rowid",
    "length",
    "like",
    "likelihood",
    "likely",
    "load_extension",
    "lower",
    "ltrim",
    "nullif",
    "octet_length",
    "printf",
    "quote",
    "random",
    "randomblob",
    "replace",
    "round",
    "rtrim",
    "sign",
    "soundex",
    "substr",
    "substring",
    "total_changes",
    "trim",
    "typeof",
    "unhex",
    "unicode",
    "unlikely",
    "upper",
    "zeroblob",
    // lang_datefunc
    "date",
    "time",
    "datetime",
    "julianday",
    "unixepoch",
    "strftime",
    "timediff",
    "current_date",
    "current_time",
    "current_timestamp",
    // lang_aggfunc
    "avg",
    "count",
    "group_concat",
    "max",
    "min",
    "string_agg",
    "sum",
    "total",
    // windowfunctions
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
    // lang_mathfunc
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "degrees",
    "exp",
    "floor",
    "ln",
    "log",
    "log2",
    "mod",
    "pi",
    "pow",
    "radians",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    // json1
    "json",
    "jsonb",
    "json_array",
    "jsonb_array",
    "json_array_length",
    "json_extract",
    "jsonb_extract",
    "->",
    "->>",
    "json_insert",
    "jsonb_insert",
    "json_object",
    "jsonb_object",
    "json_patch",
    "jsonb_patch",
    "json_remove",
    "jsonb_remove",
    "json_replace",
    "jsonb_replace",
    "json_set",
    "jsonb_set",
    "json_type",
    "json_valid",
    "json_quote",
    "json_group_array",
    "jsonb_group_array",
    "json_group_object",
    "jsonb_group_object",
    "json_each",
    "json_tree",
    // fts5, rtree
    "match",
    "highlight",
    "bm25",
    "snippet",
    "rtreecheck",
    // What ALTER TABLE calls inside.
    "sqlite_rename_column",
    "sqlite_rename_table",
    "sqlite_rename_test",
    "sqlite_drop_column",
    "sqlite_rename_quotefix",
];
