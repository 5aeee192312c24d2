//! Static files of projects, named by their content.
//!
//! They lie below their project and are never shared across projects, so that knowing a
//! hash is no way to learn of, or to reach, another project's file. A file is there whole
//! or not at all: it is written to a temporary name, synced, renamed, and its folder is
//! synced. Bytes that do not match their key are refused.

mod forms;

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use engawa_model::limits::ASSET_BYTES;
use engawa_model::{
    AccountId, EncodedSizes, Encoding, ErrorKind, ProjectName, asset_key, is_asset_key,
};

pub use forms::EncodedForms;

use crate::blobs::{BlobId, read_folder};
use crate::layout::{Layout, sync_folder};
use crate::{Core, Error};

/// The static files of all projects. Cheap to clone.
#[derive(Clone)]
pub struct Assets {
    core: Arc<Core>,
}

/// A file to be stored.
#[derive(Debug, Clone)]
pub struct NewAsset {
    /// Its [`asset_key`].
    pub key: String,
    /// The extensions that it may have; with one of them, its bytes give the key. (An
    /// upload says only the type.)
    pub extensions: Vec<String>,
    /// All of it.
    pub bytes: Bytes,
}

impl Assets {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Whether a project has a file.
    pub async fn has(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &str,
    ) -> Result<bool, Error> {
        let missing = self.missing(account, project, vec![key.to_owned()]).await?;
        Ok(missing.is_empty())
    }

    /// Which of these keys a project does not have.
    pub async fn missing(
        &self,
        account: &AccountId,
        project: &ProjectName,
        keys: Vec<String>,
    ) -> Result<Vec<String>, Error> {
        let places: Vec<_> = keys
            .into_iter()
            .map(|key| Ok((self.path(account, project, &key)?, key)))
            .collect::<Result<_, Error>>()?;
        self.core
            .blob_io
            .run(move || {
                let missing = places.into_iter().filter(|(path, _)| !path.is_file());
                Ok(missing.map(|(_, key)| key).collect())
            })
            .await
    }

    /// Stores a file; one that is there already is left as it is.
    pub async fn put(
        &self,
        account: &AccountId,
        project: &ProjectName,
        asset: NewAsset,
    ) -> Result<(), Error> {
        self.put_many(account, project, vec![asset]).await
    }

    /// Stores files, sharing the syncs of their folders. If one is refused, none of the
    /// others is stored.
    pub async fn put_many(
        &self,
        account: &AccountId,
        project: &ProjectName,
        assets: Vec<NewAsset>,
    ) -> Result<(), Error> {
        let files: Vec<_> = assets
            .into_iter()
            .map(|asset| Ok((self.path(account, project, &asset.key)?, asset)))
            .collect::<Result<_, Error>>()?;
        let layout = self.core.layout.clone();
        let tmp = layout.blobs_tmp_dir(account);
        self.core
            .blob_io
            .run(move || {
                files.iter().try_for_each(|(_, asset)| check(asset))?;
                let files = files.into_iter().map(|(path, asset)| (path, asset.bytes));
                write_all(&layout, &tmp, &files.collect::<Vec<_>>())
            })
            .await
    }

