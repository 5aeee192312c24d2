//! Identifiers. Each look-alike text has a type of its own, so that a namespace can
//! not be passed where a bucket is meant.
//!
//! The text is whatever a user's configuration says (`your-database-id`,
//! `my/ Database`): it is never used as a file name (storage hashes it).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

id!(
    /// An account: the wall between tenants. `engawa dev` has one, [`AccountId::local`].
    AccountId
);
id!(
    /// A Pages project or a Worker, unique in its account.
    ProjectName
);
id!(
    /// One deployment of a project. Lower-case hex, as on Cloudflare; the first eight
    /// digits name its own host.
    DeploymentId
);
id!(
    /// A KV namespace, as `kv_namespaces[].id` spells it.
    NamespaceId
);
id!(
    /// A D1 database, as `d1_databases[].database_id` spells it.
    DatabaseId
);
id!(
    /// An R2 bucket, as `r2_buckets[].bucket_name` spells it.
    BucketName
);
id!(
    /// An Analytics Engine dataset.
    DatasetName
);

impl AccountId {
    /// The one account of `engawa dev` and of commands with `--local`.
    pub fn local() -> Self {
        Self::new("local")
    }
}
