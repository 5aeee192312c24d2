//! `.dev.vars` and `.env`: secrets in development.
//!
//! The rules are wrangler's (workers-sdk `packages/wrangler/src/dev/dev-vars.ts` and
//! `config/dot-env.ts`): `.dev.vars.<env>` if it exists, else `.dev.vars`, the one file
//! alone; and only where neither exists all of `.env`, `.env.local`, `.env.<env>`,
//! `.env.<env>.local`, a later one over an earlier one, with `$NAME` in values expanded.
//! The grammar is that of npm's `dotenv` 16 and `dotenv-expand` 12; Rust's `dotenvy` reads
//! `$` in `.dev.vars` as a variable and refuses lines that `dotenv` skips.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use engawa_model::{Environment, Secret};
use indexmap::IndexMap;
use regex::Regex;

use crate::config::read_text_file;

/// The secrets of a project in development.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevVars {
    /// By name, in the order of the files.
    pub values: IndexMap<String, Secret>,
    /// The files that they came from; empty if there is none.
    pub files: Vec<PathBuf>,
}

/// A file of secrets that exists and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secrets of {}", file.display())]
pub struct DevVarsError {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl DevVars {
    /// Reads the secrets that lie in `root`, the folder of the wrangler file.
    pub fn load(root: &Path, env: Option<Environment>) -> Result<Self, DevVarsError> {
        let env = env.map(Environment::as_str);
        let named = env.map(|env| format!(".dev.vars.{env}"));
        for name in named.iter().map(String::as_str).chain([".dev.vars"]) {
            let file = root.join(name);
            if let Some(text) = read(&file)? {
                return Ok(Self {
                    values: into_secrets(parse(&text)),
                    files: vec![file],
                });
            }
        }

        let mut names = vec![".env".to_owned(), ".env.local".to_owned()];
        if let Some(env) = env {
            names.push(format!(".env.{env}"));
            names.push(format!(".env.{env}.local"));
        }
        let mut merged = IndexMap::new();
        let mut files = Vec::new();
        for name in names {
            let file = root.join(name);
            if let Some(text) = read(&file)? {
                merged.extend(parse(&text));
                files.push(file);
            }
        }
        Ok(Self {
            values: into_secrets(expand_all(merged)),
            files,
        })
    }
}

fn read(file: &Path) -> Result<Option<String>, DevVarsError> {
    let bytes = read_text_file(file).map_err(|source| DevVarsError {
        file: file.to_path_buf(),
        source,
    })?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn into_secrets(values: IndexMap<String, String>) -> IndexMap<String, Secret> {
    values
        .into_iter()
        .map(|(name, value)| (name, Secret::new(value)))
        .collect()
}

/// One assignment: an optional `export`, a name, `=` or `: `, a value that is quoted (and
/// may then have several lines) or ends before `#`. What is not one is skipped.
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        concat!(
            r"(?m)^S*(?:exportS+)?([A-Za-z0-9_.-]+)(?:S*=S*?|:S+?)",
            r#"(S*'(?:\\'|[^'])*'|S*"(?:\\"|[^"])*"|S*`(?:\\`|[^`])*`|[^#\r\n]+)?"#,
            r"S*(?:#.*)?$",
        )
        // JavaScript's white space, as far as anyone types it; `\s` needs Unicode tables.
        .replace('S', r"[\t\n\x0B\x0C\r \u{a0}]")
        .as_str(),
    )
    .expect("the pattern is constant, and a test uses it")
});

/// npm `dotenv` 16: `parse`.
fn parse(text: &str) -> IndexMap<String, String> {
    let text = text.replace("\r\n", "\n").replace(['\r', '\u{feff}'], "\n");
    let mut values = IndexMap::new();
    for found in ASSIGNMENT.captures_iter(&text) {
        let raw = found.get(2).map_or("", |value| value.as_str()).trim();
        let quote = raw.chars().next().filter(|c| "'\"`".contains(*c));
        let inner = quote
            .and_then(|quote| raw.strip_prefix(quote)?.strip_suffix(quote))
            .unwrap_or(raw);
        let value = if quote == Some('"') {
            inner.replace("\\n", "\n").replace("\\r", "\r")
        } else {
            inner.to_owned()
        };
        values.insert(found[1].to_owned(), value);
    }
    values
}

