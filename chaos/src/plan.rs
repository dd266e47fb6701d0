//! What happens in a run, and when: a function of the seed and nothing else.
//!
//! A plan is a list of incidents. Each begins, lasts for a while and ends; several may go on at a time, but nothing is
//! done to a process that is stopped or down already. All of them are over when the time of the run is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use sim::dice::Dice;

use crate::network::Ground;

/// A place in the network: it has a network namespace, an address, and one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A membership server.
    Server(u8),
    /// A daemon, and processes that are attached to it.
    Machine(u8),
}

impl Node {
    /// Whether it is the server, or the machine, with this number.
    pub fn is_number(self, number: u8) -> bool {
        let (Node::Server(own) | Node::Machine(own)) = self;
        own == number
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Server(number) => write!(f, "server-{number}"),
            Node::Machine(number) => write!(f, "machine-{number}"),
        }
    }
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The service of a node.
    Service(Node),
    /// A group process: its machine, and its number there.
    Member(u8, u8),
    /// The content server on a machine.
    Content(u8),
    /// The gateway on a machine.
    Gateway(u8),
}

impl Who {
    /// Where it runs.
    pub fn node(self) -> Node {
        match self {
            Who::Service(node) => node,
            Who::Member(machine, _) | Who::Content(machine) | Who::Gateway(machine) => Node::Machine(machine),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Service(node) => node.fmt(f),
            Who::Member(machine, number) => write!(f, "member-{machine}-{number}"),
            Who::Content(machine) => write!(f, "content-{machine}"),
            Who::Gateway(machine) => write!(f, "gateway-{machine}"),
        }
    }
}

/// What is done to the network or to processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No packet gets from the first to the second of any of these pairs.
    Cut(BTreeSet<(Node, Node)>),
    /// So many of 100 packets to these nodes are lost.
    Loss(Vec<Node>, u8),
    /// So many of 100 packets to these nodes take a slow road, and are overtaken by others.
    Delay(Vec<Node>, u8),
    /// These are stopped with SIGSTOP, and go on in the end.
    Stop(Vec<Who>),
    /// These are killed with SIGKILL, and started again in the end.
    Kill(Vec<Who>),
    /// These are asked to end with SIGTERM, and started again in the end, or when they have ended.
    Drain(Vec<Who>),
}

/// A fault, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// What people call it.
    pub kind: &'static str,
    /// When it begins, from the start of the run.
    pub begins: Duration,
    /// When it ends.
    pub ends: Duration,
    /// What is done.
    pub fault: Fault,
}

impl Incident {
    /// Whether the network is at fault.
    pub fn is_weather(&self) -> bool {
        matches!(self.fault, Fault::Cut(_) | Fault::Loss(..) | Fault::Delay(..))
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = (self.begins.as_secs_f64(), self.ends.as_secs_f64());
        write!(f, "{:8.3} to {:8.3} s  {:26}", seconds.0, seconds.1, self.kind)?;
        match &self.fault {
            Fault::Cut(pairs) => {
                let (both, one): (Vec<_>, Vec<_>) =
                    pairs.iter().partition(|(from, to)| pairs.contains(&(*to, *from)));
                let both = both.into_iter().filter(|(from, to)| from < to);
                let both = both.map(|(from, to)| format!("{from} | {to}"));
                let one = one.into_iter().map(|(from, to)| format!("{from} -> {to}"));
                f.write_str(&both.chain(one).collect::<Vec<_>>().join(", "))
            }
            Fault::Loss(nodes, percent) | Fault::Delay(nodes, percent) => {
                write!(f, "{percent} of 100 packets to {}", list(nodes))
            }
            Fault::Stop(who) | Fault::Kill(who) | Fault::Drain(who) => f.write_str(&list(who)),
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// Everything that a seed decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// From which all of this follows.
    pub seed: u64,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All group processes.
    pub members: Vec<Who>,
    /// A content server on each machine.
    pub contents: Vec<Who>,
    /// Where the clients outside of the network find their sessions.
    pub gateways: Vec<Who>,
    /// In the order in which they begin.
    pub incidents: Vec<Incident>,
}

/// One end of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// It begins.
    Begin,
    /// It is over.
    End,
}

/// Time for the cluster to come together before the first incident.
const QUIET: Duration = Duration::from_secs(2);

/// So many machines have a gateway.
const GATEWAYS: usize = 2;

/// Now and then nothing new happens for so long that the cluster comes together again.
const CALM: Duration = Duration::from_secs(5);

impl Plan {
    /// The plan of `seed` for a run on such a network, in which faults go on for `time`.
    pub fn new(seed: u64, time: Duration, on: Ground) -> Plan {
        let mut dice = Dice::new(seed, 0);
        let servers = (1..=dice.between(1..=3) as u8).map(Node::Server);
        let machines = 1..=dice.between(3..=5) as u8;
        let each = dice.between(1..=2) as u8;
        let members =
            machines.clone().flat_map(|machine| (1..=each).map(move |number| Who::Member(machine, number)));
        let members = members.collect();
        let contents = machines.clone().map(Who::Content).collect();
        let gateways = machines.clone().take(GATEWAYS).map(Who::Gateway).collect();
        let nodes = servers.chain(machines.map(Node::Machine)).collect();
        let mut plan = Plan { seed, nodes, members, contents, gateways, incidents: Vec::new() };
        let mut draw = Draw { dice, idle: BTreeMap::new(), plan: plan.clone(), on };
        let mut begins = QUIET;
        while begins < time {
            if let Some(incident) = draw.incident(begins, time) {
                plan.incidents.push(incident);
            }
            begins += draw.dice.time(ms(200)..=ms(2500));
            if draw.dice.percent(15) {
                begins += CALM;
            }
        }
        plan
    }

