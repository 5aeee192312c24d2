//! `engawa workerd-config`: what workerd is told of a deployment, for people who want to
//! see it. Secrets are not kept with deployments, so that there are none to show.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::bail;
use engawa_api::client::segment;
use engawa_model::AccountId;
use engawa_runtime::{Egress, redacted_config};
use engawa_storage::{DeploymentManifest, DeploymentSummary};
use serde::Deserialize;

use crate::cli::PlaceArgs;
use crate::local::Local;
use crate::terminal;

#[derive(Deserialize)]
struct Shown {
    deployment: DeploymentSummary,
    manifest: DeploymentManifest,
}

/// Prints the configuration of a deployment: that of the id that begins with these
/// letters, or else the newest.
///
/// # Errors
/// When there is no such deployment, or it has no code; the text names those that there
/// are.
pub(crate) async fn run(place: PlaceArgs, deployment: Option<String>) -> anyhow::Result<()> {
    let local = Local::open(&place).await?;
    let text = read(&local, deployment.as_deref()).await;
    local.close().await;
    terminal::output(&text?);
    Ok(())
}

async fn read(local: &Local, wanted: Option<&str>) -> anyhow::Result<String> {
    let answer = local.client.get("/engawa/deployments").await?;
    let all: Vec<DeploymentSummary> = serde_json::from_value(answer.result)?;
    if all.is_empty() {
        bail!("No deployment is kept here yet: `engawa dev` keeps the last five.");
    }
    let wanted = wanted.unwrap_or(all[0].id.as_str());
    let mut found = all.iter().filter(|one| one.id.as_str().starts_with(wanted));
    let (Some(one), None) = (found.next(), found.next()) else {
        let mut text = format!(
            "\"{wanted}\" is not the beginning of one deployment's id. There are, the newest first:"
        );
        for DeploymentSummary {
            id,
            project,
            environment,
            ..
        } in &all
        {
            let environment = environment.as_str();
            write!(text, "\n  {id}  {project} ({environment})").expect("a String takes all");
        }
        bail!(text);
    };
    let path = format!("/engawa/deployments/{}", segment(one.id.as_str()));
    let Shown {
        deployment,
        manifest,
    } = serde_json::from_value(local.client.get(&path).await?.result)?;
    let version = Arc::new(manifest.outline(AccountId::local(), deployment));
    let Some(code) = &version.worker else {
        bail!(
            "The deployment {} has no code: workerd does not run for it.",
            one.id
        );
    };
    Ok(redacted_config(&version, code, Egress::development()))
}
