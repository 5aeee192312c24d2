//! Writes of a bucket: one transaction a group.

mod sweep;

use engawa_model::ErrorKind;
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{
    Bucket, Place, Reply, Shared, Value, Write, columns, custom_json, http_json, object,
    optional_blob, place, signed, spelling, stored_class, unsigned,
};
use crate::blobs::{BlobId, Published};
use crate::pool::{File as _, Group};
use crate::r2::conditional::{self, Checked, Subject};
use crate::r2::error::{R2Code, R2Error, hex};
use crate::r2::parts;
use crate::r2::rules::{self, StoredPart};
use crate::r2::types::{
    R2CreateMultipartRequest, R2Object, R2Put, R2PutRequest, R2UploadedPart, single_etag,
};
use crate::seal::{CustomerKey, Salt};
use crate::{Digests, Error, sqlite};

/// Executes, commits and answers. `false`: the file is not to be trusted any more.
pub(super) fn run_group(bucket: &mut Bucket, group: &mut Group<'_, Bucket>) -> bool {
    let shared = bucket.shared.clone();
    let Some(first) = group.next() else {
        return true;
    };
    let transaction = bucket
        .connection
        .transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = match transaction {
        Ok(transaction) => transaction,
        Err(error) => {
            Bucket::refuse_write(first, &shared.failed(error));
            return true;
        }
    };
    let mut executed = Vec::new();
    let mut next = Some(first);
    while let Some(request) = next {
        executed.push(Writer::execute(&transaction, &shared, request));
        if transaction.is_autocommit() {
            // SQLite gave up the whole transaction (a full disk): nobody's write is in it.
            drop(transaction);
            let message = format!("cannot write {}: nothing was stored", shared.path.display());
            let error = Error::new(ErrorKind::DiskFull, message);
            answer_all(executed, &Outcome::RolledBack(error));
            return true;
        }
        next = group.next();
    }
    let outcome = match commit(transaction) {
        Ok(()) => Outcome::Committed,
        Err(error) => match shared.failed(error) {
            error if error.kind() == ErrorKind::Unknown => Outcome::Unknown(error),
            error => Outcome::RolledBack(error),
        },
    };
    let is_sound = !matches!(outcome, Outcome::Unknown(_));
    let committed = matches!(outcome, Outcome::Committed);
    let dropped = answer_all(executed, &outcome);
    if committed {
        remove(&shared, dropped);
    }
    is_sound
}

/// Rolls back what could not be committed.
fn commit(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    let connection: &rusqlite::Connection = &transaction;
    let done = connection.execute_batch("COMMIT");
    // Dropping it rolls back if it is still open.
    drop(transaction);
    done
}

enum Outcome {
    Committed,
    RolledBack(Error),
    /// The sync failed: the transaction may or may not be there after a crash.
    Unknown(Error),
}

/// Tells what was done, or why the transaction failed.
type Answer = Box<dyn FnOnce(Option<&Error>)>;

/// A request that is in the transaction, or has failed.
struct Executed {
    answer: Answer,
    /// Named by a row of the transaction.
    named: Option<Published>,
    /// Named by no row any more.
    dropped: Vec<Dropped>,
}

enum Dropped {
    Blob(BlobId),
    Parts { upload: String, blobs: Vec<BlobId> },
}

fn answer_all(executed: Vec<Executed>, outcome: &Outcome) -> Vec<Dropped> {
    let mut all_dropped = Vec::new();
    for Executed {
        answer,
        named,
        dropped,
    } in executed
    {
        match outcome {
            Outcome::Committed => {
                if let Some(named) = named {
                    named.keep();
                }
                answer(None);
                all_dropped.extend(dropped);
            }
            Outcome::RolledBack(error) => answer(Some(error)),
            Outcome::Unknown(error) => {
                if let Some(named) = named {
                    named.keep();
                }
                answer(Some(error));
            }
        }
    }
    all_dropped
}

/// Removes the blobs that no row names any more.
fn remove(shared: &Shared, dropped: Vec<Dropped>) {
    for dropped in dropped {
        let blobs = match dropped {
            Dropped::Blob(blob) => vec![blob],
            Dropped::Parts { upload, blobs } => shared.context.pins.doom(&upload, blobs),
        };
        parts::remove_all(&shared.folder, &blobs);
    }
}

impl Shared {
    fn failed(&self, error: rusqlite::Error) -> Error {
        sqlite::map(&self.path, "write", error)
    }
}

/// One request in a savepoint.
struct Writer<'a> {
    transaction: &'a Transaction<'a>,
    shared: &'a Shared,
    named: Option<Published>,
    dropped: Vec<Dropped>,
}

