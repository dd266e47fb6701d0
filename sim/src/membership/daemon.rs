//! A daemon as membership servers see it: it attaches to one after the other, hears what it is told, and reports which
//! of its peers it cannot talk to. There is no group communication in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use detector::{Reach, Report};
use membership_core::{Arrival, Notice, Rejection, Standing};
use model::trace::Event as Trace;
use model::{Address, Ballots, Boot, Configuration, DaemonId, Name, StartId, Time};

use crate::membership::log::{Log, Moment};
use crate::membership::net::{Conn, Event, Net, Node, Packet};

pub struct DaemonHost {
    pub id: DaemonId,
    pub alive: bool,
    index: usize,
    servers: usize,
    reach_params: detector::Params,
    stream: Option<Conn>,
    /// Where it attached last.
    at: usize,
    attempts: u64,
    /// When, and how many streams in a row came to nothing.
    since: Time,
    failures: u32,
    last_start: Option<StartId>,
    pub is_changing: bool,
    pub view: Option<Configuration>,
    /// What it has on its disk, if it votes.
    pub ballots: Option<Ballots>,
    reach: Reach<DaemonId>,
    report: Report<DaemonId>,
    /// Whom it has links to, or wants to.
    links: BTreeSet<DaemonId>,
    /// Those it cannot talk to.
    down: BTreeSet<DaemonId>,
    tells: bool,
    wake: Option<Time>,
}

/// What the daemon of this number is called.
pub fn name(index: usize) -> Name {
    format!("daemon-{index}").parse().expect("a name")
}

impl DaemonHost {
    /// A daemon that is not running.
    pub fn new(index: usize, servers: usize, reach_params: detector::Params) -> DaemonHost {
        DaemonHost {
            id: DaemonId::new(name(index), Boot::new(0)),
            alive: false,
            index,
            servers,
            reach_params,
            stream: None,
            at: index % servers,
            attempts: 0,
            since: Time::ZERO,
            failures: 0,
            last_start: None,
            is_changing: false,
            view: None,
            ballots: None,
            reach: Reach::new(&reach_params),
            report: Report::new(),
            links: BTreeSet::new(),
            down: BTreeSet::new(),
            tells: false,
            wake: None,
        }
    }

    fn node(&self) -> Node {
        Node::Daemon(self.index)
    }

    pub fn life(&self) -> u64 {
        self.id.boot().number()
    }

    /// Whom it says that it cannot talk to.
    pub fn reported(&self) -> &Report<DaemonId> {
        &self.report
    }

    pub fn start(&mut self, net: &mut Net, log: &mut Log) {
        let (index, servers) = (self.index, self.servers);
        let id = DaemonId::new(self.id.name(), Boot::new(self.life() + 1));
        let at = net.dice.below(servers);
        let ballots = self.ballots.take();
        *self =
            DaemonHost { id, alive: true, at, ballots, ..DaemonHost::new(index, servers, self.reach_params) };
        log.record(net.now, Trace::DaemonStart { daemon: id });
        net.soon(net.pace.delay.clone(), self.dial());
    }

    pub fn die(&mut self, net: &Net, log: &mut Log) {
        self.alive = false;
        self.stream = None;
        log.record(net.now, Trace::DaemonCrash { daemon: self.id });
    }

    pub fn say_goodbye(&mut self, net: &mut Net) {
        if let Some(conn) = self.stream {
            net.send(conn, self.node(), Packet::Goodbye);
        }
    }

    // Its stream.

    fn dial(&self) -> Event {
        Event::Dial { by: self.node(), life: self.life(), to: Node::Server(self.at) }
    }

    /// What it says of itself when it attaches.
    pub fn register(&mut self, now: Time) -> Packet {
        let arrival = Arrival {
            daemon: self.id,
            address: Address::new(self.id.name().as_str()),
            attempt: self.attempts,
            last_start: self.last_start,
            standing: self.view.as_ref().map(|view| Standing { id: view.id, size: view.members.len() }),
            is_changing: self.is_changing,
            ballots: self.ballots.clone(),
        };
        self.attempts += 1;
        self.take_report(now);
        Packet::Register(arrival, self.report.clone())
    }

    pub fn dialled(&mut self, conn: Conn, now: Time) {
        self.since = now;
        self.stream = Some(conn);
    }

    pub fn hear(&mut self, conn: Conn, packet: Packet, net: &mut Net, log: &mut Log) {
        if self.stream != Some(conn) {
            return;
        }
        match packet {
            Packet::Notice(notice) => self.take(notice, net, log),
            Packet::Rejected(reason) => {
                let is_over = matches!(reason, Rejection::Superseded { by, .. } if by != self.id);
                if is_over {
                    log.complain(format!("{} was rejected: {reason:?}", self.id));
                }
                self.lose(conn, net);
            }
            other => unreachable!("{other:?} at a daemon"),
        }
    }