    /// When incidents begin and end, in this order; each by its place among the incidents.
    pub fn steps(&self) -> Vec<(Duration, Edge, usize)> {
        let both =
            |(place, it): (usize, &Incident)| [(it.begins, Edge::Begin, place), (it.ends, Edge::End, place)];
        let mut steps: Vec<_> = self.incidents.iter().enumerate().flat_map(both).collect();
        steps.sort();
        steps
    }

    /// How long its faults go on.
    pub fn time(&self) -> Duration {
        self.incidents.iter().map(|it| it.ends).max().unwrap_or_default()
    }

    /// All processes that are attached to daemons.
    pub fn attached(&self) -> impl Iterator<Item = Who> {
        self.members.iter().chain(&self.contents).chain(&self.gateways).copied()
    }

    /// The membership servers.
    pub fn servers(&self) -> impl Iterator<Item = Node> {
        self.nodes.iter().copied().filter(|node| matches!(node, Node::Server(_)))
    }

    /// The machines.
    pub fn machines(&self) -> impl Iterator<Item = Node> {
        self.nodes.iter().copied().filter(|node| matches!(node, Node::Machine(_)))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attached: Vec<Who> = self.attached().collect();
        writeln!(f, "seed {}: {}; {}", self.seed, list(&self.nodes), list(&attached))?;
        self.incidents.iter().try_for_each(|incident| writeln!(f, "{incident}"))
    }
}

/// Draws incidents.
struct Draw {
    dice: Dice,
    /// Who there is.
    plan: Plan,
    /// From when on something may be done to a process again.
    idle: BTreeMap<Who, Duration>,
    on: Ground,
}

/// So many of 100 incidents are the network's.
const WEATHER_PERCENT: usize = 54;

impl Draw {
    fn incident(&mut self, begins: Duration, time: Duration) -> Option<Incident> {
        let from = match self.on {
            Ground::Namespaces => 0,
            Ground::Processes => WEATHER_PERCENT,
        };
        let (kind, lasts, fault) = match from + self.dice.below(100 - from) {
            0..12 => ("partition", ms(500)..=ms(8000), self.partition()),
            12..18 => ("isolation", ms(300)..=ms(5000), self.isolation()),
            18..26 => ("cut", ms(300)..=ms(6000), self.cut()),
            26..34 => ("one-way cut", ms(300)..=ms(6000), self.one_way()),
            34..40 => ("non-transitive cut", ms(500)..=ms(6000), self.chain()),
            40..47 => ("loss", ms(1000)..=ms(8000), self.weather(Fault::Loss, 1..=25)),
            47..WEATHER_PERCENT => {
                ("delay and reorder", ms(1000)..=ms(8000), self.weather(Fault::Delay, 5..=60))
            }
            WEATHER_PERCENT..62 => ("short stop", ms(20)..=ms(500), Fault::Stop(vec![self.anybody()])),
            62..70 => ("long stop", ms(1500)..=ms(5000), Fault::Stop(vec![self.anybody()])),
            70..77 => ("kill of a daemon", ms(0)..=ms(4000), Fault::Kill(vec![self.service(Node::Machine)])),
            77..81 => ("kill of a server", ms(0)..=ms(4000), Fault::Kill(vec![self.service(Node::Server)])),
            81..84 => ("kill of a member", ms(0)..=ms(4000), self.kill(|plan| &plan.members)),
            84..88 => ("kill of a content server", ms(0)..=ms(4000), self.kill(|plan| &plan.contents)),
            88..93 => ("drain of a content server", ms(0)..=ms(4000), self.drain(|plan| &plan.contents)),
            93..95 => ("kill of a gateway", ms(0)..=ms(4000), self.kill(|plan| &plan.gateways)),
            95..96 => ("drain of a gateway", ms(0)..=ms(4000), self.drain(|plan| &plan.gateways)),
            96..98 => ("kill of a machine", ms(0)..=ms(5000), self.machine()),
            _ => ("kill of all servers", ms(0)..=ms(4000), self.all_servers()),
        };
        let ends = (begins + self.dice.time(lasts)).min(time);
        if let Fault::Stop(who) | Fault::Kill(who) | Fault::Drain(who) = &fault {
            if who.iter().any(|it| self.idle.get(it).is_some_and(|idle| begins <= *idle)) {
                return None;
            }
            self.idle.extend(who.iter().map(|it| (*it, ends)));
        }
        Some(Incident { kind, begins, ends, fault })
    }

