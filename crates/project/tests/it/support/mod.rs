//! What the tests share: a project in a temporary folder, its build, and workerd.

pub(crate) mod npm;
pub(crate) mod workerd;

use std::fs;
use std::path::{Path, PathBuf};

use engawa_model::{AccountId, BindingKind, Environment, Module, ModuleKind, ProjectKind};
use engawa_project::compat::Compatibility;
use engawa_project::config::Bundling;
use engawa_project::{BuildError, BuildOptions, Builder, Built, Config, Identity, Tools};

/// A project's folder.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// With these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        for (path, text) in files {
            folder.write(path, text);
        }
        folder
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, content).expect("a file");
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A Pages project with `public/` as its output, at this date and with these flags.
pub(crate) fn pages(folder: &Folder, date: &str, flags: &[&str]) -> Config {
    Config {
        root: folder.path().to_path_buf(),
        config_file: None,
        name: "project".into(),
        kind: ProjectKind::Pages,
        environment: None,
        has_environment_table: false,
        pages_build_output_dir: folder
            .path()
            .join("public")
            .is_dir()
            .then(|| PathBuf::from("public")),
        main: None,
        assets: None,
        compatibility: Compatibility {
            date: date.to_owned(),
            effective_date: date.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
        },
        vars: indexmap::IndexMap::default(),
        required_secrets: None,
        kv_namespaces: vec![],
        d1_databases: vec![],
        r2_buckets: vec![],
        analytics_engine_datasets: vec![],
        services: vec![],
        limits: None,
        placement: None,
        bundling: Bundling::default(),
    }
}

pub(crate) fn workers(folder: &Folder, main: &str, date: &str, flags: &[&str]) -> Config {
    Config {
        kind: ProjectKind::Workers,
        pages_build_output_dir: None,
        main: Some(main.into()),
        ..pages(folder, date, flags)
    }
}

pub(crate) fn builder() -> Builder {
    let tools = npm::tools();
    let tools = Tools {
        esbuild: tools.esbuild.clone(),
        unenv_root: Some(tools.node_modules.clone()),
    };
    Builder::new(tools, BuildOptions::default()).expect("a temporary folder")
}

pub(crate) fn build(config: &Config) -> Result<Built, BuildError> {
    build_with(&mut builder(), config)
}

pub(crate) fn build_with(builder: &mut Builder, config: &Config) -> Result<Built, BuildError> {
    let identity = Identity {
        account: AccountId::local(),
        deployment: "0123456789abcdef".into(),
        environment: Environment::Preview,
        bindings: vec![engawa_model::Binding {
            name: "GREETING".to_owned(),
            kind: BindingKind::PlainText("hello".to_owned()),
        }],
    };
    builder.build(config, identity)
}

/// The modules of a build.
pub(crate) fn modules(built: &Built) -> &[Module] {
    &built.version.worker.as_ref().expect("a worker").modules
}

/// What `wrangler pages functions build` wrote, as modules.
pub(crate) fn modules_of_folder(folder: &Path) -> Vec<Module> {
    let mut modules: Vec<Module> = fs::read_dir(folder)
        .expect("wrangler's output")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a name").to_str().expect("UTF-8");
            let kind = match path.extension().and_then(|text| text.to_str()) {
                Some("js" | "mjs") => ModuleKind::EsModule,
                Some("wasm") => ModuleKind::Wasm,
                Some("bin") => ModuleKind::Data,
                _ => ModuleKind::Text,
            };
            Module {
                name: format!("./{name}"),
                kind,
                body: fs::read(&path).expect("a file").into(),
                source_map: None,
            }
        })
        .collect();
    modules.sort_by_key(|module| module.name != "./index.js");
    modules
}
