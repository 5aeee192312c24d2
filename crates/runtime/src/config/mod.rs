//! A version of a project as a workerd configuration.
//!
//! The configuration is Cap'n Proto text in a `memfd`, its modules are `embed`s of
//! further memfds: secrets lie in no file, argument or environment, and the child needs
//! no way into the data folder. [`WorkerdConfig::redacted`] is the same text for people.
//!
//! What the worker can reach is exactly what is named here: one `external` service for
//! each binding, all of them to the deployment's own unix socket. The socket says which
//! deployment speaks; the header [`BINDING_HEADER`], which workerd sets and a worker
//! cannot, says which binding.

mod text;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use engawa_model::{BindingKind, ModuleKind, ProjectKind, Version, WorkerCode, wiring};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{MemfdFlags, SealFlags};
use text::quote;

/// Names the binding that a request on the binding socket is for: the binding's name,
/// percent-encoded; or one of the built-in names below, which no binding can have since
/// they hold a character that the encoding removes.
pub(crate) const BINDING_HEADER: &str = "X-Engawa-Binding";
/// Value of [`BINDING_HEADER`] for the Cache API.
pub(crate) const CACHE: &str = "@cache";
/// Value of [`BINDING_HEADER`] for tail events.
pub(crate) const LOGS: &str = "@logs";
/// Value of [`BINDING_HEADER`] for `env.ASSETS` of a Pages project.
pub(crate) const ASSETS: &str = "@assets";

/// The first descriptor that a child inherits beyond the standard three.
const FIRST_FD: i32 = 3;

/// What a worker may reach with `fetch()` and `connect()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Address classes and CIDRs, as in `workerd.capnp`'s `Network.allow`.
    pub allow: Vec<String>,
    /// The same for `Network.deny`, which wins.
    pub deny: Vec<String>,
}

impl Egress {
    /// As in wrangler: loopback and private ranges too.
    pub fn development() -> Self {
        Self {
            allow: vec!["public".into(), "private".into()],
            deny: Vec::new(),
        }
    }
}

/// What the processes that start from now on may reach.
pub(crate) type SharedEgress = Arc<ArcSwap<Egress>>;

/// What a configuration depends on besides the version.
#[derive(Debug, Clone)]
pub(crate) struct ConfigOptions {
    /// The deployment's binding socket.
    pub(crate) binding_socket: PathBuf,
    /// Outgoing connections.
    pub(crate) egress: SharedEgress,
    /// Whether a tail worker gathers logs.
    pub(crate) logging: bool,
}

/// The descriptors that a child is given, in this order from 3 on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChildFds;

impl ChildFds {
    /// Written to by workerd when a socket listens.
    pub(crate) const CONTROL: i32 = FIRST_FD;
    /// The socket for requests.
    pub(crate) const MAIN: i32 = FIRST_FD + 1;
    /// The socket for pings.
    pub(crate) const PING: i32 = FIRST_FD + 2;
    /// The configuration.
    pub(crate) const CONFIG: i32 = FIRST_FD + 3;
    /// The first module; the others follow.
    const MODULES: i32 = FIRST_FD + 4;
}

/// A version's configuration. It becomes memory files when a process starts, and costs
/// no descriptor until then.
#[derive(Debug)]
pub(crate) struct WorkerdConfig {
    version: Arc<Version>,
    code: WorkerCode,
    options: ConfigOptions,
}

impl WorkerdConfig {
    /// The configuration of a version with this code.
    pub(crate) fn new(version: Arc<Version>, code: WorkerCode, options: ConfigOptions) -> Self {
        Self {
            version,
            code,
            options,
        }
    }

    /// Memory files for a child, from [`ChildFds::CONFIG`] on: the text, then the modules.
    ///
    /// # Errors
    /// When the machine gives no memory file.
    pub(crate) fn memory_files(&self) -> io::Result<Vec<OwnedFd>> {
        let text = render(&self.version, &self.code, &self.options, Secrets::Plain);
        let mut files = vec![memory_file("config", text.as_bytes())?];
        for module in &self.code.modules {
            files.push(memory_file("module", &module.body)?);
        }
        Ok(files)
    }

    /// The text for people: secrets are blanked.
    pub(crate) fn redacted(&self) -> String {
        render(&self.version, &self.code, &self.options, Secrets::Blanked)
    }
}

/// A file without a name that nobody can change any more.
fn memory_file(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(name, flags)?);
    file.write_all(content)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Plain,
    Blanked,
}

