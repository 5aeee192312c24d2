//! The deployments that a project keeps: whole versions, without the values of secrets.
//!
//! A row of the catalog says what a version consists of; its code lies beside the static
//! files, content-addressed below the project like them. The files are stored before the
//! row names them. What no row names any more is removed by [`Deployments::keep_last`],
//! which is for projects without uploads of other kinds: an upload whose deployment is yet
//! to come has files that nothing names.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::{
    AccountId, AssetManifest, AssetsConfig, Binding, BindingKind, DeploymentId, Environment,
    ErrorKind, ModuleKind, ProjectKind, ProjectName, RoutesJson, Secret, Version, WorkerCode,
    asset_key,
};
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, DeploymentRow};
use crate::{Assets, Core, Error, NewAsset};

/// The deployments of all projects. Cheap to clone.
#[derive(Clone)]
pub struct Deployments {
    core: Arc<Core>,
    catalog: Catalog,
    assets: Assets,
}

/// A deployment in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSummary {
    /// Its id.
    pub id: DeploymentId,
    /// The project's name.
    pub project: ProjectName,
    /// Production or preview.
    pub environment: Environment,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// What a deployment consists of, as it is stored and as the API shows it: of a secret
/// only the name, of code only what it is called and where it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentManifest {
    kind: ProjectKind,
    environment: Environment,
    worker: Option<StoredCode>,
    bindings: Vec<StoredBinding>,
    assets: AssetManifest,
    #[serde(default)]
    assets_config: Option<AssetsConfig>,
    routes: Option<RoutesJson>,
    headers_file: Option<String>,
    redirects_file: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredCode {
    modules: Vec<StoredModule>,
    compatibility_date: String,
    effective_compatibility_date: String,
    compatibility_flags: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredModule {
    name: String,
    kind: ModuleKind,
    key: String,
    source_map_key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StoredBinding {
    name: String,
    #[serde(flatten)]
    kind: StoredKind,
}

/// With Cloudflare's names of the kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StoredKind {
    PlainText { text: String },
    Json { json: serde_json::Value },
    SecretText,
    KvNamespace { namespace_id: String },
    D1 { id: String },
    R2Bucket { bucket_name: String },
    AnalyticsEngine { dataset: String },
    Service { service: String },
    Assets,
}

impl Deployments {
    pub(crate) fn new(core: Arc<Core>, catalog: Catalog, assets: Assets) -> Self {
        Self {
            core,
            catalog,
            assets,
        }
    }

    /// Stores a version's code, then the version, as its project's newest deployment. Its
    /// static files are stored already.
    pub async fn record(&self, version: &Version) -> Result<(), Error> {
        let (manifest, files) = DeploymentManifest::of(version);
        let (account, project) = (&version.account, &version.project);
        self.assets.put_many(account, project, files).await?;
        let manifest = serde_json::to_string(&manifest).map_err(|error| {
            Error::with_source(ErrorKind::Internal, "cannot store the deployment", error)
        })?;
        let row = DeploymentRow {
            summary: DeploymentSummary {
                id: version.deployment.clone(),
                project: project.clone(),
                environment: version.environment,
                created_at_ms: self.core.clock.now_ms(),
            },
            manifest,
        };
        self.catalog.insert_deployment(account, row).await
    }

    /// Removes all but the last `count` deployments of a project, and the files that only
    /// they had.
    pub async fn keep_last(
        &self,
        account: &AccountId,
        project: &ProjectName,
        count: usize,
    ) -> Result<(), Error> {
        let kept = self
            .catalog
            .keep_deployments(account, project, count)
            .await?;
        let mut keys = HashSet::new();
        for manifest in kept {
            // Nothing is removed while one that is kept cannot be read.
            keys.extend(parse(&manifest)?.keys());
        }
        self.assets.retain(account, project, keys).await
    }

    /// An account's deployments, the newest first.
    pub async fn list(&self, account: &AccountId) -> Result<Vec<DeploymentSummary>, Error> {
        self.catalog.list_deployments(account).await
    }

    /// A deployment of an account, by its id.
    pub async fn get(
        &self,
        account: &AccountId,
        id: &str,
    ) -> Result<Option<(DeploymentSummary, DeploymentManifest)>, Error> {
        let Some(row) = self.catalog.get_deployment(account, id).await? else {
            return Ok(None);
        };
        let manifest = parse(&row.manifest)?;
        Ok(Some((row.summary, manifest)))
    }
}

fn parse(manifest: &str) -> Result<DeploymentManifest, Error> {
    serde_json::from_str(manifest).map_err(|error| {
        let message = format!("a stored deployment cannot be read: {error}");
        Error::with_source(ErrorKind::Corrupt, message, error)
    })
}

impl DeploymentManifest {
    /// What there is to store of a version: the manifest, and the files of its code.
    fn of(version: &Version) -> (Self, Vec<NewAsset>) {
        let mut files = Vec::new();
        let mut store = |bytes: &Bytes| {
            let key = asset_key(bytes, "");
            files.push(NewAsset {
                key: key.clone(),
                extensions: vec![String::new()],
                bytes: bytes.clone(),
            });
            key
        };
        let worker = version.worker.as_ref().map(|code| StoredCode {
            modules: code
                .modules
                .iter()
                .map(|module| StoredModule {
                    name: module.name.clone(),
                    kind: module.kind,
                    key: store(&module.body),
                    source_map_key: module.source_map.as_ref().map(&mut store),
                })
                .collect(),
            compatibility_date: code.compatibility_date.clone(),
            effective_compatibility_date: code.effective_compatibility_date.clone(),
            compatibility_flags: code.compatibility_flags.clone(),
        });
        let manifest = Self {
            kind: version.kind,
            environment: version.environment,
            worker,
            bindings: version.bindings.iter().map(StoredBinding::of).collect(),
            assets: version.assets.clone(),
            assets_config: version.assets_config.clone(),
            routes: version.routes.clone(),
            headers_file: version.headers_file.clone(),
            redirects_file: version.redirects_file.clone(),
        };
        (manifest, files)
    }

    /// The version without its code's text and its secrets' values.
    pub fn outline(self, account: AccountId, summary: DeploymentSummary) -> Version {
        Version {
            deployment: summary.id,
            account,
            project: summary.project,
            kind: self.kind,
            environment: self.environment,
            worker: self.worker.map(|code| WorkerCode {
                modules: code.modules.into_iter().map(Into::into).collect(),
                compatibility_date: code.compatibility_date,
                effective_compatibility_date: code.effective_compatibility_date,
                compatibility_flags: code.compatibility_flags,
            }),
            bindings: self.bindings.into_iter().map(Into::into).collect(),
            assets: self.assets,
            assets_config: self.assets_config,
            routes: self.routes,
            headers_file: self.headers_file,
            redirects_file: self.redirects_file,
        }
    }

    /// The files that it needs.
    fn keys(self) -> impl Iterator<Item = String> {
        let modules = self.worker.into_iter().flat_map(|code| code.modules);
        let code = modules.flat_map(|module| [Some(module.key), module.source_map_key]);
        let assets = self.assets.entries.into_values();
        code.flatten()
            .chain(assets.map(|entry| entry.key.to_string()))
    }
}

impl From<StoredModule> for engawa_model::Module {
    fn from(module: StoredModule) -> Self {
        Self {
            name: module.name,
            kind: module.kind,
            body: Bytes::new(),
            source_map: None,
        }
    }
}

impl StoredBinding {
    fn of(binding: &Binding) -> Self {
        let kind = match &binding.kind {
            BindingKind::PlainText(text) => StoredKind::PlainText { text: text.clone() },
            BindingKind::Json(json) => StoredKind::Json { json: json.clone() },
            BindingKind::SecretText(_) => StoredKind::SecretText,
            BindingKind::KvNamespace(id) => StoredKind::KvNamespace {
                namespace_id: id.to_string(),
            },
            BindingKind::D1(id) => StoredKind::D1 { id: id.to_string() },
            BindingKind::R2Bucket(name) => StoredKind::R2Bucket {
                bucket_name: name.to_string(),
            },
            BindingKind::AnalyticsEngine(dataset) => StoredKind::AnalyticsEngine {
                dataset: dataset.to_string(),
            },
            BindingKind::Service(service) => StoredKind::Service {
                service: service.to_string(),
            },
            BindingKind::Assets => StoredKind::Assets,
        };
        Self {
            name: binding.name.clone(),
            kind,
        }
    }
}

impl From<StoredBinding> for Binding {
    fn from(binding: StoredBinding) -> Self {
        let kind = match binding.kind {
            StoredKind::PlainText { text } => BindingKind::PlainText(text),
            StoredKind::Json { json } => BindingKind::Json(json),
            StoredKind::SecretText => BindingKind::SecretText(Secret::new("")),
            StoredKind::KvNamespace { namespace_id } => {
                BindingKind::KvNamespace(namespace_id.into())
            }
            StoredKind::D1 { id } => BindingKind::D1(id.into()),
            StoredKind::R2Bucket { bucket_name } => BindingKind::R2Bucket(bucket_name.into()),
            StoredKind::AnalyticsEngine { dataset } => BindingKind::AnalyticsEngine(dataset.into()),
            StoredKind::Service { service } => BindingKind::Service(service.into()),
            StoredKind::Assets => BindingKind::Assets,
        };
        Self {
            name: binding.name,
            kind,
        }
    }
}

#[cfg(test)]
mod tests;
