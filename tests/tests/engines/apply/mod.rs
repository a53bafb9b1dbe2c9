//! What the writer does to a target, on both engines: the shipped program against real servers,
//! fed by a syncer that plays a script, so that every moment can be chosen. The last module lets
//! both ends of a link run for real.

mod conflicts;
mod crashes;
mod epochs;
pub mod links;
mod merged;
mod policies;
mod relays;
mod replays;
pub mod rig;
mod script;
mod settles;
mod skips;
mod statements;
mod thirds;
mod undo;
mod values;