    /// Every node is in one of two or three parts that do not hear each other.
    fn partition(&mut self) -> Fault {
        let parts = self.dice.between(2..=3);
        let mut nodes = self.plan.nodes.clone();
        let mut part_of = BTreeMap::new();
        // The first ones drawn see to it that no part is empty.
        for part in 0..parts {
            part_of.insert(nodes.remove(self.dice.below(nodes.len())), part);
        }
        for node in nodes {
            part_of.insert(node, self.dice.between(0..=parts - 1));
        }
        self.between(|from, to| part_of.get(&from) != part_of.get(&to))
    }

    fn isolation(&mut self) -> Fault {
        let alone = self.dice.pick(&self.plan.nodes);
        self.between(|from, to| from == alone || to == alone)
    }

    fn cut(&mut self) -> Fault {
        let pair = self.pair();
        Fault::Cut([pair, (pair.1, pair.0)].into())
    }

    fn one_way(&mut self) -> Fault {
        Fault::Cut([self.pair()].into())
    }

    /// The machines are in a row, and only neighbours hear each other; everybody hears the servers.
    fn chain(&mut self) -> Fault {
        let mut row: Vec<u8> = self.plan.nodes.iter().filter_map(machine).collect();
        for end in (1..row.len()).rev() {
            row.swap(end, self.dice.below(end + 1));
        }
        let place = |node| row.iter().position(|it| machine(&node) == Some(*it));
        self.between(|from, to| match (place(from), place(to)) {
            (Some(from), Some(to)) => from.abs_diff(to) > 1,
            (None, _) | (_, None) => false,
        })
    }

    fn between(&self, is_cut: impl Fn(Node, Node) -> bool) -> Fault {
        let pairs =
            self.plan.nodes.iter().flat_map(|from| self.plan.nodes.iter().map(move |to| (*from, *to)));
        Fault::Cut(pairs.filter(|(from, to)| from != to && is_cut(*from, *to)).collect())
    }

    fn pair(&mut self) -> (Node, Node) {
        let mut nodes = self.plan.nodes.clone();
        let first = nodes.remove(self.dice.below(nodes.len()));
        (first, self.dice.pick(&nodes))
    }

    fn weather(
        &mut self,
        fault: impl Fn(Vec<Node>, u8) -> Fault,
        percent: std::ops::RangeInclusive<u64>,
    ) -> Fault {
        let mut nodes = self.plan.nodes.clone();
        if self.dice.percent(60) {
            nodes = vec![self.dice.pick(&nodes)];
        }
        fault(nodes, self.dice.between(percent) as u8)
    }

    fn anybody(&mut self) -> Who {
        if self.dice.percent(40) {
            self.dice.pick(&self.plan.attached().collect::<Vec<_>>())
        } else {
            Who::Service(self.dice.pick(&self.plan.nodes))
        }
    }

    fn kill(&mut self, of: impl Fn(&Plan) -> &Vec<Who>) -> Fault {
        Fault::Kill(vec![self.dice.pick(of(&self.plan))])
    }

    fn drain(&mut self, of: impl Fn(&Plan) -> &Vec<Who>) -> Fault {
        Fault::Drain(vec![self.dice.pick(of(&self.plan))])
    }

    /// The service of a node of one kind.
    fn service(&mut self, kind: impl Fn(u8) -> Node) -> Who {
        let nodes: Vec<_> =
            (1..=u8::MAX).map(kind).take_while(|node| self.plan.nodes.contains(node)).collect();
        Who::Service(self.dice.pick(&nodes))
    }

    /// A daemon and all processes of its machine.
    fn machine(&mut self) -> Fault {
        let daemon = self.service(Node::Machine);
        let attached = self.plan.attached().filter(|process| process.node() == daemon.node());
        Fault::Kill([daemon].into_iter().chain(attached).collect())
    }

