//! How a run ends, and what the end must be: everybody who can talk to each other is together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use detector::Doubt;
use membership_core::{Protocol, Rule};
use model::trace::Event as Trace;
use model::{DaemonId, ServerId};

use crate::knobs::ms;
use crate::membership::claims::{End, groups, has_settled};
use crate::membership::faults::Strike;
use crate::membership::knobs::Purpose;
use crate::membership::log::Seen;
use crate::membership::net::{Event, Node};
use crate::membership::world::World;

/// How a link flaps, where that is all that happens.
const FALLS: u32 = 40;

impl World {
    /// How long the link flaps.
    pub(super) fn flapping_time(&self) -> Duration {
        if self.knobs.purpose == Purpose::Flapping { ms(60_000) } else { Duration::ZERO }
    }

    /// All daemons are together, and what nobody may hear of begins.
    pub(super) fn formed(&mut self) {
        let alive: BTreeSet<DaemonId> = self.daemons.iter().map(|host| host.id).collect();
        if let Err(wrong) = has_settled(&[alive], &self.ends()) {
            self.log.complain(format!("before any fault: {wrong}"));
        }
        match self.knobs.purpose {
            Purpose::Storm => {}
            Purpose::Stillness => {
                self.log.coverage.count("runs in which only servers fail", 1);
                let why = "only servers have failed, and were back in time,";
                self.log.saw(self.net.now, &Seen::StillnessBegins { why });
                let gap = self.knobs.storm / self.knobs.strikes as u32;
                for number in 0..self.knobs.strikes as u32 {
                    self.net.schedule(gap * number, Event::Strike(Strike::Unheard));
                }
            }
            Purpose::Flapping => {
                self.log.coverage.count("runs in which one link flaps", 1);
                self.log.coverage.count("  times that it fell", u64::from(FALLS));
                self.views_before = self.views_told();
                let time = self.flapping_time() / FALLS;
                let off = self.dice.time(time / 10..=time * 9 / 10);
                let (a, b) = (Node::Daemon(0), Node::Daemon(1));
                let flap = Strike::Flap { a, b, off, on: time - off, left: FALLS };
                self.net.schedule(ms(0), Event::Strike(flap));
            }
        }
    }

    /// The most views that a daemon has been told.
    fn views_told(&self) -> u64 {
        let mut told = BTreeMap::<DaemonId, u64>::new();
        for record in &self.log.records {
            if let Trace::MembershipView { daemon, .. } = &record.event {
                *told.entry(*daemon).or_default() += 1;
            }
        }
        told.into_values().max().unwrap_or(0)
    }

    /// However a link flapped, it cost few views: each one that takes two apart doubles the time until they may come
    /// together again. Each of the two waits by what it has seen itself, so it may come to that twice.
    fn has_kept_calm(&mut self) {
        let cost = self.views_told() - self.views_before;
        self.log.coverage.count("  configurations that this cost", cost);
        let waits = self.flapping_time().as_micros() / self.knobs.reach.calm.as_micros();
        let doublings = u64::from(waits.ilog2() + 1);
        // Beyond the greatest wait they come as often as that.
        let more = self.flapping_time().as_micros() / self.knobs.reach.calm_max.as_micros();
        let apart_and_together = 2;
        let ends = 2;
        let bound = ends * apart_and_together * (doublings + more as u64);
        if cost > bound {
            self.log.complain(format!("a link that flapped cost {cost} views, more than {bound}"));
        }
    }

    /// Faults are over. Everything runs, and the network comes to rest in some shape.
    pub(super) fn calm(&mut self) {
        if self.knobs.purpose == Purpose::Flapping {
            self.has_kept_calm();
        }
        self.is_calm = true;
        self.log.calm_since = self.net.now;
        self.net.lower_all();
        for node in self.pauses.keys().copied().collect::<Vec<_>>() {
            self.resume(node);
        }
        for index in 0..self.servers.len() {
            self.start(Node::Server(index));
        }
        for index in 0..self.daemons.len() {
            if self.dice.percent(90) {
                self.start(Node::Daemon(index));
            }
        }
        for name in std::mem::take(&mut self.barred) {
            if self.dice.percent(70) {
                self.operate(Node::Server(0), name, None);
            }
        }
        self.log.saw(self.net.now, &Seen::Released);
        self.look_around();
        if self.knobs.purpose == Purpose::Storm {
            self.come_to_rest();
        }
    }

