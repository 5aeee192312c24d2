//! A gateway on a port of its own, and a client that writes exactly what it is told.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engawa_gateway::{
    AssetFiles, DataPlane, FileCache, Gateway, ListenerGuard, Meter, Place, RouteTable,
    RouteTableHandle, ServeOptions, Site, SiteOptions,
};
use engawa_model::{
    AccountId, AssetEntry, AssetManifest, AssetsConfig, DeploymentId, Encoding, Environment,
    ProjectKind, ProjectName, RoutesJson, Version, WorkerPool,
};

/// What a test waits for an answer before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The parts of a site that a test may set.
#[derive(Default)]
pub(crate) struct TestSite {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) headers: Option<String>,
    pub(crate) redirects: Option<String>,
    pub(crate) routes: Option<RoutesJson>,
    pub(crate) worker: Option<Arc<dyn WorkerPool>>,
    /// A Workers project.
    pub(crate) assets_config: Option<AssetsConfig>,
    /// The manifest names files that the store does not have.
    pub(crate) lose_files: bool,
    pub(crate) cache: FileCache,
}

impl TestSite {
    /// Files whose content is their own name.
    pub(crate) fn named(names: &str) -> Self {
        let files = names
            .split('\t')
            .filter(|name| !name.is_empty())
            .map(|name| (format!("/{name}"), name.as_bytes().to_vec()))
            .collect();
        Self {
            files,
            ..Self::default()
        }
    }

    /// Writes the files and makes the site; the folder must outlive it.
    pub(crate) fn build(self, folder: PathBuf) -> Site {
        let mut manifest = AssetManifest::default();
        for (path, content) in self.files {
            let key = asset_key(&path, &content);
            if !self.lose_files {
                std::fs::write(folder.join(&key), &content).unwrap();
            }
            manifest.entries.insert(
                path.as_str().into(),
                AssetEntry {
                    key: key.into(),
                    content_type: Some(content_type(&path).into()),
                    size_bytes: content.len() as u64,
                },
            );
        }
        Site::new(SiteOptions {
            version: Arc::new(Version {
                deployment: DeploymentId::new("0a1b2c3d"),
                account: AccountId::local(),
                project: ProjectName::new("proj"),
                kind: match self.assets_config {
                    Some(_) => ProjectKind::Workers,
                    None => ProjectKind::Pages,
                },
                environment: Environment::Production,
                worker: None,
                bindings: Vec::new(),
                assets: manifest,
                assets_config: self.assets_config,
                routes: self.routes,
                headers_file: self.headers,
                redirects_file: self.redirects,
            }),
            assets: Arc::new(Folder(folder)),
            worker: self.worker,
            place: Place::default(),
            cache: self.cache,
        })
    }
}

struct Folder(PathBuf);

impl AssetFiles for Folder {
    fn open(&self, key: &str) -> io::Result<File> {
        File::open(self.0.join(key))
    }

    fn open_encoded(&self, key: &str, encoding: Encoding) -> io::Result<File> {
        File::open(self.0.join(format!("{key}.{}", encoding.token())))
    }
}

pub(crate) fn asset_key(path: &str, content: &[u8]) -> String {
    let extension = std::path::Path::new(path).extension();
    engawa_model::asset_key(content, extension.map_or("", |text| text.to_str().unwrap()))
}

fn content_type(path: &str) -> &'static str {
    match path
        .rsplit('.')
        .next()
        .unwrap()
        .to_ascii_lowercase()
        .as_str()
    {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "js" => "application/javascript",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}

/// A running gateway.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) guard: Option<ListenerGuard>,
    pub(crate) folder: tempfile::TempDir,
    /// The one site, if there is one.
    pub(crate) site: Option<Arc<Site>>,
    // Last: the threads end after everything that uses them.
    _plane: DataPlane,
}

impl Server {
    /// One site for every host that the tests use.
    pub(crate) fn of(site: TestSite) -> Self {
        Self::with_meter(site, None)
    }

    pub(crate) fn with_meter(site: TestSite, meter: Option<Arc<dyn Meter>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Arc::new(site.build(folder.path().to_owned()));
        let hosts = [
            "example.com",
            "a.example.com",
            "b.example.com",
            "q.example.com",
            "p.q.example.com",
            "a.b.c.example.com",
            "proj.pages.dev",
            "0a1b2c3d.proj.pages.dev",
        ];
        let table = RouteTable {
            hosts: hosts
                .iter()
                .map(|host| ((*host).to_owned(), Arc::clone(&site)))
                .collect::<HashMap<_, _>>(),
            ..RouteTable::default()
        };
        Self {
            site: Some(site),
            ..Self::start(table, meter, folder)
        }
    }

    pub(crate) fn start(
        table: RouteTable,
        meter: Option<Arc<dyn Meter>>,
        folder: tempfile::TempDir,
    ) -> Self {
        let plane = DataPlane::start(2).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let table = RouteTableHandle::new(table);
        let gateway = Arc::new(Gateway::new(table, meter));
        let guard = plane
            .serve(listener, gateway, ServeOptions::default())
            .unwrap();
        Self {
            address,
            guard: Some(guard),
            folder,
            site: None,
            _plane: plane,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes and reads until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// One request on a connection of its own. `head` is the request line without its
    /// version and the headers after it.
    pub(crate) fn send(&self, line: &str, host: &str, headers: &[(&str, &str)]) -> Answer {
        let headers: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{}\r\n",
            headers.concat()
        );
        Answer::parse(&self.raw(head.as_bytes()), line.starts_with("HEAD "))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "example.com", &[])
    }
}

/// An answer taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8], head: bool) -> Self {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(bytes)));
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap();
        let mut words = first.splitn(3, ' ');
        assert!(words.next().unwrap().starts_with("HTTP/1."));
        let status = words.next().unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let mut answer = Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding").as_deref() == Some("chunked") {
            answer.body = unchunk(&answer.body);
        } else if let Some(length) = answer.header("content-length").filter(|_| !head) {
            assert_eq!(answer.body.len().to_string(), length, "{answer:?}");
        }
        answer
    }

    /// All values of a header, joined as a browser shows them.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|w| w == b"\r\n")
            .expect("a chunk's size");
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}
