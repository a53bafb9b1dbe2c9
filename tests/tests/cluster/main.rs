//! The product on a real cluster, handled as its users do.

mod certificates;
mod clusters;
mod etcd_tls;
mod refusals;
mod user;
