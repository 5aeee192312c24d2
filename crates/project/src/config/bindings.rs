//! The entries of the file that become properties of `env`.

use std::ops::Range;

use engawa_model::{BucketName, DatabaseId, DatasetName, NamespaceId, ProjectName};
use indexmap::IndexMap;

use super::reader::{Item, Reader};
use super::tree::{Entry, Value};
use super::{AnalyticsEngineDataset, D1Database, KvNamespace, R2Bucket, Service, Var};

/// A name in `env` with wrangler's word for its kind and where it is given.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) friendly: &'static str,
    pub(super) span: Range<usize>,
}

/// The bindings of the top level or of one environment's table.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    pub(super) vars: IndexMap<String, Var>,
    pub(super) kv_namespaces: Vec<KvNamespace>,
    pub(super) d1_databases: Vec<D1Database>,
    pub(super) r2_buckets: Vec<R2Bucket>,
    pub(super) analytics_engine_datasets: Vec<AnalyticsEngineDataset>,
    pub(super) services: Vec<Service>,
    /// All of their names, in the order of wrangler's kinds.
    pub(super) names: Vec<Named>,
}

impl<'a> Reader<'a> {
    /// Reads what `get` finds under each key; `prefix` is empty or `env.preview.`.
    pub(super) fn bindings(
        &mut self,
        prefix: &str,
        get: impl Fn(&str) -> Option<&'a Entry>,
    ) -> Bindings {
        let mut bindings = Bindings::default();
        let items = |reader: &mut Self, key: &str| {
            get(key).map_or_else(Vec::new, |entry| {
                reader.items(entry, &format!("{prefix}{key}"))
            })
        };
        for item in items(self, "kv_namespaces") {
            bindings.push_kv(self, &item);
        }
        for item in items(self, "d1_databases") {
            bindings.push_d1(self, &item);
        }
        for item in items(self, "r2_buckets") {
            bindings.push_r2(self, &item);
        }
        for item in items(self, "services") {
            bindings.push_service(self, &item);
        }
        for item in items(self, "analytics_engine_datasets") {
            bindings.push_dataset(self, &item);
        }
        if let Some(entry) = get("vars") {
            bindings.read_vars(self, entry, &format!("{prefix}vars"));
        }
        bindings
    }

    /// The name of an entry in `env`.
    fn binding_name(&mut self, item: &Item<'a>) -> Option<String> {
        self.required(item, "binding")
    }

    /// Says that an entry without an id is kept under its binding's name.
    fn id_or_binding(
        &mut self,
        item: &Item<'a>,
        key: &str,
        id: Option<&str>,
        binding: &str,
    ) -> String {
        if let Some(id) = id {
            return id.to_owned();
        }
        if item.table.get(key).is_none() {
            let hint = format!(
                "add {} before you deploy it to Cloudflare",
                self.setting_syntax(key, "\"…\"")
            );
            self.warn(
                item.span,
                format!(
                    "\"{}\" has no \"{key}\"; here it is named after its binding, {binding:?}.",
                    item.path
                ),
                hint,
            );
        }
        binding.to_owned()
    }

    /// `remote = true` asks wrangler to use Cloudflare's own during development.
    fn warn_remote(&mut self, item: &Item<'a>) {
        if let Some(entry) = item.table.get("remote")
            && self.boolean(entry, &format!("{}.remote", item.path)) == Some(true)
        {
            self.warn(
                &entry.key_span,
                format!(
                    "\"{}.remote\" has no effect: Engawa keeps the data itself.",
                    item.path
                ),
                "remove it, or set it to false",
            );
        }
    }
}

impl Bindings {
    fn name(&mut self, item: &Item<'_>, friendly: &'static str, name: &str) {
        let span = item
            .table
            .get("binding")
            .map_or(item.span, |entry| &entry.node.span);
        self.names.push(Named {
            name: name.to_owned(),
            friendly,
            span: span.clone(),
        });
    }

