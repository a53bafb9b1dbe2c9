//! Both database engines: sessions, schema of our own, fencing, preflight.

pub mod origin;
pub mod session;
pub mod tables;
