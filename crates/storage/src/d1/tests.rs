//! D1's behaviour, rule by rule. Each names where the rule comes from.

mod commit;
mod export;
mod journal;
mod rows;
mod script;
mod sql;
mod values;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::scratch::ScratchWriter;

/// D1 over a folder of its own.
struct World {
    d1: D1,
    folder: Arc<TempDir>,
    stamps: Arc<AtomicU64>,
    account: AccountId,
    database: DatabaseId,
}

impl World {
    fn new() -> Self {
        Self::with(D1Limits::default(), FilesOptions::default(), None)
    }

    fn with(limits: D1Limits, files: FilesOptions, hook: Option<file::SyncHook>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let stamps = Arc::new(AtomicU64::new(1 << 40));
        Self::over(folder, stamps, limits, files, hook)
    }

    fn over(
        folder: Arc<TempDir>,
        stamps: Arc<AtomicU64>,
        limits: D1Limits,
        files: FilesOptions,
        hook: Option<file::SyncHook>,
    ) -> Self {
        let pool = Pool::start(PoolOptions::d1()).unwrap();
        let layout = Arc::new(Layout::new(folder.path().to_owned()));
        let counter = Arc::clone(&stamps);
        let next: NextStamp = Arc::new(move || Ok(counter.fetch_add(1, Ordering::SeqCst)));
        let io = BlobIo::default();
        let d1 = D1::new(pool, layout, io, next, limits, files, hook).unwrap();
        Self {
            d1,
            folder,
            stamps,
            account: AccountId::local(),
            database: DatabaseId::new("db"),
        }
    }

    /// Closes everything and opens the same folder again.
    fn reopen(self) -> Self {
        self.reopen_with(D1Limits::default())
    }

    fn reopen_with(self, limits: D1Limits) -> Self {
        self.d1.close();
        Self::over(
            Arc::clone(&self.folder),
            Arc::clone(&self.stamps),
            limits,
            FilesOptions::default(),
            None,
        )
    }

    fn path(&self) -> std::path::PathBuf {
        Layout::new(self.folder.path().to_owned()).database_file(
            Resource::D1,
            &self.account,
            self.database.as_str(),
        )
    }

    async fn query(&self, statements: Vec<D1Statement>) -> Result<D1Answer, Error> {
        self.query_as(statements, D1Format::RowsAndColumns).await
    }

    async fn query_as(
        &self,
        statements: Vec<D1Statement>,
        format: D1Format,
    ) -> Result<D1Answer, Error> {
        let options = D1QueryOptions {
            format,
            session: None,
        };
        let answer = self
            .d1
            .query(&self.account, &self.database, statements, options)
            .await?;
        Ok(answer.value)
    }

    /// One statement; its result.
    async fn run(&self, sql: &str, params: Vec<D1Value>) -> Result<D1Result, Error> {
        let mut answer = self.query(vec![D1Statement::with(sql, params)]).await?;
        Ok(answer.results.remove(0))
    }

    async fn ok(&self, sql: &str) -> D1Result {
        match self.run(sql, Vec::new()).await {
            Ok(result) => result,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// A file with this text.
    fn scratch(&self, text: &[u8]) -> Scratch {
        let layout = Layout::new(self.folder.path().to_owned());
        let io = BlobIo::default();
        let mut file = ScratchWriter::create(&layout, io, &self.account).unwrap();
        file.write(text).unwrap();
        file.finish()
    }

    async fn import(&self, sql: &str) -> Result<D1Import, Error> {
        let (script, job) = (self.scratch(sql.as_bytes()), Arc::default());
        let done = self.d1.import(&self.account, &self.database, script, &job);
        Ok(done.await?.value)
    }

    async fn export(&self, options: D1ExportOptions) -> Result<String, Error> {
        let job = Arc::default();
        let done = self.d1.export(&self.account, &self.database, options, &job);
        let text = done.await?.value;
        let bytes = text.read_at(0, usize::MAX).unwrap();
        assert_eq!(bytes.len() as u64, job.done_bytes());
        Ok(String::from_utf8(bytes).unwrap())
    }

    /// The rows of a statement.
    async fn rows(&self, sql: &str) -> Value {
        rows(&self.ok(sql).await)
    }

    /// The text after `D1_ERROR: `.
    async fn error(&self, sql: &str) -> String {
        let error = self.run(sql, Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Sql, "{error}");
        error.message().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.d1.close();
    }
}

fn json_of(result: &D1Result) -> Value {
    serde_json::from_slice(&result.results_json).unwrap()
}

fn rows(result: &D1Result) -> Value {
    json_of(result)["rows"].clone()
}
