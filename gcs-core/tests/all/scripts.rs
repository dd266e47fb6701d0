//! Golden scripts: one scenario a file, whose name is the claim, and whose output reads as a diagram of the protocol.
//! `UPDATE_GOLDENFILES=1 cargo test -p gcs-core` writes the outputs anew; read the difference before you keep it.

use std::error::Error;
use std::path::Path;

use gcs_core::Params;
use goldenscript::{Command, Context, Runner};
use model::{DaemonId, Level, Terms};

use crate::checks::check;
use crate::world::{Action, World, group};

struct Script {
    world: World,
}

impl Script {
    fn daemon(&self, name: &str) -> Result<DaemonId, Box<dyn Error>> {
        let named = self.world.nodes.keys().rfind(|id| id.name().as_str() == name);
        named.copied().ok_or_else(|| format!("no daemon {name}").into())
    }

    fn daemons(&self, names: &[String]) -> Result<Vec<DaemonId>, Box<dyn Error>> {
        names.iter().map(|name| self.daemon(name)).collect()
    }

    /// On what terms a message to `g` is sent.
    fn terms(&self, sender: DaemonId, text: &str) -> Result<Terms, Box<dyn Error>> {
        match text {
            "" => Ok(Terms::default()),
            "safe" => Ok(Terms { level: Level::Safe, ..Terms::default() }),
            "in this view" => {
                let only_in = self.world.daemon(sender).view_of(&group("g"));
                Ok(Terms { only_in, ..Terms::default() })
            }
            text => Err(format!("no such terms: {text}").into()),
        }
    }

    /// Everything that is under way arrives; what it leads to is under way next.
    fn round(&mut self, number: &str) {
        self.world.diagram.push(format!("-- round {number}"));
        self.world.round();
    }

    /// Daemons in configuration 1, each with a process in group `g`.
    fn group(&mut self, names: &[String]) {
        let daemons: Vec<DaemonId> = names.iter().map(|name| self.world.start(name)).collect();
        self.world.configure(1, &daemons);
        for daemon in &daemons {
            self.world.attach(*daemon, 1);
            self.world.join(*daemon, 1, &["g"]);
            self.world.run();
        }
        self.world.diagram.clear();
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let proposed = args.take_key("proposed").unwrap_or_default();
        let told = args.take_key("told").unwrap_or_default();
        let terms = args.take_key("terms").unwrap_or_default();
        let rest: Vec<String> = std::iter::from_fn(|| args.next_pos().map(str::to_owned)).collect();
        args.reject_next()?;
        match (command.name.as_str(), &rest[..]) {
            ("group", names) => self.group(names),
            ("start", [name]) => drop(self.world.start(name)),
            ("crash", [name]) => self.world.crash(self.daemon(name)?),
            ("hold", [from, to]) => self.world.hold(self.daemon(from)?, self.daemon(to)?),
            ("release", [from, to]) => self.world.release(self.daemon(from)?, self.daemon(to)?),
            ("told-starts", [name, count]) => {
                let daemon = self.daemon(name)?;
                self.world.node(daemon).starts = count.parse()?;
            }
            ("cast", [name, text]) => {
                let daemon = self.daemon(name)?;
                let terms = self.terms(daemon, terms)?;
                self.world.multicast_on(terms, daemon, 1, "g", text);
            }
            ("cast", [name, text, group]) => self.world.multicast(self.daemon(name)?, 1, group, text),
            ("join", [name, groups @ ..]) => {
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                self.world.join(self.daemon(name)?, 1, &groups);
            }
            ("leave", [name]) => self.world.leave(self.daemon(name)?, 1, &["g"]),
            ("attach", [name]) => self.world.attach(self.daemon(name)?, 1),
            ("frames", [from, to, count]) => {
                let action = Action::Frame(self.daemon(from)?, self.daemon(to)?);
                (0..count.parse()?).for_each(|_| self.world.act(action));
            }
            ("round", [number]) => self.round(number),
            ("kill-process", [name]) => self.world.detach(self.daemon(name)?, 1),
            ("start-change", told) => {
                let told = self.daemons(told)?;
                let proposed: Vec<String> = proposed.split_whitespace().map(str::to_owned).collect();
                let proposed = if proposed.is_empty() { told.clone() } else { self.daemons(&proposed)? };
                self.world.start_change(&told, &proposed);
            }
            ("view", [counter, members @ ..]) => {
                let members = self.daemons(members)?;
                let view = self.world.agree(counter.parse()?, &members);
                let told: Vec<String> = told.split_whitespace().map(str::to_owned).collect();
                let told = if told.is_empty() { members } else { self.daemons(&told)? };
                self.world.view(&told, &view);
            }
            ("run", []) => self.world.run(),
            ("check", []) => {
                self.world.release_all();
                self.world.settle();
                check(&self.world, true);
            }
            (name, _) => return Err(format!("cannot do `{name}` so").into()),
        }
        let lines = std::mem::take(&mut self.world.diagram);
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }
}

#[test]
fn scripts_come_out_as_written() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(scripts).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut Script { world: World::new(Params::lan()) }, &path).unwrap();
    }
}
