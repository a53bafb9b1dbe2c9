//! Which objects a statement touches, told from its words alone.
//!
//! Only what decides about sending is read: the kind of statement and the names of the objects it
//! makes, changes or removes. A statement that does not fit any known form is not guessed at.

mod classify;
mod names;
#[cfg(test)]
mod tests;
mod tokens;
mod wrapped;

pub use classify::{Class, Classified, Object, Scope, Unclear, classify};
pub use wrapped::{Unwrapped, unwrap};

/// Bits of `sql_mode` that change how a statement is read; the same in both engines.
pub const ANSI_QUOTES: u64 = 1 << 2;
/// A backslash in a string is a character like any other.
pub const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;
