//! Workers KV: a SQLite file a namespace, with hot values in memory.
//!
//! **A write** is checked here, its blob (if the value is above 16 KiB) is given its
//! place, and then it waits in its namespace's queue. A storage thread takes all that is
//! there, executes each in a savepoint of one transaction, commits (which is one sync),
//! updates the hot values, and answers all. So a put alone costs one sync, and 32 at once
//! share one; an error of one put undoes that put only.
//!
//! **A read** of a hot key is answered from memory on the caller's thread ([`cache`] says
//! why it is never stale). Any other goes to a storage thread, which reads the row, fills
//! the cache and answers. So reads see every write that was acknowledged before them:
//! stronger than Cloudflare's promise, as its simulator is.
//!
//! **Expiry** is a matter of the clock: a key whose expiration is now or earlier is dead
//! for every reader, whether or not its row is still there. Rows go with later writes of
//! their namespace, or with the reaper, which looks at every open namespace once a minute.
//!
//! **Rules and texts** ([`rules`]) are those of miniflare's `validator.worker.ts`, which
//! are production's: an error's message is the reason phrase that a Worker sees.

mod cache;
mod file;
mod reader;
mod reaper;
mod rules;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use engawa_model::limits::{KV_BULK_KEYS, KV_VALUE_BYTES};
use engawa_model::{AccountId, ErrorKind, Metered, NamespaceId, Usage, UsageClass};
use tokio::sync::oneshot;

use crate::body::Content;
use crate::layout::Resource;
use crate::pool::{Files, FilesOptions, Refused};
use crate::ticker::Ticker;
use crate::{Body, Core, Error, Stage, Staged};
use cache::Cache;
use file::{Namespace, NamespaceFile, PutValue, Read, Write};

pub(crate) use file::SCHEMA;
pub use rules::check_cache_ttl;

/// Key and blob of every value that lies in a blob.
pub(crate) const NAMED_BLOBS: &str = "SELECT key, blob_id FROM entries WHERE blob_id IS NOT NULL";
/// Whether a row names a blob.
pub(crate) const IS_NAMED_BLOB: &str = "SELECT 1 FROM entries WHERE blob_id = ?1";

/// The longest value that lies in its row. A longer one is a blob.
const INLINE_BYTES: u64 = 16 * 1024;
/// Keys of one [`Kv::delete_bulk`] (the REST API's limit; a binding's is lower).
const DELETE_KEYS: usize = 10_000;

/// All KV namespaces. Cheap to clone.
#[derive(Clone)]
pub struct Kv {
    core: Arc<Core>,
    cache: Arc<Cache>,
    files: Files<NamespaceFile>,
    context: Arc<file::Context>,
    reaper: Arc<Ticker>,
}

/// A value with what belongs to it.
#[derive(Debug)]
pub struct KvEntry {
    /// The value.
    pub value: Body,
    /// JSON text, at most 1,024 bytes.
    pub metadata: Option<Arc<str>>,
    /// When it ends, in seconds since 1970.
    pub expiration_s: Option<u64>,
}

/// The options of a put, as they came: the texts of errors quote them.
#[derive(Debug, Clone, Default)]
pub struct KvPutOptions {
    /// JSON text. `null` is the same as none.
    pub metadata: Option<String>,
    /// Seconds since 1970.
    pub expiration: Option<String>,
    /// Seconds from now; wins over `expiration`.
    pub expiration_ttl: Option<String>,
}

/// Which keys to list.
#[derive(Debug, Clone, Default)]
pub struct KvListOptions {
    /// Only keys that begin with it, bytewise.
    pub prefix: Option<String>,
    /// 1 to 1,000; 1,000 if not given.
    pub limit: Option<i64>,
    /// Where an earlier list ended.
    pub cursor: Option<String>,
}

/// A page of keys, in the order of their UTF-8 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvList {
    /// The keys.
    pub keys: Vec<KvListKey>,
    /// Given if there are more. Stands strictly behind the last key of this page.
    pub cursor: Option<String>,
}

/// A key in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvListKey {
    /// The key.
    pub name: String,
    /// When it ends, in seconds since 1970.
    pub expiration_s: Option<u64>,
    /// JSON text.
    pub metadata: Option<String>,
}

