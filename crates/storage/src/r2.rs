//! R2 buckets (storage.md 3).
//!
//! An upload is two steps: [`R2::begin_put`] or [`R2::begin_part`] checks what can be
//! checked before any byte has come and gives an [`R2Upload`]; writing to that streams
//! through the hashers to memory or to a blob; [`R2Upload::finish`] checks digests and
//! conditions, and returns when the object is durable. Until then nothing is visible, and
//! dropping it leaves nothing behind: a failed put leaves the old object as it was.
//!
//! A read hands out the object and its bytes as they were at one moment. They stay
//! readable to the end, whatever happens to the key meanwhile.
//!
//! A value may be encrypted with a key that its owner brings with each request (SSE-C):
//! see [`CustomerKey`].

mod conditional;
mod cors;
mod error;
mod file;
mod lifecycle;
mod list;
mod parts;
mod range;
mod rules;
pub(crate) mod sweep;
mod types;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use engawa_model::{AccountId, BucketName, Clock, Metered, Usage, UsageClass, limits};
use tokio::sync::oneshot;

pub use crate::seal::CustomerKey;
pub use cors::{CorsAllowed, CorsRule, check_cors};
pub use error::{R2Code, R2Error};
pub use lifecycle::{
    LifecycleCondition, LifecycleConditions, LifecycleRule, LifecycleTransition,
    StorageClassTransition, check_lifecycle, default_lifecycle,
};
pub use types::{
    HttpMetadata, R2Body, R2Conditional, R2CreateMultipartRequest, R2Etag, R2Get, R2GetRequest,
    R2List, R2ListRequest, R2Object, R2Put, R2PutRequest, R2Range, R2RangeRequest, R2UploadedPart,
    StorageClass,
};

use crate::blobs::{BlobIo, Published};
use crate::body::Content;
use crate::layout::{Layout, Resource};
use crate::pool::{Files, FilesOptions, Pool};
use crate::seal::{Salt, Seal};
use crate::stamp::Stamps;
use crate::{DigestKind, Error, Stage};
pub(crate) use file::SCHEMA;
use file::{Bucket, Context, Key, Read, Reply, Value, Write};
use parts::Pins;

/// Key and blob of every object, and of every part, that lies in a blob.
pub(crate) const NAMED_BLOBS: [&str; 2] = [
    "SELECT coalesce(name, key), blob FROM objects WHERE blob IS NOT NULL",
    "SELECT coalesce(uploads.name, uploads.key), parts.blob
     FROM parts JOIN uploads ON uploads.id = parts.upload WHERE parts.blob IS NOT NULL",
];
/// Whether a row names a blob.
pub(crate) const IS_NAMED_BLOB: &str = "SELECT 1 FROM objects WHERE blob = ?1 \
     UNION ALL SELECT 1 FROM parts WHERE blob = ?1";

/// Values up to this lie in the bucket's SQLite file.
const INLINE_BYTES: u64 = 32 * 1024;
/// Keys of one delete call (docs: r2 workers api, `delete`).
const DELETE_KEYS: usize = 1000;
/// A part (docs: r2 limits).
const PART_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// The objects of all buckets. Cheap to clone.
///
/// A bucket's file is made by the first use of its name; who may use which name is the
/// catalog's business.
#[derive(Clone)]
pub struct R2 {
    files: Files<Bucket>,
    context: Arc<Context>,
}

impl R2 {
    pub(crate) fn new(
        layout: Arc<Layout>,
        clock: Clock,
        stamps: Arc<Stamps>,
        io: BlobIo,
        pool: Pool,
        max_open: usize,
    ) -> Self {
        let part_min_bytes = limits::R2_PART_MIN_BYTES;
        Self::with_part_min(layout, clock, stamps, io, pool, max_open, part_min_bytes)
    }

    fn with_part_min(
        layout: Arc<Layout>,
        clock: Clock,
        stamps: Arc<Stamps>,
        io: BlobIo,
        pool: Pool,
        max_open: usize,
        part_min_bytes: u64,
    ) -> Self {
        let context = Arc::new(Context {
            layout,
            clock,
            stamps,
            io,
            pins: Pins::default(),
            part_min_bytes,
            collected: Mutex::default(),
        });
        Self {
            files: Files::new(
                pool,
                context.clone(),
                FilesOptions {
                    max_open,
                    ..FilesOptions::default()
                },
            ),
            context,
        }
    }

