//! Both database engines: sessions, schema of our own, fencing, preflight.

pub mod session;
