//! mactl, the command line of multiactive.

fn main() {}
