//! Both engines, for real.

mod apply;
mod arbiter;
mod control;
mod matrix;
mod read;
mod repair;
