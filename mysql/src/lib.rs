//! Both database engines: sessions, schema of our own, fencing, preflight.

pub mod clock;
pub mod conflicts;
pub mod control;
pub mod copies;
pub mod foreign_keys;
pub mod keyset;
pub mod lifeline;
pub mod link_end;
pub mod origin;
pub mod preflight;
pub mod select;
pub mod session;
pub mod skips;
pub mod stranded;
pub mod tables;
pub mod unique_keys;
pub mod values;
