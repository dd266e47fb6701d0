//! Several daemons on an in-memory network: written scenarios and random schedules.

mod checks;
mod random;
mod rng;
mod scenarios;
mod world;