impl<'a> Writer<'a> {
    fn execute(transaction: &'a Transaction<'a>, shared: &'a Shared, request: Write) -> Executed {
        let writer = Self {
            transaction,
            shared,
            named: None,
            dropped: Vec::new(),
        };
        match request {
            Write::Put {
                request,
                value,
                salt,
                size_bytes,
                digests,
                reply,
            } => writer.run(reply, |writer| {
                writer.put(&request, value, salt, size_bytes, &digests)
            }),
            Write::Delete { keys, reply } => writer.run(reply, |writer| writer.delete(&keys)),
            Write::CreateUpload { id, request, reply } => {
                writer.run(reply, |writer| writer.create_upload(&id, &request))
            }
            Write::PutPart {
                key,
                upload,
                number,
                size_bytes,
                md5,
                key_md5,
                salt,
                blob,
                reply,
            } => writer.run(reply, |writer| {
                let part = StoredPart {
                    number,
                    size_bytes,
                    md5,
                };
                writer.check_part_key(&key, &upload, key_md5)?;
                writer.put_part(&upload, &part, salt, blob)
            }),
            Write::SweepUploads { aborts, reply } => {
                writer.run(reply, |writer| writer.sweep_uploads(&aborts))
            }
            Write::SweepObjects { due, reply } => {
                writer.run(reply, |writer| writer.sweep_objects(&due))
            }
            Write::Complete {
                key,
                upload,
                parts,
                reply,
            } => writer.run(reply, |writer| writer.complete(&key, &upload, &parts)),
            Write::Abort { key, upload, reply } => {
                writer.run(reply, |writer| writer.abort(&key, &upload))
            }
        }
    }