    /// An object without its value; `None` if there is none of this key.
    pub async fn head(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        key: &str,
    ) -> Result<Metered<Option<R2Object>>, R2Error> {
        rules::check_key(key)?;
        let key = key.to_owned();
        let value = self
            .read(account, bucket, |reply| Read::Head { key, reply })
            .await?;
        Ok(metered(value, UsageClass::R2ClassB))
    }

    /// An object with its value or a range of it. `InvalidRange` if the range lies
    /// outside.
    pub async fn get(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        request: R2GetRequest,
    ) -> Result<Metered<R2Get>, R2Error> {
        rules::check_key(&request.key)?;
        let value = self
            .read(account, bucket, |reply| Read::Get { request, reply })
            .await?;
        let bytes_out = match &value {
            R2Get::Found { range, .. } => range.length,
            R2Get::NoSuchKey | R2Get::PreconditionFailed { .. } => 0,
        };
        Ok(Metered {
            value,
            usage: Usage::one(UsageClass::R2ClassB).with_bytes_out(bytes_out),
        })
    }

    /// Begins a put. Key and metadata are checked here, the value's length and digests and
    /// the conditions when it ends.
    pub fn begin_put(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        request: R2PutRequest,
    ) -> Result<R2Upload<R2PutRequest>, R2Error> {
        rules::check_key(&request.key)?;
        rules::check_metadata(&request.custom_metadata)?;
        let wanted = &request.checksums;
        let (salt, seal) = seal(request.customer_key.as_ref(), &request.key)?;
        let mut stage = self
            .stage(account, INLINE_BYTES)
            .with_limit(limits::R2_PUT_BYTES)
            .with_seal(seal)
            .with_digest(DigestKind::Md5);
        for (kind, is_wanted) in [
            (DigestKind::Sha1, wanted.sha1.is_some()),
            (DigestKind::Sha256, wanted.sha256.is_some()),
            (DigestKind::Sha384, wanted.sha384.is_some()),
            (DigestKind::Sha512, wanted.sha512.is_some()),
        ] {
            if is_wanted {
                stage = stage.with_digest(kind);
            }
        }
        Ok(self.upload(account, bucket, stage, request, salt))
    }

    /// A put of a value that is in memory already.
    pub async fn put(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        request: R2PutRequest,
        value: Bytes,
    ) -> Result<Metered<R2Put>, R2Error> {
        let mut upload = self.begin_put(account, bucket, request)?;
        upload.write(value).await?;
        upload.finish().await
    }

    /// Deletes objects, at most 1000; one that is not there is fine.
    pub async fn delete(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        keys: Vec<String>,
    ) -> Result<Metered<()>, R2Error> {
        if keys.len() > DELETE_KEYS {
            return Err(R2Error::new(
                R2Code::InvalidArgument,
                format!("At most {DELETE_KEYS} keys can be deleted at once."),
            ));
        }
        keys.iter().try_for_each(|key| rules::check_key(key))?;
        if !keys.is_empty() {
            let delete = async |keys| {
                let write = |reply| Write::Delete { keys, reply };
                self.write(account, bucket, write).await
            };
            let Context { layout, io, .. } = &*self.context;
            let mut deleted = delete(keys.clone()).await;
            if deleted.is_err() && layout.room().give_up(io, layout).await {
                deleted = delete(keys).await;
            }
            deleted?;
            layout.room().end_shortage(io, layout).await?;
        }
        Ok(metered((), UsageClass::R2Free))
    }

    /// A page of objects in the order of their keys' bytes.
    ///
    /// With metadata included a page may be shorter than its limit: only a missing cursor
    /// says that there is no more.
    pub async fn list(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        request: R2ListRequest,
    ) -> Result<Metered<R2List>, R2Error> {
        let plan = list::Plan::new(&request, |text| rules::identity(text).into_owned())?;
        let value = self
            .read(account, bucket, |reply| Read::List {
                plan,
                http_metadata: request.include_http_metadata,
                custom_metadata: request.include_custom_metadata,
                reply,
            })
            .await?;
        Ok(metered(value, UsageClass::R2ClassA))
    }

    /// Begins a multipart upload and gives its id.
    pub async fn create_multipart_upload(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        request: R2CreateMultipartRequest,
    ) -> Result<Metered<String>, R2Error> {
        rules::check_key(&request.key)?;
        rules::check_metadata(&request.custom_metadata)?;
        let id = new_upload_id()?;
        self.write(account, bucket, |reply| Write::CreateUpload {
            id: id.clone(),
            request: Box::new(request),
            reply,
        })
        .await?;
        Ok(metered(id, UsageClass::R2ClassA))
    }