impl Kv {
    pub(crate) fn new(core: Arc<Core>) -> Result<Self, Error> {
        let cache = Arc::new(Cache::new(core.kv_cache_bytes));
        let context = Arc::new(file::Context::new(core.clone(), cache.clone()));
        let files = Files::new(
            core.pool.clone(),
            context.clone(),
            FilesOptions {
                max_open: core.max_open_files,
                // A test that counts syncs must not depend on how fast its puts run.
                #[cfg(test)]
                group_time: std::time::Duration::from_mins(1),
                ..FilesOptions::default()
            },
        );
        let reaper = Arc::new(reaper::start(context.clone(), files.clone())?);
        Ok(Self {
            core,
            cache,
            files,
            context,
            reaper,
        })
    }

    /// Begins the upload of a value.
    pub fn stage(&self, account: &AccountId) -> Stage {
        let (layout, io) = (self.core.layout.clone(), self.core.blob_io.clone());
        Stage::new(layout, io, account.clone(), INLINE_BYTES).with_limit(KV_VALUE_BYTES)
    }

    /// A value that is in memory already.
    pub async fn stage_bytes(&self, account: &AccountId, value: Bytes) -> Result<Staged, Error> {
        if value.len() as u64 <= INLINE_BYTES {
            return Ok(Staged::inline(value));
        }
        let mut stage = self.stage(account);
        stage.write(value).await?;
        stage.finish().await
    }

    /// The value of a key.
    pub async fn get(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        key: &str,
    ) -> Result<Metered<Option<KvEntry>>, Error> {
        rules::check_key(key)?;
        let entry = self.read(account, namespace, key).await?;
        let bytes_out = entry.as_ref().map_or(0, |entry| entry.value.len_bytes());
        Ok(Metered {
            value: entry,
            usage: Usage::one(UsageClass::KvRead).with_bytes_out(bytes_out),
        })
    }