/// The essential services come first and read like the schema; helpers follow.
fn render(
    version: &Version,
    code: &WorkerCode,
    options: &ConfigOptions,
    secrets: Secrets,
) -> String {
    let external = External {
        socket: format!("unix:{}", options.binding_socket.display()),
    };
    let egress = options.egress.load();
    // Lets the Rust side know the scheme of a request that a binding forwards.
    let forward_proto = format!("forwardedProtoHeader = \"{}\", ", wiring::PROTO);
    let mut bindings = Vec::new();
    let mut services = Vec::new();
    for (number, binding) in version.bindings.iter().enumerate() {
        let name = quote(&binding.name);
        let service = format!("binding-{number}");
        let reach = |services: &mut Vec<String>, assets: bool| {
            let header = utf8_percent_encode(&binding.name, NON_ALPHANUMERIC).to_string();
            services.push(external.service(
                &service,
                &header,
                if assets { &forward_proto } else { "" },
            ));
        };
        let value = match &binding.kind {
            BindingKind::PlainText(text) => format!("text = {}", quote(text)),
            BindingKind::Json(value) => format!("json = {}", quote(&value.to_string())),
            BindingKind::SecretText(secret) => match secrets {
                Secrets::Plain => format!("text = {}", quote(secret.expose())),
                Secrets::Blanked => "text = \"(secret)\"".to_owned(),
            },
            BindingKind::KvNamespace(_) => {
                reach(&mut services, false);
                format!("kvNamespace = {}", quote(&service))
            }
            BindingKind::R2Bucket(_) => {
                reach(&mut services, false);
                format!("r2Bucket = {}", quote(&service))
            }
            BindingKind::D1(_) => {
                reach(&mut services, false);
                format!(
                    "wrapped = (moduleName = \"cloudflare-internal:d1-api\", \
                     innerBindings = [(name = \"fetcher\", service = {})])",
                    quote(&service)
                )
            }
            BindingKind::AnalyticsEngine(dataset) => {
                reach(&mut services, false);
                let json = serde_json::Value::from(dataset.as_str()).to_string();
                format!(
                    "wrapped = (moduleName = \"engawa:analytics\", \
                     innerBindings = [(name = \"fetcher\", service = {}), (name = \"dataset\", json = {})])",
                    quote(&service),
                    quote(&json)
                )
            }
            BindingKind::Service(_) | BindingKind::Assets => {
                reach(&mut services, true);
                format!("service = {}", quote(&service))
            }
        };
        bindings.push(format!("(name = {name}, {value})"));
    }
    if version.kind == ProjectKind::Pages {
        services.push(external.service("assets", ASSETS, &forward_proto));
        bindings.push("(name = \"ASSETS\", service = \"assets\")".to_owned());
    }
    services.push(external.service(
        "cache",
        CACHE,
        &format!("style = proxy, cfBlobHeader = \"{}\", ", wiring::CF),
    ));

    let mut tails = "";
    let mut tail_bindings = "";
    if options.logging {
        services.push(external.service("logs", LOGS, ""));
        tails = "tails = [\"tail\"], ";
        tail_bindings = "bindings = [(name = \"LOGS\", service = \"logs\")], ";
    }
    let modules: Vec<String> = code
        .modules
        .iter()
        .zip(ChildFds::MODULES..)
        .map(|(module, fd)| {
            let kind = module_kind(module.kind);
            format!(
                "(name = {}, {kind} = embed \"/proc/self/fd/{fd}\")",
                quote(&module.name)
            )
        })
        .collect();
    let flags: Vec<String> = code
        .compatibility_flags
        .iter()
        .map(|flag| quote(flag))
        .collect();

    let mut out = String::new();
    out.push_str("using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n services = [\n");
    write!(
        out,
        "  (name = \"worker\", worker = (modules = [{}],\n    compatibilityDate = {}, compatibilityFlags = [{}],\n    \
         globalOutbound = \"egress\", cacheApiOutbound = \"cache\", {tails}\n    bindings = [{}])),\n",
        modules.join(", "),
        quote(&code.effective_compatibility_date),
        flags.join(", "),
        bindings.join(",\n      "),
    )
    .expect("writing to a String cannot fail");
    writeln!(
        out,
        "  (name = \"tail\", worker = (modules = [(name = \"tail.js\", esModule = {})], {tail_bindings}\
         compatibilityDate = \"2026-08-01\")),",
        quote(include_str!("../js/tail.js")),
    )
    .expect("writing to a String cannot fail");
    for service in &services {
        writeln!(out, "  {service},").expect("writing to a String cannot fail");
    }
    write!(
        out,
        "  (name = \"egress\", network = (allow = [{}], deny = [{}], tlsOptions = (trustBrowserCas = true))),\n ],\n",
        quoted_list(&egress.allow),
        quoted_list(&egress.deny),
    )
    .expect("writing to a String cannot fail");
    write!(
        out,
        " extensions = [(modules = [(name = \"engawa:analytics\", internal = true, esModule = {})])],\n \
         sockets = [\n  (name = \"main\", service = \"worker\", http = (cfBlobHeader = \"{cf}\", \
         forwardedProtoHeader = \"{proto}\")),\n  (name = \"ping\", service = \"tail\") ]\n);\n",
        quote(include_str!("../js/analytics.js")),
        cf = wiring::CF,
        proto = wiring::PROTO,
    )
    .expect("writing to a String cannot fail");
    out
}

struct External {
    socket: String,
}

impl External {
    fn service(&self, name: &str, binding: &str, http: &str) -> String {
        format!(
            "(name = {}, external = (address = {}, http = ({http}injectRequestHeaders = \
             [(name = \"{BINDING_HEADER}\", value = {})])))",
            quote(name),
            quote(&self.socket),
            quote(binding)
        )
    }
}

fn quoted_list(texts: &[String]) -> String {
    texts
        .iter()
        .map(|text| quote(text))
        .collect::<Vec<_>>()
        .join(", ")
}

fn module_kind(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::EsModule => "esModule",
        ModuleKind::CommonJs => "commonJsModule",
        ModuleKind::Text => "text",
        ModuleKind::Data => "data",
        ModuleKind::Wasm => "wasm",
        ModuleKind::Json => "json",
    }
}
