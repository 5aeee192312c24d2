//! Files on their way into and out of databases, and the work on them.
//!
//! wrangler imports and exports by a URL that it fetches without credentials, so a file's
//! name is a secret of 128 bits that lives for an hour (control-plane-api.md 6.3, 6.4). The
//! work itself may take minutes; it goes on behind a *job*, which the client asks for
//! every second. Files lie on the disk, without names ([`Scratch`]).

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engawa_model::{AccountId, DatabaseId};
use engawa_storage::Scratch;
use engawa_storage::d1::D1Job;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long a file or the end of a job is kept (docs: d1 import and export data).
const KEPT: Duration = Duration::from_hours(1);
/// Files and jobs of an account. Past this the oldest that is not under way goes.
const ENTRIES: usize = 16;
/// The bytes of an account's files. Past this the oldest goes.
const BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// How long a question about a job is held (wrangler asks again without a pause).
const HELD: Duration = Duration::from_secs(1);

/// The files and jobs of all databases.
pub(crate) struct Transfers(Mutex<HashMap<String, Transfer>>);

struct Transfer {
    account: AccountId,
    database: DatabaseId,
    since: Instant,
    content: Content,
}

enum Content {
    /// Announced, with the MD5 that it will have in lower-case hex.
    Expected {
        md5: String,
        is_uploading: bool,
    },
    /// SQL text to be imported.
    Uploaded(Scratch),
    /// SQL text to be fetched.
    Exported(Scratch),
    Job(Job),
}

/// Work that goes on without the call that began it. It ends when nobody keeps it.
struct Job {
    outcome: watch::Receiver<Option<Value>>,
    progress: Arc<D1Job>,
    task: AbortHandle,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of a job.
pub(crate) enum JobState {
    /// How many bytes are done.
    UnderWay(u64),
    /// What came of it.
    Ended(Value),
}

/// Why something is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// The account has as much under way as it may.
    #[error("Too many imports and exports are under way; try again when one has ended.")]
    TooMany,
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl Transfers {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Expects a file with this MD5, and gives its name.
    pub(crate) fn expect(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        md5: String,
    ) -> Result<String, TransferError> {
        let name = format!("{}.sql", random_name()?);
        let content = Content::Expected {
            md5,
            is_uploading: false,
        };
        self.add(account, database, &name, content)?;
        Ok(name)
    }

    /// The place for an upload that was announced and is not coming in yet, with the MD5
    /// that it must have.
    pub(crate) fn begin_upload<'a>(
        &'a self,
        account: &AccountId,
        database: &DatabaseId,
        name: &'a str,
    ) -> Option<(String, UploadPlace<'a>)> {
        let mut files = self.lock();
        match &mut of(&mut files, account, database, name)?.content {
            Content::Expected { md5, is_uploading } if !*is_uploading => {
                *is_uploading = true;
                let place = UploadPlace {
                    transfers: self,
                    name,
                };
                Some((md5.clone(), place))
            }
            _ => None,
        }
    }

    /// Takes a file that was uploaded.
    pub(crate) fn take_uploaded(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
    ) -> Option<Scratch> {
        let mut files = self.lock();
        match &of(&mut files, account, database, name)?.content {
            Content::Uploaded(file) => {
                let file = file.clone();
                files.remove(name);
                Some(file)
            }
            _ => None,
        }
    }

    /// Keeps the text of an export, instead of an earlier one of the same database.
    pub(crate) fn keep_exported(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
        text: Scratch,
    ) -> Result<(), TransferError> {
        self.lock().retain(|_, file| {
            file.account != *account
                || file.database != *database
                || !matches!(file.content, Content::Exported(_))
        });
        self.add(account, database, name, Content::Exported(text))
    }