/// `${NAME}`, `${NAME:-default}`, `$NAME`; a backslash in front keeps the dollar.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\$\{([^{}]+)\}|\$([A-Za-z_][A-Za-z0-9_]*)")
        .expect("the pattern is constant, and a test uses it")
});

/// npm `dotenv-expand` 12: names given earlier in the same files are put in.
fn expand_all(values: IndexMap<String, String>) -> IndexMap<String, String> {
    let mut done: IndexMap<String, String> = IndexMap::with_capacity(values.len());
    for (name, value) in values {
        let expanded = expand(&value, &done).replace("\\$", "$");
        done.insert(name, expanded);
    }
    done
}

/// Replacements of one value: beyond this it refers to itself.
const EXPANSIONS: usize = 100;
/// A value that has grown to this length, in bytes, grows no further.
const EXPANDED_BYTES: usize = 64 * 1024;

fn expand(value: &str, known: &IndexMap<String, String>) -> String {
    let mut result = value.to_owned();
    for _ in 0..EXPANSIONS {
        if result.len() > EXPANDED_BYTES {
            break;
        }
        let Some(found) = REFERENCE.captures_iter(&result).find(|found| {
            let start = found.get_match().start();
            !result[..start].ends_with('\\')
        }) else {
            break;
        };
        let expression = found
            .get(1)
            .or(found.get(2))
            .map_or("", |part| part.as_str());
        let replacement = evaluate(expression, known);
        let range = found.get_match().range();
        result.replace_range(range, &replacement);
    }
    result
}

