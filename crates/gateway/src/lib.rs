//! Bytes from the network: listeners, routing, static assets, the way to workerd.