    /// The text of an export.
    pub(crate) fn exported(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
    ) -> Option<Scratch> {
        match &of(&mut self.lock(), account, database, name)?.content {
            Content::Exported(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Begins work, and gives the name to ask for it by. `work` is given that name.
    pub(crate) fn begin<F>(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        progress: Arc<D1Job>,
        work: impl FnOnce(String) -> F,
    ) -> Result<String, TransferError>
    where
        F: Future<Output = Value> + Send + 'static,
    {
        let name = random_name()?;
        let work = work(name.clone());
        let (ended, outcome) = watch::channel(None);
        let task = tokio::spawn(async move {
            ended.send_replace(Some(work.await));
        });
        let job = Job {
            outcome,
            progress,
            task: task.abort_handle(),
        };
        self.add(account, database, &name, Content::Job(job))?;
        Ok(name)
    }

    /// What has become of a job; waits for up to a second. `None`: there is none.
    pub(crate) async fn ask(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
    ) -> Option<JobState> {
        let (mut outcome, progress) = {
            let mut files = self.lock();
            match &of(&mut files, account, database, name)?.content {
                Content::Job(job) => (job.outcome.clone(), Arc::clone(&job.progress)),
                _ => return None,
            }
        };
        match tokio::time::timeout(HELD, outcome.wait_for(Option::is_some)).await {
            Err(_) => Some(JobState::UnderWay(progress.done_bytes())),
            Ok(Ok(ended)) => ended.clone().map(JobState::Ended),
            // It was dropped meanwhile.
            Ok(Err(_)) => None,
        }
    }

    fn add(
        &self,
        account: &AccountId,
        database: &DatabaseId,
        name: &str,
        content: Content,
    ) -> Result<(), TransferError> {
        let mut files = self.lock();
        let transfer = Transfer {
            account: account.clone(),
            database: database.clone(),
            since: Instant::now(),
            content,
        };
        files.insert(name.to_owned(), transfer);
        if make_room(&mut files, account, name) {
            return Ok(());
        }
        files.remove(name);
        Err(TransferError::TooMany)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Transfer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upload that is coming in. If it is not filled, another may come.
pub(crate) struct UploadPlace<'a> {
    transfers: &'a Transfers,
    name: &'a str,
}

impl UploadPlace<'_> {
    /// Puts the file in its place. `false`: it was given up meanwhile.
    pub(crate) fn fill(self, file: Scratch) -> bool {
        let mut files = self.transfers.lock();
        let Some(transfer) = files.get_mut(self.name) else {
            return false;
        };
        transfer.content = Content::Uploaded(file);
        let account = transfer.account.clone();
        make_room(&mut files, &account, self.name)
    }
}

impl Drop for UploadPlace<'_> {
    fn drop(&mut self) {
        // `fill` holds the lock no longer: its guard is dropped before `self`.
        if let Some(transfer) = self.transfers.lock().get_mut(self.name)
            && let Content::Expected { is_uploading, .. } = &mut transfer.content
        {
            *is_uploading = false;
        }
    }
}

impl Transfer {
    fn len_bytes(&self) -> u64 {
        match &self.content {
            Content::Uploaded(file) | Content::Exported(file) => file.len_bytes(),
            Content::Expected { .. } | Content::Job(_) => 0,
        }
    }

    fn is_under_way(&self) -> bool {
        match &self.content {
            Content::Job(job) => job.outcome.borrow().is_none(),
            Content::Expected { is_uploading, .. } => *is_uploading,
            Content::Uploaded(_) | Content::Exported(_) => false,
        }
    }
}

/// A file or job of this very database.
fn of<'a>(
    files: &'a mut HashMap<String, Transfer>,
    account: &AccountId,
    database: &DatabaseId,
    name: &str,
) -> Option<&'a mut Transfer> {
    files.get_mut(name).filter(|file| {
        file.account == *account && file.database == *database && file.since.elapsed() < KEPT
    })
}

/// Drops what is too old, or too much of an account, but not `newest` and nothing that is
/// under way. `false`: there is still too much.
fn make_room(files: &mut HashMap<String, Transfer>, account: &AccountId, newest: &str) -> bool {
    files.retain(|_, file| file.since.elapsed() < KEPT || file.is_under_way());
    loop {
        let own = || files.iter().filter(|(_, file)| file.account == *account);
        let bytes: u64 = own().map(|(_, file)| file.len_bytes()).sum();
        if own().count() <= ENTRIES && bytes <= BYTES {
            return true;
        }
        let oldest = own()
            .filter(|(name, file)| *name != newest && !file.is_under_way())
            .min_by_key(|(_, file)| file.since)
            .map(|(name, _)| name.clone());
        match oldest {
            Some(oldest) => files.remove(&oldest),
            // A file alone may be as long as it is.
            None => return own().count() <= ENTRIES,
        };
    }
}

fn random_name() -> Result<String, TransferError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(TransferError::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(id)))
}
