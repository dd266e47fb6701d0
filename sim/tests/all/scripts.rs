//! Golden scripts: one scenario a file, whose name is the claim, and whose output reads as a diagram of the protocol.
//! `UPDATE_GOLDENFILES=1 cargo test -p sim` writes the outputs anew; read the difference before you keep it.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use goldenscript::{Command, Context, Runner};
use sim::diagram::Detail;
use sim::toy::Wish;
use sim::{Happens, Node, Player, World};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Default)]
struct Script {
    world: Option<World>,
    players: Vec<Player>,
}

impl Script {
    fn world(&mut self) -> Result<&mut World> {
        self.world.as_mut().ok_or_else(|| "a script begins with `cluster`".into())
    }

    fn player(&self, name: &str) -> Result<Player> {
        let number = name.strip_prefix("client-").and_then(|n| n.parse::<usize>().ok());
        let player = number.and_then(|n| self.players.get(n.checked_sub(1)?));
        player.copied().ok_or_else(|| format!("no client {name}").into())
    }

    /// Machines, gateways and a film on all machines or on some.
    fn cluster(&mut self, command: &Command) -> Result<()> {
        let mut args = command.consume_args();
        let mut number = |key, default: usize| args.take_key(key).map_or(Ok(default), str::parse::<usize>);
        let (machines, gateways, backups) =
            (number("machines", 3)?, number("gateways", 1)?, number("backups", 1)?);
        let holders = args.take_key("film").map(|text| {
            text.split_whitespace()
                .map(|n| n.parse::<usize>().map(|n| n - 1))
                .collect::<std::result::Result<Vec<_>, _>>()
        });
        args.reject_next()?;
        let mut world = World::seeded(1).machines(machines).gateways(gateways).measured();
        world = world.backups(u8::try_from(backups)?).period(Duration::from_millis(350));
        if let Some(holders) = holders.transpose()? {
            world = world.film("film-1", &holders, 400);
        }
        world.draw(Detail::Sessions);
        world.assemble();
        if let Some(diagram) = world.diagram() {
            diagram.take();
        }
        self.world = Some(world);
        Ok(())
    }

    /// A node by its name, a whole machine, or what a node is to a client: `primary of client-1`.
    fn nodes(&mut self, words: &[&str]) -> Result<Vec<Node>> {
        if let [part, "of", client] = words {
            let player = self.player(client)?;
            let world = self.world()?;
            return Ok(match *part {
                "primary" => vec![world.primary_of(player)],
                "machine" => {
                    let Node::Server(machine) = world.primary_of(player) else {
                        return Err("no server".into());
                    };
                    vec![Node::Daemon(machine), Node::Server(machine)]
                }
                "backups" => world.backups_of(player),
                "gateway" => vec![world.gateway_of(player)],
                other => return Err(format!("no `{other}`").into()),
            });
        }
        let [name] = words else { return Err(format!("whom? {words:?}").into()) };
        if let Some(number) = name.strip_prefix("machine-") {
            let machine = number.parse::<usize>()? - 1;
            return Ok(vec![Node::Daemon(machine), Node::Server(machine)]);
        }
        Ok(vec![name.parse().map_err(|()| format!("no `{name}`"))?])
    }

    fn moment(name: &str) -> Result<Happens> {
        let known = Happens::all().find(|moment| format!("{moment:?}") == name);
        known.ok_or_else(|| format!("no moment `{name}`").into())
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String> {
        if command.name == "cluster" {
            self.cluster(command)?;
            return Ok(String::new());
        }
        let mut args = command.consume_args();
        let words: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        args.reject_next()?;
        match (command.name.as_str(), &words[..]) {
            ("open", []) => {
                let player = self.world()?.open_session("film-1");
                self.players.push(player);
            }
            ("play", [client, responses]) => {
                let player = self.player(client)?;
                self.world()?.play(player, responses.parse()?);
            }
            ("seek", [client, position]) => {
                let player = self.player(client)?;
                self.world()?.request(player, Wish::Seek(position.parse()?));
            }
            ("acknowledged", [client]) => {
                let player = self.player(client)?;
                self.world()?.await_acknowledgements(player);
            }
            ("leave", [client]) => {
                let player = self.player(client)?;
                self.world()?.vanish(player);
            }
            ("come-back", [client, gateway]) => {
                let player = self.player(client)?;
                let nodes = self.nodes(&[gateway])?;
                let [Node::Gateway(gateway)] = nodes[..] else { return Err("not a gateway".into()) };
                self.world()?.come_back(player, gateway);
            }
            ("close", [client]) => {
                let player = self.player(client)?;
                self.world()?.close(player);
            }
            ("crash", whom) => {
                for node in self.nodes(whom)? {
                    self.world()?.crash(node);
                }
            }
            ("start", whom) => {
                for node in self.nodes(whom)? {
                    self.world()?.restart(node);
                }
            }
            ("drain", whom) => {
                for node in self.nodes(whom)? {
                    let Node::Server(machine) = node else { return Err("not a server".into()) };
                    self.world()?.drain_server(machine);
                }
            }
            ("move", [client, "to", server]) => {
                let player = self.player(client)?;
                let nodes = self.nodes(&[server])?;
                let [Node::Server(machine)] = nodes[..] else { return Err("not a server".into()) };
                self.world()?.move_session(player, machine);
            }
            ("on", [moment, "crash", whom @ ..]) => {
                let (moment, nodes) = (Script::moment(moment)?, self.nodes(whom)?);
                self.world()?.on(moment).crash_all(&nodes);
            }
            ("wait", [time]) => {
                let millis = time.strip_suffix("ms").ok_or("times are in ms")?.parse()?;
                self.world()?.pass(Duration::from_millis(millis));
            }
            (name, words) => return Err(format!("cannot do `{name}` so: {words:?}").into()),
        }
        let lines = self.world()?.diagram().map(|diagram| diagram.take()).unwrap_or_default();
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    fn end_script(&mut self) -> Result<()> {
        let world = self.world()?;
        world.settle();
        world.check();
        Ok(())
    }
}

#[test]
fn scripts_come_out_as_written() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut paths: Vec<_> = std::fs::read_dir(scripts).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut Script::default(), &path).unwrap();
    }
}
