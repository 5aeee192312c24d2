//! The `engawa` library: command line and wiring.
