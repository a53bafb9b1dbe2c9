//! From row changes to SQL: literals, and statements with what they must report. Pure.

pub(crate) mod charset;
pub(crate) mod dialect;
pub(crate) mod json;
pub(crate) mod literal;
pub(crate) mod merge;
pub(crate) mod plan;
