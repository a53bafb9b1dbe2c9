//! What the writer does to a target, on both engines: the shipped program against real servers,
//! fed by a syncer that plays a script, so that every moment can be chosen. In `links` and
//! `both_write` both ends of a link run for real.

mod alone;
mod both_write;
mod busy;
mod cascades;
mod conflicts;
mod counters;
mod crashes;
mod epochs;
mod handed_on;
mod held_at_both;
mod limits;
pub mod links;
mod merged;
mod policies;
mod refused;
mod relays;
mod replays;
pub mod rig;
mod routed;
mod routes;
mod script;
mod settles;
mod skips;
mod statements;
mod thirds;
mod undo;
mod values;