    fn push_kv<'a>(&mut self, reader: &mut Reader<'a>, item: &Item<'a>) {
        let binding = reader.binding_name(item);
        let id = reader.optional(item, "id");
        let preview_id = reader.optional(item, "preview_id");
        reader.warn_remote(item);
        let known = ["binding", "id", "preview_id", "remote"];
        reader.unknown_fields(item.table, &item.path, &known);
        let Some(binding) = binding else { return };
        self.name(item, "KV Namespace", &binding);
        let local_id = reader.id_or_binding(item, "id", id.as_deref(), &binding);
        self.kv_namespaces.push(KvNamespace {
            binding,
            id,
            preview_id,
            local_id: NamespaceId::new(local_id),
        });
    }

    fn push_d1<'a>(&mut self, reader: &mut Reader<'a>, item: &Item<'a>) {
        let binding = reader.binding_name(item);
        let database_name = reader.optional(item, "database_name");
        let database_id = reader.optional(item, "database_id");
        let preview_database_id = reader.optional(item, "preview_database_id");
        let migrations_dir = reader.optional(item, "migrations_dir");
        let migrations_pattern = reader.optional(item, "migrations_pattern");
        let migrations_table = reader.optional(item, "migrations_table");
        reader.warn_remote(item);
        let known = [
            "binding",
            "database_id",
            "database_internal_env",
            "database_name",
            "migrations_dir",
            "migrations_pattern",
            "migrations_table",
            "preview_database_id",
            "remote",
        ];
        reader.unknown_fields(item.table, &item.path, &known);
        let Some(binding) = binding else { return };
        self.name(item, "D1 Database", &binding);
        let written = preview_database_id.as_deref().or(database_id.as_deref());
        let local_id = reader.id_or_binding(item, "database_id", written, &binding);
        self.d1_databases.push(D1Database {
            binding,
            database_name,
            database_id,
            preview_database_id,
            local_id: DatabaseId::new(local_id),
            migrations_dir,
            migrations_pattern,
            migrations_table: migrations_table.unwrap_or_else(|| "d1_migrations".to_owned()),
        });
    }

    fn push_r2<'a>(&mut self, reader: &mut Reader<'a>, item: &Item<'a>) {
        let binding = reader.binding_name(item);
        let bucket_name = reader.optional(item, "bucket_name");
        let preview_bucket_name = reader.optional(item, "preview_bucket_name");
        let jurisdiction = reader.optional(item, "jurisdiction");
        for (key, name) in [
            ("bucket_name", &bucket_name),
            ("preview_bucket_name", &preview_bucket_name),
        ] {
            if let (Some(name), Some(entry)) = (name, item.table.get(key))
                && !is_bucket_name(name)
            {
                reader.error(
                    &entry.node.span,
                    format!(
                        "{}.{key}={name:?} is invalid. Bucket names must begin and end with an alphanumeric character, only contain lowercase letters, numbers, and hyphens, and be between 3 and 63 characters long.",
                        item.path
                    ),
                );
            }
        }
        reader.warn_remote(item);
        let known = [
            "binding",
            "bucket_name",
            "preview_bucket_name",
            "jurisdiction",
            "remote",
            "local_dev",
        ];
        reader.unknown_fields(item.table, &item.path, &known);
        let Some(binding) = binding else { return };
        self.name(item, "R2 Bucket", &binding);
        let local_name =
            reader.id_or_binding(item, "bucket_name", bucket_name.as_deref(), &binding);
        self.r2_buckets.push(R2Bucket {
            binding,
            bucket_name,
            preview_bucket_name,
            jurisdiction,
            local_name: BucketName::new(local_name),
        });
    }

    fn push_service<'a>(&mut self, reader: &mut Reader<'a>, item: &Item<'a>) {
        let binding = reader.binding_name(item);
        let service = reader.required(item, "service");
        if let Some(entry) = item.table.get("entrypoint")
            && reader.optional(item, "entrypoint").is_some()
        {
            reader.error_with_hint(
                &entry.key_span,
                format!(
                    "\"{}\" has an \"entrypoint\", which Engawa does not support: each project runs in a process of its own, and RPC does not cross processes.",
                    item.path
                ),
                "remove it and call the other project with fetch()",
            );
        }
        for key in ["environment", "props", "dev"] {
            if let Some(entry) = item.table.get(key)
                && !entry.node.is_empty()
            {
                reader.warn(
                    &entry.key_span,
                    format!("\"{}.{key}\" has no effect in Engawa.", item.path),
                    "the binding reaches the other project's deployment of the same environment",
                );
            }
        }
        reader.warn_remote(item);
        let known = [
            "binding",
            "service",
            "environment",
            "entrypoint",
            "props",
            "dev",
            "remote",
        ];
        reader.unknown_fields(item.table, &item.path, &known);
        let (Some(binding), Some(service)) = (binding, service) else {
            return;
        };
        self.name(item, "Worker", &binding);
        self.services.push(Service {
            binding,
            service: ProjectName::new(service),
        });
    }

    fn push_dataset<'a>(&mut self, reader: &mut Reader<'a>, item: &Item<'a>) {
        let binding = reader.binding_name(item);
        let dataset = reader.optional(item, "dataset");
        reader.unknown_fields(item.table, &item.path, &["binding", "dataset"]);
        let Some(binding) = binding else { return };
        self.name(item, "Analytics Engine Dataset", &binding);
        let dataset = DatasetName::new(dataset.unwrap_or_else(|| binding.clone()));
        self.analytics_engine_datasets
            .push(AnalyticsEngineDataset { binding, dataset });
    }

    fn read_vars<'a>(&mut self, reader: &mut Reader<'a>, entry: &'a Entry, path: &str) {
        let Some(table) = reader.table(entry, path) else {
            return;
        };
        for (name, var) in table.iter() {
            if let Some((node, what)) = var.node.not_json() {
                let hint = format!("put it in quotes: {}", node.quoted());
                reader.error_with_hint(
                    &node.span,
                    format!(
                        "The field \"{path}.{name}\" is {what}, which is not supported. Please use a string instead."
                    ),
                    hint,
                );
                continue;
            }
            self.names.push(Named {
                name: name.to_owned(),
                friendly: "Environment Variable",
                span: var.key_span.clone(),
            });
            let value = match &var.node.value {
                Value::String(text) => Var::Text(text.clone()),
                _ => Var::Json(var.node.to_json()),
            };
            self.vars.insert(name.to_owned(), value);
        }
    }
}

/// workers-sdk `isValidR2BucketName`.
fn is_bucket_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|byte| inner(*byte))
        && bytes.last().is_some_and(|byte| inner(*byte))
}
