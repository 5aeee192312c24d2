//! A file's name as a route path: `users/[id]/index.ts` is `/users/:id`.

use std::path::Path;

use crate::Diagnostic;

/// What a file's place in the tree says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RoutePaths {
    /// The route.
    pub(super) path: String,
    /// The route of the file's folder.
    pub(super) mount_path: String,
    /// `_middleware` or `_middleware_`.
    pub(super) is_middleware: bool,
}

impl RoutePaths {
    /// The routes of `file`, which is relative to `functions`.
    pub(super) fn of_file(
        functions: &Path,
        file: &Path,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<Self, Diagnostic> {
        let full = functions.join(file);
        let text = file.to_str().ok_or_else(|| {
            Diagnostic::error(format!(
                "The name of {} is not valid UTF-8, so no URL can name it.",
                full.display()
            ))
        })?;
        let (without_extension, _) = text
            .rsplit_once('.')
            .expect("only files with an extension are listed");
        let (folder, stem) = without_extension
            .rsplit_once('/')
            .unwrap_or(("", without_extension));
        let is_middleware = matches!(stem, "_middleware" | "_middleware_");
        let path = if is_middleware || stem == "index" {
            folder
        } else {
            without_extension
        };

        let mut dotted = None;
        let path = convert(path, &full, &mut dotted)?;
        let mount_path = convert(folder, &full, &mut dotted)?;
        if let Some(name) = dotted {
            diagnostics.push(
                Diagnostic::warning(format!(
                    "{} is read as `[[{name}]]`. wrangler refuses `[[...{name}]]`, so the project would not deploy to Cloudflare as it is.",
                    full.display()
                ))
                .with_hint(format!("rename it to `[[{name}]]`")),
            );
        }
        Ok(Self {
            path: format!("/{path}"),
            mount_path: format!("/{mount_path}"),
            is_middleware,
        })
    }
}

/// `[[name]]` becomes `:name*` and `[name]` becomes `:name`, in this order, wherever they
/// stand. `dotted` takes the name of a `[[...name]]`.
fn convert(path: &str, file: &Path, dotted: &mut Option<String>) -> Result<String, Diagnostic> {
    let path = replace_bracketed(path, "[[", "]]", |name| {
        let plain = name.strip_prefix("...").unwrap_or(name);
        if !is_parameter_name(plain) {
            return Err(invalid_parameter(file, &format!("[[{name}]]"), plain));
        }
        if plain.len() < name.len() {
            *dotted = Some(plain.to_owned());
        }
        Ok(format!(":{plain}*"))
    })?;
    replace_bracketed(&path, "[", "]", |name| {
        if is_parameter_name(name) {
            Ok(format!(":{name}"))
        } else {
            Err(invalid_parameter(file, &format!("[{name}]"), name))
        }
    })
}

/// Replaces each `open`, one or more characters other than `]`, `close`, from left to
/// right.
fn replace_bracketed(
    text: &str,
    open: &str,
    close: &str,
    mut replacement: impl FnMut(&str) -> Result<String, Diagnostic>,
) -> Result<String, Diagnostic> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(open) {
        let inner = &rest[start + open.len()..];
        let end = inner.find(']').unwrap_or(inner.len());
        if end > 0 && inner[end..].starts_with(close) {
            result.push_str(&rest[..start]);
            result.push_str(&replacement(&inner[..end])?);
            rest = &inner[end + close.len()..];
        } else {
            // Not one: go on after the first bracket.
            let first = start + 1;
            result.push_str(&rest[..first]);
            rest = &rest[first..];
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn is_parameter_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn invalid_parameter(file: &Path, written: &str, name: &str) -> Diagnostic {
    let fixed: String = name
        .trim_start_matches("...")
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let hint = if name.starts_with("...") {
        format!("a catch-all is written `[[{fixed}]]`")
    } else {
        format!("for example `{}`", written.replace(name, &fixed))
    };
    Diagnostic::error(format!(
        "Invalid Pages function route parameter - \"{written}\". Parameter names must only contain alphanumeric and underscore characters.\n({})",
        file.display()
    ))
    .with_hint(hint)
}
