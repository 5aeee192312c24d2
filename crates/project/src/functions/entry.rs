//! The worker's entry point: imports of the handlers, the table of routes, and the router.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::pattern::{Pattern, compile};
use super::{Handler, Route, Tree};

const ROUTER: &str = include_str!("router.js");

pub(super) fn source(tree: &Tree, functions: &Path) -> String {
    let mut imports = Imports::new(functions);
    let mut table = String::from("const $routes = [\n");
    for route in &tree.routes {
        table.push_str(&entry(route, &mut imports));
    }
    table.push_str("];\n");
    format!("{}{table}{ROUTER}", imports.source)
}

fn entry(route: &Route, imports: &mut Imports<'_>) -> String {
    let method = js(&json!(route.method.unwrap_or_default()));
    let module = imports.list(route.module.as_ref());
    let middleware = imports.list(route.middleware.as_ref());
    let head = format!("\t{{ m: {method}, h: {module}, w: {middleware}, ");
    match (compile(&route.path), compile(&route.mount_path)) {
        (
            Pattern::Matches {
                full,
                prefix,
                params,
            },
            Pattern::Matches { prefix: mount, .. },
        ) => {
            let names: Vec<Value> = params
                .iter()
                .map(|param| {
                    if param.catch_all {
                        json!([param.name])
                    } else {
                        json!(param.name)
                    }
                })
                .collect();
            format!(
                "{head}p: {}, r: {}, q: {}, b: {} }},\n",
                js(&Value::Array(names)),
                regex(&full),
                regex(&prefix),
                regex(&mount)
            )
        }
        (Pattern::Broken(reason), _) | (_, Pattern::Broken(reason)) => {
            format!("{head}x: {} }},\n", js(&json!(reason)))
        }
    }
}

fn regex(source: &str) -> String {
    format!("new RegExp({}, \"i\")", js(&json!(source)))
}

/// JSON is JavaScript; so every text of the user's goes through here.
fn js(value: &Value) -> String {
    value.to_string()
}

struct Imports<'a> {
    functions: &'a Path,
    source: String,
    names: HashMap<Handler, String>,
}

impl<'a> Imports<'a> {
    fn new(functions: &'a Path) -> Self {
        Self {
            functions,
            source: String::new(),
            names: HashMap::new(),
        }
    }

    fn list(&mut self, handler: Option<&Handler>) -> String {
        let Some(handler) = handler else {
            return "[]".to_owned();
        };
        if let Some(name) = self.names.get(handler) {
            return format!("[{name}]");
        }
        let name = format!("$h{}", self.names.len());
        // Names were checked to be UTF-8 when the routes were made.
        let path = self.functions.join(&handler.file);
        let path = js(&json!(path.to_string_lossy()));
        let _ = writeln!(
            self.source,
            "import {{ {} as {name} }} from {path};",
            handler.export
        );
        self.names.insert(handler.clone(), name.clone());
        format!("[{name}]")
    }
}
