//! Both engines, for real.

mod apply;
mod control;