    /// The shape in which the network stays.
    fn come_to_rest(&mut self) {
        let shape = match self.dice.below(20) {
            0 | 1 => {
                let parts = (0..self.machines()).map(|_| self.dice.below(2) as u32).collect();
                self.part(parts);
                "ends: parts"
            }
            2..=4 => {
                self.cut_some(self.servers.len(), Node::Server);
                "ends: a link between servers is cut"
            }
            5..=7 => {
                self.cut_some(self.daemons.len(), Node::Daemon);
                "ends: a link between daemons is cut"
            }
            8 => {
                let ways = self.ways_to(Node::Daemon(0), false);
                self.raise(&ways, false);
                "ends: a daemon reaches servers but no peers"
            }
            9 => {
                let ways = self.ways_to(Node::Daemon(0), true);
                self.raise(&ways, false);
                "ends: a daemon reaches peers but no servers"
            }
            _ => "ends: the network is whole",
        };
        self.log.coverage.count(shape, 1);
    }

    /// Cuts up to three links among `all`, each in one direction or both.
    fn cut_some(&mut self, all: usize, node: fn(usize) -> Node) {
        for _ in 0..1 + self.dice.below(3) {
            let (a, b) = (self.dice.below(all), self.dice.below(all));
            let one_way = self.dice.percent(30);
            if a != b {
                self.raise(&[(node(a), node(b))], one_way);
            }
        }
    }

    pub(super) fn ends(&self) -> BTreeMap<DaemonId, End> {
        let alive = self.daemons.iter().filter(|host| host.alive);
        alive.map(|host| (host.id, End { is_changing: host.is_changing, view: host.view.clone() })).collect()
    }

    /// Judges the end.
    pub(super) fn finish(&mut self) {
        let ids = self.log.records.iter().filter_map(|record| match &record.event {
            Trace::MembershipView { configuration, .. } => Some(configuration.id),
            _ => None,
        });
        let ids = ids.collect::<BTreeSet<_>>().len() as u64;
        self.log.coverage.count("configurations", ids);
        let apart = self.log.claims.kept_apart;
        self.log.coverage.count("configurations agreed on while a pair was known to be cut", apart);
        let mut expected = Vec::new();
        for clique in self.server_cliques() {
            expected.extend(self.groups_at(&clique));
        }
        self.log.coverage.count("  groups at the end", expected.len() as u64);
        if let Err(wrong) = has_settled(&expected, &self.ends()) {
            self.log.complain(format!("in the end, {wrong}"));
        }
        self.is_primary_if_whole(&expected);
        let attached: BTreeSet<DaemonId> = expected.into_iter().flatten().collect();
        for index in 0..self.daemons.len() {
            self.is_in_place(index, &attached);
        }
        self.bars_agree();
    }

    /// If all daemons are together, they are the primary component, whatever has happened.
    fn is_primary_if_whole(&mut self, groups: &[BTreeSet<DaemonId>]) {
        let has_disks = self.daemons.iter().all(|host| host.ballots.is_some());
        let expected = match self.knobs.params.primary {
            Rule::None => false,
            Rule::Majority(_) => true,
            // Who is given no time may not have voted since.
            Rule::Dynamic(_) => has_disks && self.knobs.params.vote > *self.knobs.pace.notice.end(),
        };
        let whole = groups.iter().find(|group| group.len() == self.daemons.len());
        let view = whole.and_then(|group| self.ends().get(group.first()?)?.view.clone());
        if let Some(view) = view.filter(|view| expected && !view.primary) {
            self.log.complain(format!("in the end all are in {}, and it is not primary", view.id));
        }
        let primary = self.log.claims.primary_components();
        self.log.coverage.count("primary components", primary);
    }

