//! The simulator's own tests: stories, scripts, and what must hold of the simulator itself.

mod freshness;
mod meta;
mod partitions;
mod rebuilds;
mod scripts;
mod shared;
mod sides;
mod stalls;
mod stories;

use sim::{Player, World};

/// A film plays with one backup on three machines.
fn playing(mut world: World) -> (World, Player) {
    world.assemble();
    let player = world.open_session("film-1");
    world.play(player, 10);
    (world, player)
}

/// Everything comes to rest, and everything was right.
fn end(mut world: World) {
    world.settle();
    world.check();
}