    /// Which precompressed forms of a file are stored, and how long they are; `None` if
    /// they were not made yet. Blocking.
    pub fn encoded_sizes(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &str,
    ) -> Result<Option<EncodedSizes>, Error> {
        let path = encoded(self.path(account, project, key)?);
        let sizes = match File::open(&path) {
            Ok(mut file) => forms::read_sizes(&mut file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        };
        sizes.map_err(|error| Error::io("read", &path, error))
    }

    /// Stores the precompressed forms of files, by their keys. Those of a file that has
    /// some are left as they are, if they are of this version.
    pub async fn put_encoded(
        &self,
        account: &AccountId,
        project: &ProjectName,
        files: Vec<(Arc<str>, EncodedForms)>,
    ) -> Result<(), Error> {
        let files: Vec<_> = files
            .into_iter()
            .map(|(key, forms)| {
                let path = encoded(self.path(account, project, &key)?);
                Ok((path, forms.into_file()))
            })
            .collect::<Result<_, Error>>()?;
        let layout = self.core.layout.clone();
        let tmp = layout.blobs_tmp_dir(account);
        self.core
            .blob_io
            .run(move || {
                // One that is not whole, or older, is no reason to keep it.
                for (path, _) in &files {
                    let whole = File::open(path).and_then(|mut file| forms::read_sizes(&mut file));
                    if matches!(whole, Ok(None)) {
                        fs::remove_file(path).map_err(|error| Error::io("remove", path, error))?;
                    }
                }
                write_all(&layout, &tmp, &files)
            })
            .await
    }

    /// Opens one of a file's precompressed forms: it begins at the position of what is
    /// given. Blocking.
    pub fn open_encoded(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &str,
        encoding: Encoding,
    ) -> Result<File, Error> {
        let path = encoded(self.path(account, project, key)?);
        File::open(&path)
            .and_then(|mut file| forms::seek(&mut file, encoding).map(|()| file))
            .map_err(|error| Error::io("open", &path, error))
    }

    /// Where a file lies, to be opened and sent. It may not be there.
    pub fn path(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &str,
    ) -> Result<PathBuf, Error> {
        place(&self.core.layout, account, project, key)
    }

    /// Opens a file; `NotFound` if it is not there. Blocking.
    pub fn open(
        &self,
        account: &AccountId,
        project: &ProjectName,
        key: &str,
    ) -> Result<File, Error> {
        let path = self.path(account, project, key)?;
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let message = format!("the project {project} has no file {key}");
                Error::with_source(ErrorKind::NotFound, message, error)
            }
            _ => Error::io("open", &path, error),
        })
    }

    /// Removes the files of a project whose keys are not among these.
    pub(crate) async fn retain(
        &self,
        account: &AccountId,
        project: &ProjectName,
        keys: HashSet<String>,
    ) -> Result<(), Error> {
        let folder = self.core.layout.assets_dir(account, project);
        self.core
            .blob_io
            .run(move || {
                for part in read_folder(&folder)? {
                    for file in read_folder(&part)? {
                        // Precompressed forms lie beside their file, under its name.
                        let name = file.file_stem().and_then(|name| name.to_str());
                        if name.is_some_and(|name| keys.contains(name)) {
                            continue;
                        }
                        fs::remove_file(&file)
                            .map_err(|error| Error::io("remove", &file, error))?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// Removes all files of a project.
    pub async fn remove_project(
        &self,
        account: &AccountId,
        project: &ProjectName,
    ) -> Result<(), Error> {
        let layout = self.core.layout.clone();
        let folder = layout.assets_dir(account, project);
        self.core
            .blob_io
            .run(move || layout.remove_folder(&folder))
            .await
    }
}

fn place(
    layout: &Layout,
    account: &AccountId,
    project: &ProjectName,
    key: &str,
) -> Result<PathBuf, Error> {
    if !is_asset_key(key) {
        let message = format!("\"{key}\" is not the key of a file: 32 lower-case hex digits");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let mut path = layout.assets_dir(account, project);
    path.extend([&key[..2], key]);
    Ok(path)
}

/// Where the precompressed forms of a file lie.
fn encoded(mut path: PathBuf) -> PathBuf {
    path.set_extension("forms");
    path
}

/// Writes files that are not there yet, sharing the syncs of their folders.
fn write_all(layout: &Layout, tmp: &Path, files: &[(PathBuf, Bytes)]) -> Result<(), Error> {
    layout.ensure_folder(tmp)?;
    let sync = Sync::of(files.len());
    let mut folders = BTreeSet::new();
    let mut written = Vec::new();
    for (path, bytes) in files {
        layout.ensure_parent(path)?;
        // Also if it is there: who made it may have been killed before this.
        folders.extend(path.parent());
        if !path.is_file() {
            let name = format!("asset-{}", BlobId::random()?);
            let new = Temporary(tmp.join(name));
            new.write(bytes, sync)?;
            written.push((new, path));
        }
    }
    if sync == Sync::Together && !written.is_empty() {
        sync_everything(tmp)?;
    }
    for (new, path) in written {
        new.rename(path)?;
    }
    match sync {
        Sync::Each => folders.into_iter().try_for_each(sync_folder),
        Sync::Together => sync_everything(tmp),
    }
}

fn check(asset: &NewAsset) -> Result<(), Error> {
    let len = asset.bytes.len() as u64;
    if len > ASSET_BYTES {
        let message = format!("a file of {len} bytes exceeds the limit of {ASSET_BYTES}");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    let matches = asset
        .extensions
        .iter()
        .any(|extension| asset_key(&asset.bytes, extension) == asset.key);
    if matches {
        return Ok(());
    }
    let message = format!("the bytes uploaded as {} do not match that key", asset.key);
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// From how many files on the whole file system is synced rather than each file: a sync
/// costs milliseconds, whatever it is of, and a first deployment may have 20,000 files.
const SYNC_TOGETHER: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Each,
    Together,
}

impl Sync {
    fn of(files: usize) -> Self {
        if files < SYNC_TOGETHER {
            Self::Each
        } else {
            Self::Together
        }
    }
}

/// Syncs the file system that a folder lies in. It reports failed writes like a file's own
/// sync (Linux 5.8).
fn sync_everything(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
        .map_err(|error| Error::io("sync the file system of", folder, error))
}

/// A file that is not yet what it will be. It goes unless it gets its name.
struct Temporary(PathBuf);

impl Temporary {
    fn write(&self, bytes: &[u8], sync: Sync) -> Result<(), Error> {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.0)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                match sync {
                    Sync::Each => file.sync_data(),
                    Sync::Together => Ok(()),
                }
            });
        written.map_err(|error| Error::io("write", &self.0, error))
    }

    fn rename(mut self, path: &Path) -> Result<(), Error> {
        fs::rename(&self.0, path).map_err(|error| Error::io("write", path, error))?;
        self.0.clear();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // If this fails too, the next start removes it.
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::tests::Fixture;

    fn asset(bytes: &'static str, extension: &str) -> NewAsset {
        NewAsset {
            key: asset_key(bytes.as_bytes(), extension),
            extensions: vec!["bin".to_owned(), extension.to_owned()],
            bytes: Bytes::from_static(bytes.as_bytes()),
        }
    }

    #[tokio::test]
    async fn files_are_found_in_their_own_project_and_account_only() {
        let fixture = Fixture::new();
        let assets = fixture.storage.assets();
        let (account, project) = (AccountId::local(), ProjectName::from("p"));
        let file = asset("hello", "txt");
        let key = file.key.clone();
        assert!(!assets.has(&account, &project, &key).await.unwrap());
        for _ in 0..2 {
            assets
                .put_many(&account, &project, vec![file.clone(), asset("other", "js")])
                .await
                .unwrap();
        }
        assert_eq!(
            io::read_to_string(assets.open(&account, &project, &key).unwrap()).unwrap(),
            "hello"
        );
        let absent = "0".repeat(32);
        let missing = assets
            .missing(&account, &project, vec![key.clone(), absent.clone()])
            .await;
        assert_eq!(missing.unwrap(), [absent]);
        for (account, project) in [
            (AccountId::new("other"), project.clone()),
            (account.clone(), ProjectName::from("q")),
        ] {
            assert!(!assets.has(&account, &project, &key).await.unwrap());
            let error = assets.open(&account, &project, &key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        assets.remove_project(&account, &project).await.unwrap();
        assert!(!assets.has(&account, &project, &key).await.unwrap());
        assets.put(&account, &project, file).await.unwrap();
        assert!(assets.has(&account, &project, &key).await.unwrap());
    }

    #[tokio::test]
    async fn many_files_are_stored_whole_or_not_at_all() {
        let fixture = Fixture::new();
        let assets = fixture.storage.assets();
        let (account, project) = (AccountId::local(), ProjectName::from("p"));
        let file = |number: usize| {
            let bytes = Bytes::from(format!("file {number}"));
            NewAsset {
                key: asset_key(&bytes, "txt"),
                extensions: vec!["txt".to_owned()],
                bytes,
            }
        };
        let mut files: Vec<_> = (0..2 * SYNC_TOGETHER).map(file).collect();
        let keys: Vec<_> = files.iter().map(|file| file.key.clone()).collect();
        files.last_mut().unwrap().bytes = Bytes::from_static(b"other bytes");
        let refused = assets.put_many(&account, &project, files.clone()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
        let missing = assets.missing(&account, &project, keys.clone()).await;
        assert_eq!(missing.unwrap().len(), keys.len());
        let tmp = fixture.storage.core.layout.blobs_tmp_dir(&account);
        assert_eq!(
            fs::read_dir(tmp).map_or(0, Iterator::count),
            0,
            "nothing is left"
        );

        *files.last_mut().unwrap() = file(2 * SYNC_TOGETHER - 1);
        let stored = assets.put_many(&account, &project, files.clone()).await;
        stored.unwrap();
        for file in files {
            let stored = assets.open(&account, &project, &file.key).unwrap();
            assert_eq!(io::read_to_string(stored).unwrap().as_bytes(), file.bytes);
        }
    }

    #[tokio::test]
    async fn precompressed_forms_are_kept_where_they_save_something() {
        let fixture = Fixture::new();
        let assets = fixture.storage.assets();
        let (account, project) = (AccountId::local(), ProjectName::from("p"));
        let text = "all work and no play makes jack a dull boy. ".repeat(5000);
        // Bytes without a pattern.
        let mut noise = Vec::new();
        while noise.len() < 5000 {
            let seed = noise.len().to_string();
            noise.extend_from_slice(blake3::hash(seed.as_bytes()).as_bytes());
        }
        let key = |content: &[u8]| Arc::<str>::from(asset_key(content, "txt"));
        let (text_key, noise_key) = (key(text.as_bytes()), key(&noise));
        let sizes = assets.encoded_sizes(&account, &project, &text_key);
        assert_eq!(sizes.unwrap(), None);

        let forms = EncodedForms::of(text.as_bytes()).unwrap();
        let files = vec![
            (Arc::clone(&text_key), forms.clone()),
            (Arc::clone(&noise_key), EncodedForms::of(&noise).unwrap()),
        ];
        assets.put_encoded(&account, &project, files).await.unwrap();
        let sizes = assets.encoded_sizes(&account, &project, &text_key);
        assert_eq!(sizes.unwrap(), Some(forms.sizes()));
        let sizes = assets.encoded_sizes(&account, &project, &noise_key);
        assert_eq!(sizes.unwrap(), Some(EncodedSizes::default()));
        for encoding in Encoding::ALL {
            let file = assets.open_encoded(&account, &project, &text_key, encoding);
            let mut form = Vec::new();
            let len_bytes = forms.sizes().size_bytes(encoding).unwrap();
            assert!(len_bytes < 2000, "{encoding:?}: {len_bytes}");
            io::Read::take(file.unwrap(), len_bytes)
                .read_to_end(&mut form)
                .unwrap();
            let mut plain = String::new();
            match encoding {
                Encoding::Brotli => brotli::Decompressor::new(&*form, 4096)
                    .read_to_string(&mut plain)
                    .unwrap(),
                Encoding::Zstd => zstd::Decoder::new(&*form)
                    .unwrap()
                    .read_to_string(&mut plain)
                    .unwrap(),
                Encoding::Gzip => flate2::read::GzDecoder::new(&*form)
                    .read_to_string(&mut plain)
                    .unwrap(),
            };
            assert_eq!(plain, text, "{encoding:?}");
        }

        // One that was cut off is made anew.
        let path = encoded(assets.path(&account, &project, &text_key).unwrap());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let sizes = assets.encoded_sizes(&account, &project, &text_key);
        assert_eq!(sizes.unwrap(), None);
        let files = vec![(Arc::clone(&text_key), forms.clone())];
        assets.put_encoded(&account, &project, files).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[tokio::test]
    async fn bytes_that_do_not_match_their_key_are_refused() {
        let fixture = Fixture::new();
        let assets = fixture.storage.assets();
        let (account, project) = (AccountId::local(), ProjectName::from("p"));
        let mut file = asset("hello", "txt");
        file.bytes = Bytes::from_static(b"hullo");
        let key = file.key.clone();
        let error = assets.put(&account, &project, file).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(&key), "{error}");
        assert!(!assets.has(&account, &project, &key).await.unwrap());
        for key in [
            "../../../../etc/passwd",
            "",
            "F0B3413D4CABB000327FAD369003D6A5",
        ] {
            let error = assets.has(&account, &project, key).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
