//! What lies on a developer's disk: the wrangler file, functions/, bundling, migrations.
