//! The REST v4 control plane, as wrangler speaks it.
