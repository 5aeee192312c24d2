//! Tests only: starts the real engawa with the real workerd.
