//! A world of membership servers and daemons, and nothing above them: what daemons hear when all fails that connects
//! them, one direction at a time, and in the midst of changes.
//!
//! | part | topic |
//! | --- | --- |
//! | `world`, `end` | the phases of a run, and what its end must be |
//! | `server`, `daemon` | what a process does around its machine; a daemon is one of those that only attach and report |
//! | `net` | connections, barriers, what stands still, and time |
//! | `faults` | what strikes, at random times and at named moments |
//! | `claims` | what must be true that a trace cannot show |
//! | `knobs` | the parameters of a run |
//! | `scale` | what changes cost where there are very many |
//! | `log`, `coverage`, `size` | what is seen, how often it was, and how long it is |

mod claims;
mod coverage;
mod daemon;
mod end;
mod faults;
mod knobs;
mod log;
mod net;
pub mod scale;
mod server;
mod size;
mod world;

pub use coverage::Coverage;
pub use knobs::Knobs;
pub use world::World;
