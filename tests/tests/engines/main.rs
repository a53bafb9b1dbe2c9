//! Both engines, for real.

mod apply;
mod arbiter;
mod control;
mod matrix;
mod patience;
mod read;
mod repair;
mod worlds;