    /// Servers that are to agree with each other: of all that are connected at all, those who are linked pairwise; or
    /// those who follow one.
    fn server_cliques(&mut self) -> Vec<BTreeSet<usize>> {
        let linked = |a: usize, b: usize| self.net.is_whole(Node::Server(a), Node::Server(b));
        let mut left: BTreeSet<usize> = (0..self.servers.len()).collect();
        let mut cliques = Vec::new();
        if self.knobs.params.protocol == Protocol::Wombat {
            cliques = followings(std::mem::take(&mut left), linked);
        }
        while let Some(first) = left.pop_first() {
            let mut connected = BTreeSet::from([first]);
            let mut frontier = vec![first];
            while let Some(a) = frontier.pop() {
                let more: Vec<usize> = left.iter().copied().filter(|b| linked(a, *b)).collect();
                left.retain(|b| !more.contains(b));
                connected.extend(&more);
                frontier.extend(more);
            }
            // Servers rank by their names, which end in their places.
            cliques.extend(groups(&connected, |a, b| !linked(a, b)));
        }
        let wrong = (0..self.servers.len()).find(|a| {
            let others = (0..self.servers.len()).filter(|b| b != a && linked(*a, *b));
            let linked: BTreeSet<ServerId> = others.map(|b| self.servers[b].id).collect();
            !self.servers[*a].linked().eq(linked)
        });
        if let Some(wrong) = wrong {
            self.log.complain(format!("in the end, {} has not all links", self.servers[wrong].id));
        }
        cliques
    }

    /// Who of the daemons at these servers is to be together, by what they report.
    fn groups_at(&mut self, servers: &BTreeSet<usize>) -> Vec<BTreeSet<DaemonId>> {
        let all: BTreeSet<DaemonId> =
            servers.iter().flat_map(|server| self.servers[*server].attached()).collect();
        let reports: BTreeMap<DaemonId, _> =
            self.daemons.iter().map(|host| (host.id, host.reported())).collect();
        let says = |a: DaemonId, b: DaemonId| {
            let doubted = reports.get(&a).and_then(|report| report.get(&b));
            doubted.is_some_and(|doubted| doubted.doubt == Doubt::Cut)
        };
        let groups = groups(&all, |a, b| says(a, b) || says(b, a));
        let place = |id: DaemonId| self.daemons.iter().position(|host| host.id == id);
        let mut wrong = Vec::new();
        let mut cut = 0;
        for (a, b) in all.iter().flat_map(|a| all.range(*a..).skip(1).map(move |b| (*a, *b))) {
            let can_talk = place(a).is_some_and(|a| self.can_talk(a, b));
            let is_together = groups.iter().any(|group| group.contains(&a) && group.contains(&b));
            cut += u64::from(!can_talk);
            if is_together && !can_talk {
                wrong.push(format!("{a} and {b} are to be together, and cannot talk"));
            } else if can_talk && (says(a, b) || says(b, a)) {
                wrong.push(format!("{a} and {b} say that they cannot talk, and can"));
            }
        }
        wrong.into_iter().for_each(|wrong| self.log.complain(wrong));
        self.log.coverage.count("  pairs of cut daemons at one clique of servers", cut);
        groups
    }

    /// A daemon that is alive is attached, unless it reaches no server that lets it in.
    fn is_in_place(&mut self, index: usize, attached: &BTreeSet<DaemonId>) {
        let host = &self.daemons[index];
        if !host.alive || attached.contains(&host.id) {
            return;
        }
        let (id, node) = (host.id, Node::Daemon(index));
        let open = self.servers.iter().enumerate().find(|(at, server)| {
            let is_barred = server.machine().barred(self.net.now).any(|(name, _)| name == id.name());
            self.net.is_whole(node, Node::Server(*at)) && !is_barred
        });
        let open = open.map(|(_, server)| server.id);
        if let Some(server) = open {
            self.log.complain(format!("in the end, {id} is attached nowhere, and {server} is there"));
        }
    }

    /// Servers that are linked keep out the same names.
    fn bars_agree(&mut self) {
        let barred = |index: usize| self.servers[index].machine().barred(self.net.now).collect::<Vec<_>>();
        let differ = (1..self.servers.len()).find(|b| {
            (0..*b).any(|a| self.net.is_whole(Node::Server(a), Node::Server(*b)) && barred(a) != barred(*b))
        });
        if let Some(server) = differ.map(|index| self.servers[index].id) {
            self.log.complain(format!("in the end, {server} and others keep out different names"));
        }
    }
}

/// Each leader with those who follow it: of those that they are linked with, the first that follows nobody.
fn followings(servers: BTreeSet<usize>, linked: impl Fn(usize, usize) -> bool) -> Vec<BTreeSet<usize>> {
    let mut led = BTreeMap::<usize, BTreeSet<usize>>::new();
    for server in servers {
        let leader = led.keys().copied().find(|leader| linked(*leader, server));
        led.entry(leader.unwrap_or(server)).or_default().insert(server);
    }
    led.into_values().collect()
}
