//! The product on a real cluster, handled as its users do.

mod refusals;