    fn all_servers(&self) -> Fault {
        let servers = self.plan.nodes.iter().filter(|node| matches!(node, Node::Server(_)));
        Fault::Kill(servers.copied().map(Who::Service).collect())
    }
}

fn machine(node: &Node) -> Option<u8> {
    match node {
        Node::Machine(number) => Some(*number),
        Node::Server(_) => None,
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(180);

    fn drawn(seed: u64) -> Plan {
        Plan::new(seed, TIME, Ground::Namespaces)
    }

    /// Draws for a run on these nodes, where nobody is attached.
    fn draw(seed: u64, nodes: &[Node]) -> Draw {
        let nobody = Vec::new;
        let (members, contents, gateways) = (nobody(), nobody(), nobody());
        let plan = Plan { seed, nodes: nodes.to_vec(), members, contents, gateways, incidents: Vec::new() };
        Draw { dice: Dice::new(seed, 0), plan, idle: BTreeMap::new(), on: Ground::Namespaces }
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn where_there_is_no_network_to_cut_none_is_cut() {
        for seed in 0..50 {
            let plan = Plan::new(seed, TIME, Ground::Processes);
            assert!(plan.incidents.len() > 20);
            assert!(!plan.incidents.iter().any(Incident::is_weather), "{plan}");
        }
    }

    #[test]
    fn every_incident_is_over_in_time_and_nothing_is_done_to_a_process_that_is_down() {
        for seed in 0..100 {
            let plan = drawn(seed);
            let mut down = BTreeSet::new();
            for (at, edge, place) in plan.steps() {
                assert!(at <= TIME);
                let fault = &plan.incidents[place].fault;
                let (Fault::Stop(who) | Fault::Kill(who) | Fault::Drain(who)) = fault else { continue };
                for who in who {
                    let changed = if edge == Edge::Begin { down.insert(*who) } else { down.remove(who) };
                    assert!(changed, "seed {seed}: {}", plan.incidents[place]);
                }
            }
            assert!(down.is_empty());
        }
    }

    #[test]
    fn a_few_seeds_meet_every_kind_and_every_size() {
        let plans: Vec<_> = (0..20).map(drawn).collect();
        let kinds: BTreeSet<_> = plans.iter().flat_map(|plan| &plan.incidents).map(|it| it.kind).collect();
        assert_eq!(kinds.len(), 18, "{kinds:?}");
        let sizes: BTreeSet<_> =
            plans.iter().map(|plan| (plan.servers().count(), plan.machines().count())).collect();
        assert_eq!(sizes.len(), 9, "{sizes:?}");
    }

    #[test]
    fn parts_do_not_hear_each_other_and_each_hears_itself() {
        for seed in 0..50 {
            let nodes: Vec<_> =
                [1].map(Node::Server).into_iter().chain([1, 2, 3].map(Node::Machine)).collect();
            let mut draw = draw(seed, &nodes);
            let Fault::Cut(pairs) = draw.partition() else { panic!("a partition is a cut") };
            assert!(!pairs.is_empty());
            let apart = |a: Node, b: Node| pairs.contains(&(a, b));
            for (a, b) in &pairs {
                assert!(apart(*b, *a) && a != b);
                // Who is apart from one of two that hear each other is apart from both.
                assert!(nodes.iter().all(|c| c == a || apart(*a, *c) || apart(*c, *b)));
            }
        }
    }

    #[test]
    fn a_chain_is_connected_and_not_transitive() {
        let nodes: Vec<_> = [Node::Server(1)].into_iter().chain([1, 2, 3, 4].map(Node::Machine)).collect();
        let mut draw = draw(1, &nodes);
        let Fault::Cut(pairs) = draw.chain() else { panic!("a chain is a cut") };
        assert_eq!(pairs.len(), 6, "of the pairs of four, three are neighbours");
        assert!(pairs.iter().all(|(from, to)| pairs.contains(&(*to, *from))));
        assert!(pairs.iter().all(|pair| *pair != (Node::Server(1), Node::Machine(1))));
    }

    #[test]
    fn an_incident_reads_well() {
        let (a, b, c) = (Node::Machine(1), Node::Machine(2), Node::Server(1));
        let fault = Fault::Cut([(a, b), (b, a), (c, a)].into());
        let incident = Incident { kind: "cut", begins: ms(1500), ends: ms(2000), fault };
        assert_eq!(
            incident.to_string(),
            "   1.500 to    2.000 s  cut                       machine-1 | machine-2, server-1 -> machine-1"
        );
    }
}
