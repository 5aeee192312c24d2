//! Static files of a project: which of a folder's files are assets, under which key and
//! with which content type (pages.md 1.8, 1.10; Workers: 12).
//!
//! A folder of 20,000 files is looked at on every edit in `engawa dev`, so a file is read
//! only when its modification time, size or inode changed since the last look
//! ([`AssetCache`]).

mod ignore_rules;
mod mime;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engawa_model::limits::{ASSET_BYTES, ASSET_FILES};
use engawa_model::{AssetEntry, AssetKeyHasher, AssetManifest, ProjectKind};

use ignore_rules::IgnoreRules;

/// The static files of a folder.
#[derive(Debug, Default)]
pub struct Assets {
    /// Paths to keys.
    pub manifest: AssetManifest,
    /// A file for each key.
    pub files: Vec<AssetFile>,
    /// Every folder that was walked.
    pub folders: Vec<PathBuf>,
}

/// A file that holds the content of a key. It may have changed since: whoever stores it
/// checks with [`engawa_model::asset_key`] what it read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetFile {
    /// 32 hex digits.
    pub key: Arc<str>,
    /// Where the content lies.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
}

/// Why a folder's files can not be used.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// The folder does not exist or is none.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// Something in it could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Larger than [`ASSET_BYTES`].
    #[error(
        "{} is {:.1} MiB in size; a static file may have at most {} MiB. Keep it in R2, or name it in .assetsignore if the project is a Worker.",
        .path.display(), mebibytes(*.size_bytes), ASSET_BYTES / (1024 * 1024)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        size_bytes: u64,
    },
    /// More than [`ASSET_FILES`].
    #[error(
        "{} has more than {ASSET_FILES} files. Is it the right build output folder? (The first one too many is {}.)",
        folder.display(), first.display()
    )]
    TooMany {
        /// The folder.
        folder: PathBuf,
        /// The file at which counting stopped.
        first: PathBuf,
    },
    /// A link leads back to a folder that it lies in.
    #[error("{} is a link to a folder that contains it", .0.display())]
    Loop(PathBuf),
    /// Every attempt to read it met another content.
    #[error("{} keeps changing while it is read", .0.display())]
    Unstable(PathBuf),
    /// A name that no URL can spell.
    #[error("the name of {} is not valid UTF-8, so no URL can name it", .0.display())]
    NotUtf8(PathBuf),
    /// The code of a worker would be served to everybody.
    #[error(
        "{} would be served as a static file. Add `_worker.js` to a file .assetsignore in that folder, or move it out of it.",
        .0.display()
    )]
    WorkerExposed(PathBuf),
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal place")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// Remembers keys of files between two looks at a folder.
#[derive(Debug, Default)]
pub struct AssetCache {
    known: HashMap<PathBuf, (FileStamp, Arc<str>)>,
}

/// What tells a changed file from an unchanged one without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    modified: (i64, i64),
    size_bytes: u64,
    inode: u64,
}

impl FileStamp {
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        Ok(Self::of_metadata(&std::fs::metadata(path)?))
    }

    fn of_metadata(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size_bytes: metadata.len(),
            inode: metadata.ino(),
        }
    }
}

impl AssetCache {
    /// Collects the static files of `folder`. `extra` names entries of its top level that
    /// are no static files besides those that the rules of `kind` leave out.
    pub fn collect(
        &mut self,
        folder: &Path,
        kind: ProjectKind,
        extra: &[&str],
    ) -> Result<Assets, AssetError> {
        if !folder.is_dir() {
            return Err(AssetError::NoFolder(folder.to_path_buf()));
        }
        let rules = IgnoreRules::of_folder(folder, kind, extra)?;
        let mut walk = Walk {
            root: folder,
            rules: &rules,
            found: Vec::new(),
            folders: Vec::new(),
            ancestors: Vec::new(),
        };
        walk.folder(folder, "")?;
        let Walk { found, folders, .. } = walk;

        let mut fresh = HashMap::with_capacity(found.len());
        let mut assets = Assets {
            folders,
            ..Assets::default()
        };
        let mut keys = std::collections::HashSet::new();
        for (name, path, stamp) in found {
            let (stamp, key) = match self.known.get(&path) {
                Some((known, key)) if *known == stamp => (stamp, key.clone()),
                _ => read_key(&path)?,
            };
            if keys.insert(key.clone()) {
                assets.files.push(AssetFile {
                    key: key.clone(),
                    path: path.clone(),
                    size_bytes: stamp.size_bytes,
                });
            }
            let entry = AssetEntry {
                key: key.clone(),
                content_type: mime::content_type(&name, kind).map(Arc::from),
                size_bytes: stamp.size_bytes,
            };
            assets
                .manifest
                .entries
                .insert(format!("/{name}").into(), entry);
            fresh.insert(path, (stamp, key));
        }
        self.known = fresh;
        Ok(assets)
    }
}