    /// The stream is gone: on to the next server.
    pub fn lose(&mut self, conn: Conn, net: &mut Net) {
        net.close(conn, self.node());
        if self.stream != Some(conn) {
            return;
        }
        self.stream = None;
        self.at = (self.at + 1) % self.servers;
        let was_good = net.now.since(self.since) > *net.pace.notice.end();
        self.failures = if was_good { 0 } else { self.failures + 1 };
        let back_off = self.failures.saturating_sub(self.servers as u32).min(3);
        let after = net.dice.time(net.pace.redial.clone()) * (1 << back_off);
        net.schedule(after, self.dial());
    }

    fn take(&mut self, notice: Notice, net: &mut Net, log: &mut Log) {
        let daemon = self.id;
        match notice {
            Notice::StartChange { start, proposed } => {
                self.last_start = Some(start);
                self.is_changing = true;
                let proposed: BTreeSet<DaemonId> = proposed.into_keys().collect();
                self.link(&proposed);
                log.record(net.now, Trace::StartChange { daemon, start, proposed });
                log.moment(Moment::StartChange, self.node());
            }
            Notice::Attempt(ballot) => {
                let id = ballot.id;
                if let (Some(ballots), Some(conn)) = (&mut self.ballots, self.stream) {
                    ballots.attempt(ballot);
                    net.send(conn, self.node(), Packet::Attempted(id));
                    log.moment(Moment::Attempt, self.node());
                }
            }
            Notice::View(configuration) => {
                if let Some(ballots) = &mut self.ballots {
                    ballots.form(configuration.id);
                }
                self.is_changing = false;
                self.links = configuration.set();
                self.link(&configuration.set());
                self.view = Some(configuration.clone());
                log.record(net.now, Trace::MembershipView { daemon, configuration });
                log.moment(Moment::View, self.node());
            }
        }
        self.look_soon(net.pace.delay.clone(), net);
    }

    // Its peers.

    /// Opens links to `those`. Where a later life of somebody appears, the earlier one is nobody.
    fn link(&mut self, those: &BTreeSet<DaemonId>) {
        let lives: BTreeMap<Name, Boot> = those.iter().map(|it| (it.name(), it.boot())).collect();
        let gone = |old: &DaemonId| lives.get(&old.name()).is_some_and(|boot| *boot > old.boot());
        let old: Vec<DaemonId> =
            self.reach.doubted().chain(self.links.iter().copied()).filter(gone).collect();
        for old in old {
            self.reach.forget(old);
            self.links.remove(&old);
            self.down.remove(&old);
        }
        self.links.extend(those.iter().filter(|it| **it != self.id));
    }

    fn look_soon(&self, range: std::ops::RangeInclusive<Duration>, net: &mut Net) {
        net.soon(range, Event::Look { daemon: self.index, life: self.life() });
    }

    /// Those to whom it has links, and whom it tries to reach again.
    pub fn watched(&self) -> BTreeSet<DaemonId> {
        let mut watched = self.links.clone();
        watched.extend(self.reach.doubted());
        watched.remove(&self.id);
        watched
    }

    /// Looks whom of those it can talk to; `truth` says so. What it finds is reported a little later.
    pub fn look(&mut self, truth: &BTreeMap<DaemonId, bool>, net: &mut Net) {
        self.down.retain(|peer| truth.contains_key(peer));
        for (peer, can_talk) in truth {
            if *can_talk && self.down.remove(peer) {
                self.reach.up(*peer, net.now);
            } else if !can_talk && self.down.insert(*peer) {
                self.reach.down(*peer, net.now, Duration::ZERO);
            }
        }
        self.tell_soon(net);
    }

    fn tell_soon(&mut self, net: &mut Net) {
        if !self.tells {
            self.tells = true;
            net.soon(net.pace.report.clone(), Event::Tell { daemon: self.index, life: self.life() });
        }
        self.schedule_wake(net);
    }

    pub fn wake(&mut self, net: &mut Net) {
        if self.wake.is_none_or(|due| net.now < due) {
            return;
        }
        self.wake = None;
        self.reach.wake(net.now);
        self.tell_soon(net);
    }

    fn take_report(&mut self, now: Time) -> bool {
        let news =
            self.reach.news(now).filter(|news| !news.keys().eq(self.report.keys()) || self.differs(news));
        let is_news = news.is_some();
        if let Some(news) = news {
            self.report = news;
        }
        is_news
    }

    fn differs(&self, news: &Report<DaemonId>) -> bool {
        news.iter().any(|(peer, doubted)| self.report.get(peer).map(|it| it.doubt) != Some(doubted.doubt))
    }

    pub fn tell(&mut self, net: &mut Net) {
        self.tells = false;
        if self.take_report(net.now)
            && let Some(conn) = self.stream
        {
            net.send(conn, self.node(), Packet::Report(self.report.clone()));
        }
        self.schedule_wake(net);
    }

    fn schedule_wake(&mut self, net: &mut Net) {
        let Some(due) = self.reach.next_wake() else { return };
        let due = due.max(net.now);
        if self.wake.is_none_or(|wake| due < wake) {
            self.wake = Some(due);
            net.at(due, Event::Wake { node: self.node(), life: self.life() });
        }
    }
}