/// `NAME`, `NAME:-default`, `NAME-default`, `NAME:+other`, `NAME+other`.
fn evaluate(expression: &str, known: &IndexMap<String, String>) -> String {
    let operators = [":+", "+", ":-", "-"];
    let first = operators
        .iter()
        .enumerate()
        .filter_map(|(rank, operator)| Some((expression.find(operator)?, rank, *operator)))
        .min();
    let (name, operator, rest) = match first {
        Some((at, _, operator)) => (
            &expression[..at],
            operator,
            &expression[at + operator.len()..],
        ),
        None => (expression, "", ""),
    };
    let value = known.get(name).map_or("", String::as_str);
    match (operator.ends_with('+'), value.is_empty()) {
        (true, true) => String::new(),
        (true, false) | (false, true) => rest.to_owned(),
        (false, false) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).into_iter().collect()
    }

    fn exposed(vars: &DevVars) -> Vec<(&str, &str)> {
        vars.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect()
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    // npm: dotenv 16 `parse`; each answer was checked against it.
    #[test]
    fn the_grammar_is_that_of_dotenv() {
        for (text, wanted) in [
            ("A=1", vec![("A", "1")]),
            ("export A = b c  # note\n", vec![("A", "b c")]),
            ("A: yaml", vec![("A", "yaml")]),
            (
                "A='x # y'\nB=\"l1\\nl2\"\nC='l1\\nl2'",
                vec![("A", "x # y"), ("B", "l1\nl2"), ("C", "l1\\nl2")],
            ),
            (
                "A=\"one\ntwo\"\nB=`it's`",
                vec![("A", "one\ntwo"), ("B", "it's")],
            ),
            ("A=\nB=2", vec![("A", ""), ("B", "2")]),
            ("# A=1\nnonsense\nB=2", vec![("B", "2")]),
            // Odd, and so does npm.
            ("nonsense\n=3\nB=2", vec![("nonsense", "3"), ("B", "2")]),
            ("A=1\r\nB=2\r\n", vec![("A", "1"), ("B", "2")]),
            ("A=pa$$word\\$x", vec![("A", "pa$$word\\$x")]),
            ("A=1\nA=2", vec![("A", "2")]),
            ("a.b-c=1", vec![("a.b-c", "1")]),
            ("A='open", vec![("A", "'open")]),
            ("A={\"k\": 1}", vec![("A", "{\"k\": 1}")]),
        ] {
            let wanted: Vec<(String, String)> = wanted
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            assert_eq!(parsed(text), wanted, "{text:?}");
        }
    }

    // npm: dotenv-expand 12
    #[test]
    fn references_in_env_files_are_expanded() {
        let expanded =
            |text: &str| -> Vec<String> { expand_all(parse(text)).into_values().collect() };
        assert_eq!(expanded("A=x\nB=${A}/y\nC=$A$A"), ["x", "x/y", "xx"]);
        assert_eq!(expanded("A=\\$B"), ["$B"]);
        assert_eq!(expanded("A=${N:-d}\nB=${A:+e}\nC=${N+e}"), ["d", "e", ""]);
        assert_eq!(expanded("A=$A"), [""]);
    }

    #[test]
    fn expansion_ends() {
        let doubled = (1..200).map(|at| format!("A{at}=${{A{0}}}${{A{0}}}\n", at - 1));
        let text: String = std::iter::once("A0=x\n".to_owned())
            .chain(doubled)
            .collect();
        let longest = expand_all(parse(&text)).values().map(String::len).max();
        assert!(longest.unwrap() < 4 * EXPANDED_BYTES);
    }

    // wrangler: dev/dev-vars.ts
    #[test]
    fn dev_vars_of_the_environment_replaces_dev_vars_and_both_disable_env() {
        let dir = folder(&[
            (".dev.vars", "A=dev"),
            (".dev.vars.preview", "B=preview"),
            (".env", "C=env"),
        ]);
        let top = DevVars::load(dir.path(), None).unwrap();
        assert_eq!(exposed(&top), [("A", "dev")]);
        let preview = DevVars::load(dir.path(), Some(Environment::Preview)).unwrap();
        assert_eq!(exposed(&preview), [("B", "preview")]);
        assert_eq!(preview.files, [dir.path().join(".dev.vars.preview")]);
        let production = DevVars::load(dir.path(), Some(Environment::Production)).unwrap();
        assert_eq!(exposed(&production), [("A", "dev")]);
    }

    // wrangler: config/dot-env.ts `getDefaultEnvFiles`
    #[test]
    fn env_files_are_merged_later_over_earlier() {
        let dir = folder(&[
            (".env", "A=1\nB=1\nC=1\nD=$A"),
            (".env.local", "B=2"),
            (".env.preview", "C=3"),
            (".env.production", "A=9"),
        ]);
        let vars = DevVars::load(dir.path(), Some(Environment::Preview)).unwrap();
        assert_eq!(
            exposed(&vars),
            [("A", "1"), ("B", "2"), ("C", "3"), ("D", "1")]
        );
        assert_eq!(vars.files.len(), 3);
    }

    #[test]
    fn no_file_and_a_folder_named_env_are_no_secrets() {
        let dir = folder(&[]);
        fs::create_dir(dir.path().join(".env")).unwrap();
        let vars = DevVars::load(dir.path(), None).unwrap();
        assert_eq!(vars, DevVars::default());
    }

    #[test]
    fn an_oversized_file_is_refused_by_name() {
        let big = "A".repeat(2 * 1024 * 1024);
        let dir = folder(&[(".dev.vars", big.as_str())]);
        let error = DevVars::load(dir.path(), None).unwrap_err();
        assert!(error.to_string().contains(".dev.vars"), "{error}");
    }

    #[test]
    fn values_do_not_print() {
        let dir = folder(&[(".dev.vars", "TOKEN=hunter2")]);
        let vars = DevVars::load(dir.path(), None).unwrap();
        assert!(!format!("{vars:?}").contains("hunter2"));
    }
}