    /// The values of 1 to 100 keys, in their order. `TooLarge` if they exceed 25 MiB
    /// together.
    pub async fn get_bulk(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        keys: &[String],
    ) -> Result<Metered<Vec<Option<KvEntry>>>, Error> {
        rules::check_bulk(keys, KV_BULK_KEYS)?;
        for key in keys {
            rules::check_key(key)?;
        }
        let (mut entries, mut bytes_out) = (Vec::with_capacity(keys.len()), 0);
        // All at once, so that a storage thread finds them in its queue together.
        let reads = keys.iter().map(|key| self.read(account, namespace, key));
        for entry in futures_util::future::join_all(reads).await {
            let entry = entry?;
            bytes_out += entry.as_ref().map_or(0, |entry| entry.value.len_bytes());
            entries.push(entry);
        }
        if bytes_out > KV_VALUE_BYTES {
            let message = "Total size of request exceeds the limit of 25MB";
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let usage = Usage {
            operations: keys.len() as u64,
            ..Usage::one(UsageClass::KvRead).with_bytes_out(bytes_out)
        };
        Ok(Metered {
            value: entries,
            usage,
        })
    }

    /// Replaces the value, metadata and expiration of a key.
    pub async fn put(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        key: &str,
        value: Staged,
        options: KvPutOptions,
    ) -> Result<Metered<()>, Error> {
        rules::check_key(key)?;
        let expiration_s = rules::expiration_s(&options, self.core.clock.now_s())?;
        let metadata = rules::metadata(options.metadata)?;
        let len_bytes = value.len_bytes;
        rules::check_value(len_bytes)?;
        let (room, io) = (self.core.layout.room(), &self.core.blob_io);
        room.check(io, &self.core.layout).await?;
        let namespace = Namespace::new(account, namespace);
        let content = match value.content {
            // Staged with a higher limit than ours.
            Content::Inline(bytes) if len_bytes > INLINE_BYTES => {
                self.stage_bytes(account, bytes).await?.content
            }
            content => content,
        };
        let value = match content {
            Content::Inline(bytes) => PutValue::Inline(bytes),
            Content::Blob(blob) => {
                let folder = self.context.blobs(&namespace);
                let publish = move || folder.publish(blob);
                PutValue::Blob(self.core.blob_io.run(publish).await?)
            }
            Content::OverLimit => {
                let message = "a defect: the value was staged with a limit below KV's";
                return Err(Error::new(ErrorKind::Internal, message));
            }
        };
        let (reply, answer) = oneshot::channel();
        let write = Write::Put {
            key: key.to_owned(),
            value,
            len_bytes,
            metadata,
            expiration_s,
            reply,
        };
        self.files.write(&namespace, write)?;
        answered(answer).await?;
        Ok(Metered {
            value: (),
            usage: Usage::one(UsageClass::KvWrite).with_bytes_in(len_bytes),
        })
    }

    /// Deletes a key; one that is not there is fine.
    pub async fn delete(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        key: &str,
    ) -> Result<Metered<()>, Error> {
        rules::check_key(key)?;
        self.delete_keys(account, namespace, vec![key.to_owned()])
            .await
    }

    /// Deletes 1 to 10,000 keys in one transaction.
    pub async fn delete_bulk(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        keys: &[String],
    ) -> Result<Metered<()>, Error> {
        rules::check_bulk(keys, DELETE_KEYS)?;
        for key in keys {
            rules::check_key(key)?;
        }
        self.delete_keys(account, namespace, keys.to_vec()).await
    }

    /// A page of keys.
    pub async fn list(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        options: KvListOptions,
    ) -> Result<Metered<KvList>, Error> {
        let range = rules::list_range(&options)?;
        let (reply, answer) = oneshot::channel();
        let namespace = Namespace::new(account, namespace);
        self.files.read(&namespace, Read::List { range, reply })?;
        Ok(Metered {
            value: answered(answer).await?,
            usage: Usage::one(UsageClass::KvList),
        })
    }

    /// Removes a namespace's files, and what is open of them. Blocking.
    pub(crate) fn remove(&self, account: &AccountId, namespace: &str) -> Result<(), Error> {
        let key = Namespace::new(account, &NamespaceId::from(namespace));
        let layout = &self.core.layout;
        self.files.remove(&key, || {
            self.cache.remove_namespace(&key);
            layout.remove_database(Resource::Kv, account, namespace)
        })?
    }

    /// Answers everything that waits, and closes all files. Blocking.
    pub(crate) fn close(&self) {
        self.reaper.stop();
        self.files.close();
    }

    async fn read(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        key: &str,
    ) -> Result<Option<KvEntry>, Error> {
        let place = self.cache.place(account, namespace, key);
        if let Some(hot) = self.cache.get(&place) {
            let is_live = rules::is_live(hot.expiration_s, || self.core.clock.now_s());
            return Ok(is_live.then(|| hot.into_entry()));
        }
        let (reply, answer) = oneshot::channel();
        let read = Read::Get {
            key: key.to_owned(),
            fill: self.cache.before_read(&place),
            reply,
        };
        self.files.read(&Namespace::new(account, namespace), read)?;
        answered(answer).await
    }

    async fn delete_keys(
        &self,
        account: &AccountId,
        namespace: &NamespaceId,
        keys: Vec<String>,
    ) -> Result<Metered<()>, Error> {
        let operations = keys.len() as u64;
        let namespace = Namespace::new(account, namespace);
        let delete = async |keys| {
            let (reply, answer) = oneshot::channel();
            self.files
                .write(&namespace, Write::Delete { keys, reply })?;
            answered(answer).await
        };
        let (room, io) = (self.core.layout.room(), &self.core.blob_io);
        let mut deleted = delete(keys.clone()).await;
        if deleted.is_err() && room.give_up(io, &self.core.layout).await {
            deleted = delete(keys).await;
        }
        deleted?;
        room.end_shortage(io, &self.core.layout).await?;
        let usage = Usage {
            operations,
            ..Usage::one(UsageClass::KvDelete)
        };
        Ok(Metered { value: (), usage })
    }
}

/// Waits for a storage thread's answer.
async fn answered<T>(answer: oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
    // The sender goes unused only if the thread panicked over the request.
    answer
        .await
        .unwrap_or_else(|_| Err(Refused::Panicked.into()))
}