    fn run<T: 'static>(
        mut self,
        reply: Reply<T>,
        work: impl FnOnce(&mut Self) -> Result<T, R2Error>,
    ) -> Executed {
        let done = self
            .savepoint("SAVEPOINT request")
            .and_then(|()| work(&mut self));
        let done = match done {
            Ok(value) => self.savepoint("RELEASE request").map(|()| value),
            Err(error) => {
                // Fails only where the whole transaction is gone, which the caller sees.
                let _ = self.savepoint("ROLLBACK TO request");
                let _ = self.savepoint("RELEASE request");
                Err(error)
            }
        };
        if done.is_err() {
            self.named = None;
            self.dropped.clear();
        }
        Executed {
            answer: Box::new(move |failed| {
                let done = match failed {
                    Some(error) => done.and_then(|_| Err(error.clone().into())),
                    None => done,
                };
                // Nobody listens any more: then there is nobody to tell.
                let _ = reply.send(done);
            }),
            named: self.named,
            dropped: self.dropped,
        }
    }

    fn savepoint(&self, sql: &str) -> Result<(), R2Error> {
        self.change(sql, []).map(drop)
    }

    fn change(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, R2Error> {
        self.transaction
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params))
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> R2Error {
        self.shared.failed(error).into()
    }

    fn put(
        &mut self,
        request: &R2PutRequest,
        value: Value,
        salt: Option<Salt>,
        size_bytes: u64,
        digests: &Digests,
    ) -> Result<R2Put, R2Error> {
        let identity = rules::identity(&request.key);
        let current = self.find(identity.as_bytes())?;
        if let Some(conditions) = &request.only_if {
            let subject = current.as_ref().map(|(object, _)| Subject {
                etag: &object.etag,
                uploaded_ms: object.uploaded_ms,
            });
            if conditional::check(conditions, subject) != Checked::Holds {
                return Ok(R2Put::PreconditionFailed);
            }
        }
        let md5 = digests
            .md5
            .ok_or_else(|| R2Error::new(R2Code::InternalError, "a defect: no MD5 was computed"))?;
        if let Some((_, place)) = current {
            self.drop_value(place)?;
        }
        let place = match value {
            Value::Inline(bytes) => {
                self.change(
                    "INSERT INTO inline_values (value) VALUES (?1)",
                    [&bytes[..]],
                )?;
                Place::Inline(self.transaction.last_insert_rowid())
            }
            Value::Blob(blob) => Place::Blob(self.name(blob)),
        };
        let object = R2Object {
            key: request.key.clone(),
            version: new_version()?,
            size_bytes,
            etag: single_etag(&md5),
            uploaded_ms: self.shared.context.clock.now_ms(),
            checksums: Digests {
                md5: Some(md5),
                ..request.checksums
            },
            http_metadata: request.http_metadata.clone(),
            custom_metadata: request.custom_metadata.clone(),
            storage_class: request.storage_class,
            ssec_key_md5: request.customer_key.as_ref().map(CustomerKey::md5),
        };
        self.store(&identity, &object, &place, salt)?;
        Ok(R2Put::Stored(object))
    }

    fn delete(&mut self, keys: &[String]) -> Result<(), R2Error> {
        for key in keys {
            let identity = rules::identity(key);
            if let Some((_, place)) = self.find(identity.as_bytes())? {
                self.drop_value(place)?;
                self.change("DELETE FROM objects WHERE key = ?1", [identity.as_bytes()])?;
            }
        }
        Ok(())
    }

    fn create_upload(
        &mut self,
        id: &str,
        request: &R2CreateMultipartRequest,
    ) -> Result<(), R2Error> {
        let now_ms = self.shared.context.clock.now_ms();
        let identity = rules::identity(&request.key);
        self.change(
            "INSERT INTO uploads (id, key, name, http_metadata, custom_metadata, storage_class, \
             state, created_ms, ssec_md5) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8)",
            params![
                id,
                identity.as_bytes(),
                spelling(&request.key, &identity),
                http_json(&request.http_metadata),
                custom_json(&request.custom_metadata),
                stored_class(request.storage_class),
                signed(now_ms),
                request.customer_key.as_ref().map(CustomerKey::md5),
            ],
        )?;
        Ok(())
    }

    /// Whether a part may be added: its upload is open, and begun with the same customer's
    /// key, or none.
    fn check_part_key(
        &self,
        key: &str,
        upload: &str,
        key_md5: Option<[u8; 16]>,
    ) -> Result<(), R2Error> {
        if self.upload_state(key, upload)? != Some(0) {
            return Err(R2Code::NoSuchUpload.into());
        }
        let begun_with: Option<[u8; 16]> = self
            .transaction
            .prepare_cached("SELECT ssec_md5 FROM uploads WHERE id = ?1")
            .and_then(|mut select| select.query_row([upload], |row| row.get(0)))
            .map_err(|error| self.failed(error))?;
        rules::check_part_key(begun_with, key_md5)
    }

    fn put_part(
        &mut self,
        upload: &str,
        part: &StoredPart,
        salt: Option<Salt>,
        blob: Option<Published>,
    ) -> Result<(), R2Error> {
        let old = self
            .transaction
            .prepare_cached("SELECT blob FROM parts WHERE upload = ?1 AND number = ?2")
            .and_then(|mut select| {
                select
                    .query_row(params![upload, part.number], |row| optional_blob(row, 0))
                    .optional()
            })
            .map_err(|error| self.failed(error))?;
        self.dropped.extend(old.flatten().map(Dropped::Blob));
        let blob = blob.map(|blob| self.name(blob));
        self.change(
            "INSERT OR REPLACE INTO parts (upload, number, size, md5, blob, ssec_salt) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                upload,
                part.number,
                signed(part.size_bytes),
                part.md5,
                blob.as_ref().map(BlobId::as_bytes),
                salt.map(|salt| salt.0),
            ],
        )?;
        Ok(())
    }

    fn complete(
        &mut self,
        key: &str,
        upload: &str,
        chosen: &[R2UploadedPart],
    ) -> Result<R2Object, R2Error> {
        match self.upload_state(key, upload)? {
            None => return Err(R2Code::InternalError.into()),
            Some(0) => {}
            Some(_) => return Err(R2Code::NoSuchUpload.into()),
        }
        let stored = self
            .transaction
            .prepare_cached("SELECT number, size, md5 FROM parts WHERE upload = ?1 ORDER BY number")
            .and_then(|mut select| {
                select
                    .query_map([upload], |row| {
                        Ok(StoredPart {
                            number: row.get(0)?,
                            size_bytes: row.get(1).map(unsigned)?,
                            md5: row.get(2)?,
                        })
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .map_err(|error| self.failed(error))?;
        let parts = rules::choose_parts(&stored, chosen, self.shared.context.part_min_bytes)?;
        let identity = rules::identity(key);
        if let Some((_, place)) = self.find(identity.as_bytes())? {
            self.drop_value(place)?;
        }
        for part in stored.iter().filter(|part| {
            parts
                .binary_search_by_key(&part.number, |chosen| chosen.number)
                .is_err()
        }) {
            self.drop_part(upload, part.number)?;
        }
        self.finish_upload(upload, 1)?;
        let mut object = self.upload_object(upload)?;
        object.version = new_version()?;
        object.size_bytes = parts.iter().map(|part| part.size_bytes).sum();
        object.etag = rules::multipart_etag(&parts);
        object.uploaded_ms = self.shared.context.clock.now_ms();
        self.store(&identity, &object, &Place::Parts(upload.to_owned()), None)?;
        Ok(object)
    }

    fn abort(&mut self, key: &str, upload: &str) -> Result<(), R2Error> {
        match self.upload_state(key, upload)? {
            None => Err(R2Code::InternalError.into()),
            Some(0) => {
                self.drop_parts(upload)?;
                self.finish_upload(upload, 2)
            }
            Some(_) => Ok(()),
        }
    }

    /// An object and where its value is.
    fn find(&self, identity: &[u8]) -> Result<Option<(R2Object, Place)>, R2Error> {
        self.transaction
            .prepare_cached(concat!(
                "SELECT ",
                columns!(),
                " FROM objects WHERE key = ?1"
            ))
            .and_then(|mut select| {
                select
                    .query_row([identity], |row| Ok((object(row)?, place(row)?)))
                    .optional()
            })
            .map_err(|error| self.failed(error))
    }

    fn store(
        &self,
        identity: &str,
        object: &R2Object,
        place: &Place,
        salt: Option<Salt>,
    ) -> Result<(), R2Error> {
        let stamp = self.shared.context.stamps.next()?;
        let (inline, blob, upload) = match place {
            Place::Inline(id) => (Some(*id), None, None),
            Place::Blob(blob) => (None, Some(blob.as_bytes()), None),
            Place::Parts(upload) => (None, None, Some(upload)),
        };
        let digests = &object.checksums;
        self.change(
            concat!(
                "INSERT OR REPLACE INTO objects (",
                columns!(),
                ", stamp) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
                 ?15, ?16, ?17, ?18, ?19, ?20)"
            ),
            params![
                identity.as_bytes(),
                spelling(&object.key, identity),
                object.version,
                signed(object.size_bytes),
                object.etag,
                signed(object.uploaded_ms),
                digests.md5,
                digests.sha1,
                digests.sha256,
                digests.sha384.as_ref().map(<[u8; 48]>::as_slice),
                digests.sha512.as_ref().map(<[u8; 64]>::as_slice),
                http_json(&object.http_metadata),
                custom_json(&object.custom_metadata),
                stored_class(object.storage_class),
                object.ssec_key_md5,
                inline,
                blob,
                upload,
                salt.map(|salt| salt.0),
                stamp.to_sql(),
            ],
        )?;
        Ok(())
    }

    fn name(&mut self, blob: Published) -> BlobId {
        let id = blob.id();
        self.named = Some(blob);
        id
    }

    fn drop_value(&mut self, place: Place) -> Result<(), R2Error> {
        match place {
            Place::Inline(id) => {
                self.change("DELETE FROM inline_values WHERE id = ?1", [id])?;
            }
            Place::Blob(blob) => self.dropped.push(Dropped::Blob(blob)),
            Place::Parts(upload) => self.drop_parts(&upload)?,
        }
        Ok(())
    }

    fn drop_parts(&mut self, upload: &str) -> Result<(), R2Error> {
        let blobs = self
            .transaction
            .prepare_cached("DELETE FROM parts WHERE upload = ?1 RETURNING blob")
            .and_then(|mut delete| {
                delete
                    .query_map([upload], |row| optional_blob(row, 0))?
                    .filter_map(Result::transpose)
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .map_err(|error| self.failed(error))?;
        self.dropped.push(Dropped::Parts {
            upload: upload.to_owned(),
            blobs,
        });
        Ok(())
    }

    fn drop_part(&mut self, upload: &str, number: u32) -> Result<(), R2Error> {
        let blob = self
            .transaction
            .prepare_cached("DELETE FROM parts WHERE upload = ?1 AND number = ?2 RETURNING blob")
            .and_then(|mut delete| {
                delete
                    .query_row(params![upload, number], |row| optional_blob(row, 0))
                    .optional()
            })
            .map_err(|error| self.failed(error))?;
        self.dropped.extend(blob.flatten().map(Dropped::Blob));
        Ok(())
    }

    fn finish_upload(&self, upload: &str, state: i64) -> Result<(), R2Error> {
        self.change(
            "UPDATE uploads SET state = ?2 WHERE id = ?1",
            params![upload, state],
        )?;
        Ok(())
    }

    /// 0 open, 1 completed, 2 aborted; `None`: not an upload of this key.
    fn upload_state(&self, key: &str, upload: &str) -> Result<Option<i64>, R2Error> {
        let identity = rules::identity(key);
        self.transaction
            .prepare_cached("SELECT state FROM uploads WHERE id = ?1 AND key = ?2")
            .and_then(|mut select| {
                select
                    .query_row(params![upload, identity.as_bytes()], |row| row.get(0))
                    .optional()
            })
            .map_err(|error| self.failed(error))
    }

    /// What was said when the upload was created, as an object.
    fn upload_object(&self, upload: &str) -> Result<R2Object, R2Error> {
        self.transaction
            .prepare_cached(
                "SELECT key, name, '', 0, '', 0, NULL, NULL, NULL, NULL, NULL, \
                 http_metadata, custom_metadata, storage_class, ssec_md5 \
                 FROM uploads WHERE id = ?1",
            )
            .and_then(|mut select| select.query_row([upload], object))
            .map_err(|error| self.failed(error))
    }
}

fn new_version() -> Result<String, R2Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        R2Error::new(R2Code::InternalError, format!("no random numbers: {error}"))
    })?;
    Ok(hex(&bytes))
}
