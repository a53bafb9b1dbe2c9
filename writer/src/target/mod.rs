//! What is at the target: its tables, and the session that changes them.

mod compare;
pub(crate) mod lookup;
pub(crate) mod row;
pub(crate) mod session;
pub(crate) mod table;
pub(crate) mod unfit;
