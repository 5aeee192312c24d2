//! CORS rules: which pages of other origins may read a bucket's doors (docs: r2 cors; the
//! shape is the REST API's, which wrangler writes). The doors that browsers use read them.

use serde::{Deserialize, Serialize};

use super::error::R2Error;
use super::lifecycle::malformed;

/// Rules of a bucket, as in S3.
const RULES: usize = 100;
/// docs: r2 cors, `MaxAgeSeconds`
const MAX_AGE_S: u32 = 86_400;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CorsRule {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Which requests it lets through.
    pub allowed: CorsAllowed,
    /// Headers of answers that a page may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

/// Which requests a rule lets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsAllowed {
    /// `scheme://host[:port]`, or `*`.
    pub origins: Vec<String>,
    /// `GET`, `PUT`, `POST`, `DELETE`, `HEAD`.
    pub methods: Vec<String>,
    /// Headers of requests that a page may send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
}

/// Whether these may be a bucket's rules.
pub fn check_cors(rules: &[CorsRule]) -> Result<(), R2Error> {
    if rules.len() > RULES {
        return Err(malformed(&format!("A bucket has at most {RULES} rules.")));
    }
    for rule in rules {
        let CorsAllowed {
            origins, methods, ..
        } = &rule.allowed;
        if origins.is_empty() || methods.is_empty() {
            return Err(malformed(
                "A rule allows at least one origin and one method.",
            ));
        }
        if let Some(origin) = origins.iter().find(|origin| !is_origin(origin)) {
            let why = format!("The origin \"{origin}\" is none: write scheme://host[:port], or *.");
            return Err(malformed(&why));
        }
        if let Some(method) = methods
            .iter()
            .find(|method| !METHODS.contains(&method.as_str()))
        {
            let known = METHODS.join(", ");
            let why = format!("The method \"{method}\" is not one of {known}.");
            return Err(malformed(&why));
        }
        if rule.max_age_seconds.is_some_and(|age| age > MAX_AGE_S) {
            let why = format!("maxAgeSeconds is at most {MAX_AGE_S}.");
            return Err(malformed(&why));
        }
    }
    Ok(())
}

/// docs: r2 cors, "AllowedOrigins": no path, not even a slash.
fn is_origin(text: &str) -> bool {
    text == "*"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
            !scheme.is_empty()
                && scheme.bytes().all(is_scheme)
                && !host.is_empty()
                && !host.contains(['/', '?', '#', '@'])
                && host.chars().all(|letter| !letter.is_whitespace())
        })
}
