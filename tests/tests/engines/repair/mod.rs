//! Verification and repair of a link, for real: the shipped syncer, writer and repair between two
//! servers, of one engine and of both. What they must find is planted behind the link's back, and
//! what they leave is looked at by the servers' own `CHECKSUM TABLE`.

mod agreement;
mod deaths;
mod limits;
mod load;
mod parents;
mod planted;
mod plants;
mod rebuilds;
mod rebuilds_hindered;
mod rebuilds_refused;
mod rig;
mod settling;
mod swaps;
mod thousand;
