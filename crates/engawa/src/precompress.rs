//! The precompressed forms of static files, made behind the back of what is served.
//!
//! One thread of low priority looks after the newest version: it tells the site which forms
//! are stored, makes the missing ones file by file, and drops everything when a newer
//! version comes. So an edit never waits for it, and however many files there are, it takes
//! one core that nobody else wants. Until a form is there, the plain file is sent.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::Arc;

use engawa_gateway::Site;
use engawa_gateway::assets::{ENCODED_MIN_BYTES, is_compressible};
use engawa_model::{EncodedSizes, Version};
use engawa_storage::{EncodedForms, Storage};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Forms that are stored together, and synced at once.
const STORE_TOGETHER: usize = 64;
/// Bytes of files whose forms are stored together, or a single file.
const STORE_TOGETHER_BYTES: u64 = 4 * 1024 * 1024;
/// Nineteen is the least that a process can be given.
const NICE: i32 = 15;

/// The thread. It ends with this, at the next file.
pub(crate) struct Precompressor(watch::Sender<Option<Arc<Site>>>);

impl Precompressor {
    /// Starts it on a Tokio runtime.
    ///
    /// # Errors
    /// When the machine gives no thread.
    pub(crate) fn start(storage: Storage) -> std::io::Result<Self> {
        let (sender, newest) = watch::channel(None);
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("precompress".to_owned())
            .spawn(move || {
                // On Linux a thread's own; a refusal only means that it is less polite.
                let _ = rustix::process::nice(NICE);
                let mut worker = Worker {
                    storage,
                    runtime,
                    newest,
                    known: HashMap::new(),
                };
                while let Some(site) = worker.next() {
                    worker.look_after(&site);
                }
            })?;
        Ok(Self(sender))
    }

    /// Turns to a site that has just been published, and from the one before.
    pub(crate) fn turn_to(&self, site: Arc<Site>) {
        self.0.send_replace(Some(site));
    }
}

struct Worker {
    storage: Storage,
    runtime: Handle,
    newest: watch::Receiver<Option<Arc<Site>>>,
    /// What is stored, of the files of the newest version.
    known: HashMap<Arc<str>, EncodedSizes>,
}

/// Another version has come, or the end.
struct Outdated;

impl Worker {
    fn next(&mut self) -> Option<Arc<Site>> {
        loop {
            self.runtime.block_on(self.newest.changed()).ok()?;
            if let Some(site) = self.newest.borrow_and_update().clone() {
                return Some(site);
            }
        }
    }

    fn look_after(&mut self, site: &Site) {
        let version = Arc::clone(site.version());
        let wanted = version.assets.entries.values().filter(|entry| {
            entry.size_bytes >= ENCODED_MIN_BYTES
                && entry.content_type.as_deref().is_some_and(is_compressible)
        });
        let wanted: HashMap<Arc<str>, u64> = wanted
            .map(|entry| (Arc::clone(&entry.key), entry.size_bytes))
            .collect();
        self.known.retain(|key, _| wanted.contains_key(key));
        let Ok(missing) = self.look_up(&version, &wanted) else {
            return;
        };
        site.add_encoded(&self.known);
        let _ = self.make(site, missing, &wanted);
    }

    /// The keys of which no forms are stored.
    fn look_up(
        &mut self,
        version: &Version,
        wanted: &HashMap<Arc<str>, u64>,
    ) -> Result<Vec<Arc<str>>, Outdated> {
        let assets = self.storage.assets();
        let mut missing = Vec::new();
        for key in wanted.keys() {
            if self.known.contains_key(key) {
                continue;
            }
            self.check()?;
            match assets.encoded_sizes(&version.account, &version.project, key) {
                Ok(Some(sizes)) => {
                    self.known.insert(Arc::clone(key), sizes);
                }
                Ok(None) => missing.push(Arc::clone(key)),
                Err(error) => tracing::warn!(%error, %key, "precompressed forms are not readable"),
            }
        }
        Ok(missing)
    }

    fn make(
        &mut self,
        site: &Site,
        missing: Vec<Arc<str>>,
        wanted: &HashMap<Arc<str>, u64>,
    ) -> Result<(), Outdated> {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for key in missing {
            self.check()?;
            match self.forms(site.version(), &key) {
                Ok(forms) => {
                    batch_bytes += wanted.get(&key).copied().unwrap_or_default();
                    batch.push((key, forms));
                }
                Err(error) => tracing::warn!(%error, %key, "a static file is not compressed"),
            }
            if batch.len() == STORE_TOGETHER || batch_bytes >= STORE_TOGETHER_BYTES {
                self.store(site, std::mem::take(&mut batch));
                batch_bytes = 0;
            }
        }
        self.store(site, batch);
        Ok(())
    }

    fn forms(&self, version: &Version, key: &str) -> anyhow::Result<EncodedForms> {
        let assets = self.storage.assets();
        let mut file = assets.open(&version.account, &version.project, key)?;
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(EncodedForms::of(&content)?)
    }

    fn store(&mut self, site: &Site, batch: Vec<(Arc<str>, EncodedForms)>) {
        let sizes: HashMap<_, _> = batch
            .iter()
            .map(|(key, forms)| (Arc::clone(key), forms.sizes()))
            .collect();
        let version = site.version();
        let assets = self.storage.assets();
        let stored = assets.put_encoded(&version.account, &version.project, batch);
        match self.runtime.block_on(stored) {
            Ok(()) => {
                site.add_encoded(&sizes);
                self.known.extend(sizes);
            }
            // The plain files go on being sent.
            Err(error) => tracing::warn!(%error, "precompressed forms are not stored"),
        }
    }

    fn check(&self) -> Result<(), Outdated> {
        match self.newest.has_changed() {
            Ok(false) => Ok(()),
            Ok(true) | Err(_) => Err(Outdated),
        }
    }
}
