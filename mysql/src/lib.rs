//! Both database engines: sessions, schema of our own, fencing, preflight.

pub mod control;
pub mod origin;
pub mod preflight;
pub mod session;
pub mod stranded;
pub mod tables;
pub mod values;
