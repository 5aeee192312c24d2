//! Durable state: catalog, blobs, KV, D1, R2, assets, events. Knows nothing of HTTP.