struct Walk<'a> {
    root: &'a Path,
    rules: &'a IgnoreRules,
    found: Vec<(String, PathBuf, FileStamp)>,
    folders: Vec<PathBuf>,
    /// Device and inode of the folders above, to notice a link that leads back.
    ancestors: Vec<(u64, u64)>,
}

impl Walk<'_> {
    /// `prefix` is the folder's own name below the root, with a `/` at its end.
    fn folder(&mut self, folder: &Path, prefix: &str) -> Result<(), AssetError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| AssetError::Read { path, source }
        };
        let metadata = std::fs::metadata(folder).map_err(failed(folder))?;
        let identity = (metadata.dev(), metadata.ino());
        if self.ancestors.contains(&identity) {
            return Err(AssetError::Loop(folder.to_path_buf()));
        }
        self.ancestors.push(identity);
        self.folders.push(folder.to_path_buf());

        let entries: Result<Vec<_>, _> =
            std::fs::read_dir(folder).map_err(failed(folder))?.collect();
        let mut entries = entries.map_err(failed(folder))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let file_name = entry.file_name();
            let name = file_name
                .to_str()
                .ok_or_else(|| AssetError::NotUtf8(path.clone()))?;
            let name = format!("{prefix}{name}");
            // Links are followed.
            let metadata = match std::fs::metadata(&path) {
                Ok(metadata) => metadata,
                // Gone since the folder was read, as build tools do all the time.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && !entry_is_link(&entry) =>
                {
                    continue;
                }
                Err(source) => return Err(AssetError::Read { path, source }),
            };
            if self.rules.ignores(&name, metadata.is_dir()) {
                continue;
            }
            if metadata.is_dir() {
                self.folder(&path, &format!("{name}/"))?;
            } else if metadata.is_file() {
                self.file(name, path, &metadata)?;
            }
        }
        self.ancestors.pop();
        Ok(())
    }

    fn file(&mut self, name: String, path: PathBuf, metadata: &Metadata) -> Result<(), AssetError> {
        self.rules.check(&name, &path)?;
        if metadata.len() > ASSET_BYTES {
            return Err(AssetError::TooLarge {
                path,
                size_bytes: metadata.len(),
            });
        }
        if self.found.len() == ASSET_FILES {
            return Err(AssetError::TooMany {
                folder: self.root.to_path_buf(),
                first: path,
            });
        }
        self.found
            .push((name, path, FileStamp::of_metadata(metadata)));
        Ok(())
    }
}

fn entry_is_link(entry: &std::fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_symlink())
}

/// Attempts at a file that changes under our hands.
const READ_ATTEMPTS: usize = 5;

/// Hashes a file of which nothing changed from the first byte to the last.
fn read_key(path: &Path) -> Result<(FileStamp, Arc<str>), AssetError> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let failed = |source| AssetError::Read {
        path: path.to_path_buf(),
        source,
    };
    for _ in 0..READ_ATTEMPTS {
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let before = FileStamp::of_metadata(&file.metadata().map_err(failed)?);
        if before.size_bytes > ASSET_BYTES {
            return Err(AssetError::TooLarge {
                path: path.to_path_buf(),
                size_bytes: before.size_bytes,
            });
        }
        let mut hasher = AssetKeyHasher::default();
        let mut buffer =
            vec![0; READ_BYTES.min(usize::try_from(before.size_bytes).unwrap_or(READ_BYTES) + 1)];
        let mut total = 0;
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 || total > ASSET_BYTES {
                break;
            }
            hasher.update(&buffer[..count]);
            total += count as u64;
        }
        // By path, so that a file that was replaced by renaming is noticed too.
        let after = FileStamp::of(path).map_err(failed)?;
        if before == after && total == before.size_bytes {
            return Ok((before, hasher.finish(extension).into()));
        }
    }
    Err(AssetError::Unstable(path.to_path_buf()))
}

/// What is read at once.
const READ_BYTES: usize = 64 * 1024;
