//! Visits every state that a world can come to, depth first, each once.
//!
//! A state that was visited before is not entered again, however it was reached: what can follow depends on the state
//! alone, and so does the verdict, since a state carries the histories that lead to it. Actions of different
//! processes commute, so the states are few where the orders are many: the search counts both.
//!
//! What is judged is the history, so that states with a history in common are judged once.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;

use crate::fingerprint;

/// A state, and what can happen next.
pub trait World: Clone + Hash {
    /// One step.
    type Action: Clone;
    /// What a verdict depends on.
    type History: Hash;

    /// What can happen here. None of it undoes anything: paths end.
    fn actions(&self) -> Vec<Self::Action>;

    /// The action in words, as it happens here.
    fn tell(&self, action: &Self::Action) -> String;

    /// Lets it happen.
    fn act(&mut self, action: &Self::Action);

    /// Whether nothing has to happen any more, although something may.
    fn at_rest(&self) -> bool;

    /// What has happened so far, as far as it matters for a verdict.
    fn history(&self) -> Self::History;

    /// What is wrong with what has happened so far.
    fn judge(&self) -> Result<(), String>;
}

/// What a search went through.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Distinct states.
    pub states: u64,
    /// Actions that were tried.
    pub actions: u64,
    /// Distinct histories, each of which was judged.
    pub histories: u64,
    /// States in which nothing has to happen any more: the ends of complete behaviours.
    pub ends: u64,
    /// The orders of actions that lead from the start to where nothing can happen any more.
    pub paths: f64,
    /// The longest of them.
    pub depth: usize,
}

/// Something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What happened, step by step.
    pub path: Vec<String>,
    /// What is wrong with it.
    pub verdict: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for step in &self.path {
            writeln!(f, "{step}")?;
        }
        write!(f, "{}", self.verdict)
    }
}

/// How a search ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every state was visited, and every history is sound.
    Sound(Tally),
    /// The first history that is not.
    Found(Tally, Finding),
    /// There are more states than the search was to visit. Those that were visited are sound.
    Unfinished(Tally),
}

/// A state on the path that is being followed.
struct Step<W: World> {
    world: W,
    print: u64,
    /// What is still to be tried here.
    left: Vec<W::Action>,
    /// What led on from here.
    taken: Option<W::Action>,
    /// How many paths lead on from here, as far as they are known.
    paths: f64,
}

/// Stands in the place of the count of paths for a state that is on the path itself.
const OPEN: f64 = -1.0;

struct Search<W: World> {
    path: Vec<Step<W>>,
    /// How many paths lead on from each state.
    visited: HashMap<u64, f64>,
    judged: HashSet<u64>,
    tally: Tally,
}

/// Visits every state that follows from `start`, but no more than `states_max`. Tells `progress` of each millionth.
pub fn search<W: World>(start: W, states_max: u64, mut progress: impl FnMut(&Tally)) -> Outcome {
    let mut search =
        Search { path: Vec::new(), visited: HashMap::new(), judged: HashSet::new(), tally: Tally::default() };
    let print = fingerprint::of(&start);
    if let Err(verdict) = search.enter(start, print) {
        return search.found(verdict);
    }
    while let Some(step) = search.path.last_mut() {
        let Some(action) = step.left.pop() else {
            search.leave();
            continue;
        };
        let mut world = step.world.clone();
        world.act(&action);
        step.taken = Some(action);
        search.tally.actions += 1;
        let print = fingerprint::of(&world);
        match search.visited.get(&print).copied() {
            Some(OPEN) => return search.found("it goes in circles".into()),
            Some(paths) => search.add(paths),
            None if search.tally.states >= states_max => return Outcome::Unfinished(search.tally),
            None => {
                if let Err(verdict) = search.enter(world, print) {
                    return search.found(verdict);
                }
                if search.tally.states.is_multiple_of(1_000_000) {
                    progress(&search.tally);
                }
            }
        }
    }
    Outcome::Sound(search.tally)
}

impl<W: World> Search<W> {
    /// Goes on to a state that was not visited before.
    fn enter(&mut self, world: W, print: u64) -> Result<(), String> {
        self.visited.insert(print, OPEN);
        self.tally.states += 1;
        self.tally.ends += u64::from(world.at_rest());
        let new = self.judged.insert(fingerprint::of(&world.history()));
        self.tally.histories += u64::from(new);
        let verdict = if new { world.judge() } else { Ok(()) };
        let left = world.actions();
        let paths = if left.is_empty() { 1.0 } else { 0.0 };
        self.path.push(Step { world, print, left, taken: None, paths });
        self.tally.depth = self.tally.depth.max(self.path.len() - 1);
        verdict
    }

    /// Goes back from a state from which everything was tried.
    fn leave(&mut self) {
        let Some(done) = self.path.pop() else { return };
        self.visited.insert(done.print, done.paths);
        self.add(done.paths);
    }

    /// So many more paths lead on from the last state of the path, or from the start.
    fn add(&mut self, paths: f64) {
        match self.path.last_mut() {
            Some(step) => step.paths += paths,
            None => self.tally.paths = paths,
        }
    }

    fn found(self, verdict: String) -> Outcome {
        let steps = self.path.iter();
        let path = steps.filter_map(|step| Some(step.world.tell(step.taken.as_ref()?))).collect();
        Outcome::Found(self.tally, Finding { path, verdict })
    }
}
