//! Lifecycle rules: what becomes of objects and unfinished uploads as they age
//! (docs: r2 object lifecycles; shapes: the REST API's, which wrangler writes).
//!
//! A bucket that was never told otherwise has one rule: uploads that nobody finished are
//! aborted after seven days. Rules that are set replace it.

use serde::{Deserialize, Serialize};

use super::error::{R2Code, R2Error};
use super::rules;
use super::types::StorageClass;

/// Rules of a bucket (docs: r2 limits).
const RULES: usize = 1000;
/// An id, as in S3.
const ID_BYTES: usize = 255;
const DAY_S: u64 = 24 * 60 * 60;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleRule {
    /// Its name, unique in the bucket.
    pub id: String,
    /// Whether it is in force.
    pub enabled: bool,
    /// What it is about.
    #[serde(default)]
    pub conditions: LifecycleConditions,
    /// When objects are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_objects_transition: Option<LifecycleTransition>,
    /// When objects change their storage class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_class_transitions: Vec<StorageClassTransition>,
    /// When unfinished uploads are aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_multipart_uploads_transition: Option<LifecycleTransition>,
}

/// What a rule is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleConditions {
    /// Keys that begin with it; all, if it is absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// When something happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleTransition {
    /// The moment.
    pub condition: LifecycleCondition,
}

/// When an object changes its storage class, and to which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageClassTransition {
    /// The moment.
    pub condition: LifecycleCondition,
    /// `InfrequentAccess`: there is no way back by a rule.
    pub storage_class: StorageClass,
}

/// A moment in the life of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum LifecycleCondition {
    /// Some time after it was stored.
    #[serde(rename_all = "camelCase")]
    Age {
        /// Seconds.
        max_age: u64,
    },
    /// A day, for objects that were stored before it.
    Date {
        /// As RFC 3339 writes it, or a day alone.
        date: String,
    },
}

/// The rules of a bucket that has none of its own.
pub fn default_lifecycle() -> Vec<LifecycleRule> {
    vec![LifecycleRule {
        id: "Default Multipart Abort Rule".to_owned(),
        enabled: true,
        conditions: LifecycleConditions::default(),
        delete_objects_transition: None,
        storage_class_transitions: Vec::new(),
        abort_multipart_uploads_transition: Some(LifecycleTransition {
            condition: LifecycleCondition::Age { max_age: 7 * DAY_S },
        }),
    }]
}

/// Whether these may be a bucket's rules.
pub fn check_lifecycle(rules: &[LifecycleRule]) -> Result<(), R2Error> {
    if rules.len() > RULES {
        return Err(malformed(&format!("A bucket has at most {RULES} rules.")));
    }
    let mut ids = std::collections::HashSet::new();
    for rule in rules {
        let id = &rule.id;
        if id.is_empty() || id.len() > ID_BYTES {
            let why = format!("A rule's id has 1 to {ID_BYTES} bytes.");
            return Err(malformed(&why));
        }
        if !ids.insert(id) {
            return Err(malformed(&format!("The id \"{id}\" is there twice.")));
        }
        rules::check_key(rule.conditions.prefix.as_deref().unwrap_or_default())?;
        let abort = &rule.abort_multipart_uploads_transition;
        let actions = [&rule.delete_objects_transition, abort];
        if actions.iter().all(|action| action.is_none())
            && rule.storage_class_transitions.is_empty()
        {
            return Err(malformed(&format!("The rule \"{id}\" does nothing.")));
        }
        for condition in actions
            .into_iter()
            .flatten()
            .map(|action| &action.condition)
            .chain(
                rule.storage_class_transitions
                    .iter()
                    .map(|to| &to.condition),
            )
        {
            if let LifecycleCondition::Date { date } = condition
                && parse_date(date).is_none()
            {
                let why = format!("The date \"{date}\" of the rule \"{id}\" is none.");
                return Err(malformed(&why));
            }
        }
        if matches!(
            abort.as_ref().map(|abort| &abort.condition),
            Some(LifecycleCondition::Date { .. })
        ) {
            let why = format!("The rule \"{id}\" can abort uploads by their age only.");
            return Err(malformed(&why));
        }
        if rule
            .storage_class_transitions
            .iter()
            .any(|to| to.storage_class != StorageClass::InfrequentAccess)
        {
            let why = format!("The rule \"{id}\" can change the class to InfrequentAccess only.");
            return Err(malformed(&why));
        }
    }
    Ok(())
}

