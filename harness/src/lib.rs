//! Starts the real parts that tests and the demo run on: a Kubernetes cluster, etcd, databases, and
//! a network in which each data centre is a namespace of its own.
//!
//! The map:
//! - [`tools`] installs or builds every program needed, once, under `target/tools`.
//! - [`programs`] runs cargo; [`images`] compiles the product's processes and packs them as container images.
//! - [`sandbox`] is a process tree in its own network, process and mount namespaces, ruled over a
//!   socket. It knows nothing of what runs in it.
//! - [`network`], [`kubernetes`], [`coordination`] and [`database`] put the parts into it.
//! - [`product`] handles the product as its users do; [`load`] and [`probe`] write as applications
//!   do.
//! - [`world`] ties them together: `World::up`, `World::attach`.
//!
//! Invariants:
//! - Whatever a world starts lives in its process namespace. When the process that owns the world
//!   goes away, for whatever reason, the first process of that namespace ends, and the kernel ends
//!   the rest: no list of things to clean up has to be right.
//! - Nothing here uses the product's own code, so what it reports about databases is independent.

pub mod coordination;
pub mod database;
pub mod images;
pub mod kubernetes;
pub mod load;
pub mod network;
pub mod paths;
pub mod probe;
pub mod product;
pub mod programs;
pub mod report;
pub mod sandbox;
pub mod shell;
pub mod spec;
pub mod tools;
pub mod world;

pub use database::{Account, Engine, Rows};
pub use load::{Load, LoadReport};
pub use spec::{Databases, WorldInfo, WorldSpec};
pub use world::World;
