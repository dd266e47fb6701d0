//! The simulator's own tests: stories, scripts, and what must hold of the simulator itself.

mod freshness;
mod meta;
mod partitions;
mod rebuilds;
mod scripts;
mod sides;
mod stalls;
mod stories;
