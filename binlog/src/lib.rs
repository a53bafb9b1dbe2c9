//! The binlog of both engines as a stream of decoded transactions.
//!
//! Invariants: the position moves at commits only; an event that is not understood is an error
//! that names it, never passed over; nothing is sent of a transaction that was born elsewhere.

mod assemble;
mod decode;
mod error;
mod event;
mod input;
mod json;
mod rows;
mod stream;
mod table_map;
mod value;

pub use assemble::{Birth, Filter, Notice, Output, Passed, Refusal, StatementUse, TableUse};
pub use error::{BinlogError, Place};
pub use event::QueryEvent;
pub use stream::{Pipeline, ReadOptions, Reader};
