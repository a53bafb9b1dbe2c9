//! `mactl`: see and move the primaries of multiactive Units.
//!
//! What is shown is first a view (`view`), whether it was read from the Kubernetes API or from
//! etcd; what is wrong (`diagnose`), what a request would do (`plan`) and how all of it looks
//! (`render`) are pure functions of views. Reading and asking is elsewhere.

pub mod args;
pub mod backend;
mod commands;
pub mod confirm;
pub mod diagnose;
pub mod failure;
pub mod invocation;
pub mod kubeconfig;
pub mod names;
pub mod plan;
pub mod preflight;
pub mod reference;
pub mod render;
pub mod terminal;
pub mod view;

pub use commands::main;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod snapshot;
