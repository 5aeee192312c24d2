//! Migration files of a D1 database.