/// The text is Cloudflare's as far as the first full stop.
pub(super) fn malformed(why: &str) -> R2Error {
    R2Error::new(
        R2Code::MalformedConfiguration,
        format!("The JSON you provided was not well formed. {why}"),
    )
}

/// Milliseconds since 1970.
fn parse_date(text: &str) -> Option<u64> {
    let parsed = if text.len() == "2025-12-31".len() {
        humantime::parse_rfc3339(&format!("{text}T00:00:00Z"))
    } else {
        humantime::parse_rfc3339(text)
    };
    let since = parsed.ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// What is to become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Delete,
    ToInfrequentAccess,
}

/// The rules that are in force at a moment, with their texts in the form in which keys are
/// compared.
#[derive(Debug)]
pub(super) struct Plan {
    deletions: Vec<Due>,
    transitions: Vec<Due>,
    pub(super) aborts: Vec<Due>,
}

/// What was stored before some moment and begins with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) prefix: Vec<u8>,
    /// Stored at this moment or earlier: milliseconds since 1970.
    pub(super) until_ms: u64,
}

impl Plan {
    pub(super) fn new(rules: &[LifecycleRule], now_ms: u64) -> Self {
        let mut plan = Self {
            deletions: Vec::new(),
            transitions: Vec::new(),
            aborts: Vec::new(),
        };
        for rule in rules.iter().filter(|rule| rule.enabled) {
            let prefix = rule.conditions.prefix.as_deref().unwrap_or_default();
            let due = |condition: &LifecycleCondition| {
                let until_ms = match condition {
                    LifecycleCondition::Age { max_age } => {
                        now_ms.checked_sub(max_age.checked_mul(1000)?)?
                    }
                    LifecycleCondition::Date { date } => {
                        let date_ms = parse_date(date)?;
                        (date_ms <= now_ms).then(|| date_ms.saturating_sub(1))?
                    }
                };
                Some(Due {
                    prefix: rules::identity(prefix).into_owned().into_bytes(),
                    until_ms,
                })
            };
            let delete = rule.delete_objects_transition.as_ref();
            plan.deletions
                .extend(delete.and_then(|delete| due(&delete.condition)));
            let transitions = rule.storage_class_transitions.iter();
            plan.transitions
                .extend(transitions.filter_map(|to| due(&to.condition)));
            let abort = rule.abort_multipart_uploads_transition.as_ref();
            plan.aborts
                .extend(abort.and_then(|abort| due(&abort.condition)));
        }
        plan
    }

    /// Deletion goes before a change of class.
    pub(super) fn fate(&self, key: &[u8], uploaded_ms: u64, class: StorageClass) -> Option<Fate> {
        let is_due = |due: &Due| uploaded_ms <= due.until_ms && key.starts_with(&due.prefix);
        if self.deletions.iter().any(is_due) {
            Some(Fate::Delete)
        } else if class == StorageClass::Standard && self.transitions.iter().any(is_due) {
            Some(Fate::ToInfrequentAccess)
        } else {
            None
        }
    }

    /// The prefixes of the objects to be looked at, none of which begins with another.
    pub(super) fn prefixes(&self) -> Vec<Vec<u8>> {
        let all = self.deletions.iter().chain(&self.transitions);
        let mut prefixes: Vec<Vec<u8>> = all.map(|due| due.prefix.clone()).collect();
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, earlier| later.starts_with(earlier));
        prefixes
    }
}
