//! The deployments that `engawa dev` keeps. Cloudflare has no such call: what a deployment
//! consists of is shown as it is stored, without the values of secrets.

use engawa_storage::Error;
use http::{Response, StatusCode};
use serde_json::json;

use crate::answer::{self, ApiBody};
use crate::error::ApiError;
use crate::request::Call;
use crate::route::DeploymentsCall;

/// Answers a call.
pub(crate) async fn answer(
    call: &Call<'_>,
    what: DeploymentsCall,
) -> Result<Response<ApiBody>, ApiError> {
    let deployments = call.storage().deployments();
    match what {
        DeploymentsCall::List => {
            let all = deployments.list(&call.account).await;
            let all = all.map_err(|error| failed(&error))?;
            Ok(answer::success(&json!(all)))
        }
        DeploymentsCall::Get(id) => {
            let found = deployments.get(&call.account, &id).await;
            let (summary, manifest) = found.map_err(|error| failed(&error))?.ok_or_else(|| {
                // Cloudflare's number for a deployment of a Pages project.
                let message = "The deployment ID you have specified does not exist.";
                ApiError::new(StatusCode::NOT_FOUND, 8_000_009, message)
            })?;
            Ok(answer::success(
                &json!({ "deployment": summary, "manifest": manifest }),
            ))
        }
    }
}

fn failed(error: &Error) -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        8_000_000,
        error.public_message(),
    )
}
