//! The rows of deployments.

use engawa_model::{AccountId, DeploymentId, Environment, ProjectName};
use rusqlite::{OptionalExtension as _, Row, params};

use super::rows::{ms, note_account, rows};
use super::{Catalog, Error};
use crate::DeploymentSummary;

const COLUMNS: &str = "id, project, environment, created_at_ms";

/// A deployment as it is stored.
#[derive(Debug)]
pub(crate) struct DeploymentRow {
    pub(crate) summary: DeploymentSummary,
    /// JSON.
    pub(crate) manifest: String,
}

impl Catalog {
    pub(crate) async fn insert_deployment(
        &self,
        account: &AccountId,
        DeploymentRow { summary, manifest }: DeploymentRow,
    ) -> Result<(), Error> {
        let account = account.clone();
        self.write(move |db, now_ms| {
            note_account(db, &account, now_ms)?;
            db.execute(
                "INSERT INTO deployments (account, id, project, environment, created_at_ms, manifest)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    account.as_str(),
                    summary.id.as_str(),
                    summary.project.as_str(),
                    summary.environment.as_str(),
                    summary.created_at_ms.cast_signed(),
                    manifest,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Removes all but the last `count` of a project; returns the manifests of those.
    pub(crate) async fn keep_deployments(
        &self,
        account: &AccountId,
        project: &ProjectName,
        count: usize,
    ) -> Result<Vec<String>, Error> {
        let (account, project) = (account.clone(), project.clone());
        self.write(move |db, _| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            db.execute(
                "DELETE FROM deployments WHERE account = ?1 AND project = ?2 AND number NOT IN
                   (SELECT number FROM deployments WHERE account = ?1 AND project = ?2
                    ORDER BY number DESC LIMIT ?3)",
                params![account.as_str(), project.as_str(), count],
            )?;
            let sql = "SELECT manifest FROM deployments WHERE account = ?1 AND project = ?2";
            let kept = rows(db, sql, [account.as_str(), project.as_str()], |row| {
                row.get(0)
            });
            Ok(kept?)
        })
        .await
    }

    pub(crate) async fn list_deployments(
        &self,
        account: &AccountId,
    ) -> Result<Vec<DeploymentSummary>, Error> {
        let account = account.clone();
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM deployments WHERE account = ?1 ORDER BY number DESC"
            );
            rows(db, &sql, [account.as_str()], summary)
        })
        .await
    }

    pub(crate) async fn get_deployment(
        &self,
        account: &AccountId,
        id: &str,
    ) -> Result<Option<DeploymentRow>, Error> {
        let (account, id) = (account.clone(), id.to_owned());
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS}, manifest FROM deployments WHERE account = ?1 AND id = ?2"
            );
            db.query_row(&sql, [account.as_str(), &id], |row| {
                Ok(DeploymentRow {
                    summary: summary(row)?,
                    manifest: row.get(4)?,
                })
            })
            .optional()
        })
        .await
    }
}

fn summary(row: &Row<'_>) -> rusqlite::Result<DeploymentSummary> {
    let environment: String = row.get(2)?;
    Ok(DeploymentSummary {
        id: DeploymentId::from(row.get::<_, String>(0)?),
        project: ProjectName::from(row.get::<_, String>(1)?),
        environment: if environment == Environment::Preview.as_str() {
            Environment::Preview
        } else {
            Environment::Production
        },
        created_at_ms: ms(row, 3)?,
    })
}
