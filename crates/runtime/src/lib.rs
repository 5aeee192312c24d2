//! Everything that knows workerd: its configuration, its processes, its bindings on the wire.