    /// Begins the upload of a part. Whether the multipart upload exists is checked when it
    /// ends. A part that was uploaded before is replaced.
    pub fn begin_part(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        part: R2Part,
    ) -> Result<R2Upload<R2Part>, R2Error> {
        rules::check_key(&part.key)?;
        if !(1..=limits::R2_PARTS).contains(&part.part_number) {
            return Err(R2Error::new(
                R2Code::InvalidArgument,
                format!(
                    "Part number must be an integer between 1 and {}, inclusive.",
                    limits::R2_PARTS
                ),
            ));
        }
        let (salt, seal) = seal(part.customer_key.as_ref(), &part.key)?;
        // Always in a blob: an object's parts are read one after the other.
        let stage = self
            .stage(account, 0)
            .with_limit(PART_BYTES)
            .with_seal(seal)
            .with_digest(DigestKind::Md5);
        Ok(self.upload(account, bucket, stage, part, salt))
    }

    /// Makes an object of uploaded parts, in the order of their numbers.
    pub async fn complete_multipart_upload(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        key: &str,
        upload_id: &str,
        parts: Vec<R2UploadedPart>,
    ) -> Result<Metered<R2Object>, R2Error> {
        rules::check_key(key)?;
        let (key, upload) = (key.to_owned(), upload_id.to_owned());
        let value = self
            .write(account, bucket, |reply| Write::Complete {
                key,
                upload,
                parts,
                reply,
            })
            .await?;
        Ok(metered(value, UsageClass::R2ClassA))
    }

    /// Drops a multipart upload and its parts. One that is finished already stays as it
    /// is.
    pub async fn abort_multipart_upload(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        key: &str,
        upload_id: &str,
    ) -> Result<Metered<()>, R2Error> {
        rules::check_key(key)?;
        let (key, upload) = (key.to_owned(), upload_id.to_owned());
        self.write(account, bucket, |reply| Write::Abort { key, upload, reply })
            .await?;
        Ok(metered((), UsageClass::R2Free))
    }

    /// Closes a bucket's file and removes it with all blobs. Blocking.
    pub(crate) fn remove_files(
        &self,
        account: &AccountId,
        bucket: &BucketName,
    ) -> Result<(), Error> {
        let key = (account.clone(), bucket.clone());
        self.files.remove(&key, || {
            self.context
                .layout
                .remove_database(Resource::R2, account, bucket.as_str())
        })?
    }

    /// Executes what is queued and closes all files. Blocking.
    pub(crate) fn close(&self) {
        self.files.close();
    }

    fn stage(&self, account: &AccountId, inline_bytes: u64) -> Stage {
        let Context { layout, io, .. } = &*self.context;
        Stage::new(layout.clone(), io.clone(), account.clone(), inline_bytes)
    }

    fn upload<T>(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        stage: Stage,
        target: T,
        salt: Option<Salt>,
    ) -> R2Upload<T> {
        R2Upload {
            r2: self.clone(),
            bucket: (account.clone(), bucket.clone()),
            stage,
            target,
            salt,
        }
    }

    async fn read<T>(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        request: impl FnOnce(Reply<T>) -> Read,
    ) -> Result<T, R2Error> {
        let (reply, answer) = oneshot::channel();
        let key = (account.clone(), bucket.clone());
        self.files.read(&key, request(reply))?;
        answer.await.map_err(|_| lost())?
    }

    async fn write<T>(
        &self,
        account: &AccountId,
        bucket: &BucketName,
        request: impl FnOnce(Reply<T>) -> Write,
    ) -> Result<T, R2Error> {
        self.write_to(&(account.clone(), bucket.clone()), request)
            .await
    }

    async fn write_to<T>(
        &self,
        key: &Key,
        request: impl FnOnce(Reply<T>) -> Write,
    ) -> Result<T, R2Error> {
        let (reply, answer) = oneshot::channel();
        self.files.write(key, request(reply))?;
        answer.await.map_err(|_| lost())?
    }

    /// Gives a finished upload its place.
    async fn place(&self, key: &Key, content: Content) -> Result<Value, R2Error> {
        match content {
            Content::Inline(bytes) => Ok(Value::Inline(bytes)),
            Content::OverLimit => Err(R2Code::EntityTooLarge.into()),
            Content::Blob(blob) => {
                let folder = self.context.folder(key);
                let published = self.context.io.run(move || folder.publish(blob)).await?;
                Ok(Value::Blob(published))
            }
        }
    }
}

/// Which part of which upload.
#[derive(Debug, Clone)]
pub struct R2Part {
    /// The key that the upload was created for.
    pub key: String,
    /// What [`R2::create_multipart_upload`] returned.
    pub upload_id: String,
    /// 1 to 10000.
    pub part_number: u32,
    /// The customer's key that the upload was begun with, if it was begun with one.
    pub customer_key: Option<CustomerKey>,
}

/// A value that is coming in. Dropping it leaves nothing behind.
pub struct R2Upload<T> {
    r2: R2,
    bucket: Key,
    stage: Stage,
    target: T,
    /// Of a value under a customer's key.
    salt: Option<Salt>,
}

impl<T> R2Upload<T> {
    /// Takes the next bytes; waits while the disk is behind.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), R2Error> {
        self.stage.write(chunk).await?;
        if self.stage.is_over_limit() {
            return Err(R2Code::EntityTooLarge.into());
        }
        Ok(())
    }

    /// How much came in so far.
    pub fn len_bytes(&self) -> u64 {
        self.stage.len_bytes()
    }
}

impl R2Upload<R2PutRequest> {
    /// Stores the object, if digests and conditions allow it.
    pub async fn finish(self) -> Result<Metered<R2Put>, R2Error> {
        let Context { layout, io, .. } = &*self.r2.context;
        layout.room().check(io, layout).await?;
        let staged = self.stage.finish().await?;
        let (size_bytes, digests) = (staged.len_bytes, staged.digests);
        if !matches!(staged.content, Content::OverLimit) {
            rules::check_digests(&self.target.checksums, &digests)?;
        }
        let value = self.r2.place(&self.bucket, staged.content).await?;
        let request = Box::new(self.target);
        let stored = self
            .r2
            .write_to(&self.bucket, |reply| Write::Put {
                request,
                value,
                salt: self.salt,
                size_bytes,
                digests: Box::new(digests),
                reply,
            })
            .await?;
        Ok(Metered {
            value: stored,
            usage: Usage::one(UsageClass::R2ClassA).with_bytes_in(size_bytes),
        })
    }
}

impl R2Upload<R2Part> {
    /// Stores the part. `NoSuchUpload` if its upload is finished or unknown.
    pub async fn finish(self) -> Result<Metered<R2UploadedPart>, R2Error> {
        let Context { layout, io, .. } = &*self.r2.context;
        layout.room().check(io, layout).await?;
        let staged = self.stage.finish().await?;
        let size_bytes = staged.len_bytes;
        let md5 = staged.digests.md5.unwrap_or_default();
        let blob: Option<Published> = match self.r2.place(&self.bucket, staged.content).await? {
            Value::Blob(blob) => Some(blob),
            // Only a part of no bytes.
            Value::Inline(_) => None,
        };
        let R2Part {
            key,
            upload_id,
            part_number,
            customer_key,
        } = self.target;
        self.r2
            .write_to(&self.bucket, |reply| Write::PutPart {
                key,
                upload: upload_id,
                number: part_number,
                size_bytes,
                md5,
                key_md5: customer_key.as_ref().map(CustomerKey::md5),
                salt: self.salt,
                blob,
                reply,
            })
            .await?;
        Ok(Metered {
            value: R2UploadedPart {
                part_number,
                etag: error::hex(&md5),
            },
            usage: Usage::one(UsageClass::R2ClassA).with_bytes_in(size_bytes),
        })
    }
}

/// What encrypts a new value of this key.
fn seal(
    customer_key: Option<&CustomerKey>,
    key: &str,
) -> Result<(Option<Salt>, Option<Seal>), R2Error> {
    let Some(customer_key) = customer_key else {
        return Ok((None, None));
    };
    let salt = Salt::random()?;
    let seal = Seal::new(customer_key, salt, &rules::identity(key));
    Ok((Some(salt), Some(seal)))
}

fn metered<T>(value: T, class: UsageClass) -> Metered<T> {
    Metered {
        value,
        usage: Usage::one(class),
    }
}

fn new_upload_id() -> Result<String, R2Error> {
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).map_err(|error| {
        R2Error::new(R2Code::InternalError, format!("no random numbers: {error}"))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The thread that was to answer has panicked.
fn lost() -> R2Error {
    R2Error::new(
        R2Code::InternalError,
        "a defect: the request was dropped without an answer; Engawa's log says more",
    )
}
