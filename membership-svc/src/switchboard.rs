//! Which stream speaks for whom. Streams are numbered and never come back; a daemon or a server that opens another one
//! replaces its old one in the same step in which the machine hears of it. So nothing that was meant for an old stream
//! goes out on a new one, and nothing that is left of an old stream is heard.

use std::collections::BTreeMap;

use detector::Report;
use membership_core::{
    Agreed, Arrival, Fault, Input, Leave, Message, Notice, Output, Params, Rejection, Server, Term,
};
use model::{Boot, ConfigurationId, DaemonId, Machine, Name, ServerId, Time};

/// A stream of a daemon or a server to this process, or of this process to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamNumber(pub u64);

/// What happened on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A daemon opened it.
    Daemon {
        /// The stream.
        stream: StreamNumber,
        /// What the daemon says of itself.
        arrival: Arrival,
    },
    /// The daemon at the other end says whom it cannot reach.
    Reports {
        /// The stream.
        stream: StreamNumber,
        /// Whom.
        report: Report<DaemonId>,
    },
    /// It is a link to a server.
    Server {
        /// The stream.
        stream: StreamNumber,
        /// Who is at the other end.
        server: ServerId,
    },
    /// The server at the other end says something.
    Says {
        /// The stream.
        stream: StreamNumber,
        /// What.
        message: Message,
    },
    /// The daemon at the other end was asked to agree to a primary component.
    Attempted {
        /// The stream.
        stream: StreamNumber,
        /// Which.
        id: ConfigurationId,
        /// Whether it has written down that it agrees.
        agrees: bool,
    },
    /// The daemon at the other end is alive.
    Beats {
        /// The stream.
        stream: StreamNumber,
    },
    /// It is gone.
    Closed {
        /// The stream.
        stream: StreamNumber,
        /// Why.
        leave: Leave,
        /// Why, for people.
        cause: String,
    },
    /// An operator keeps a daemon out, or lets it in again.
    Bar {
        /// The daemon.
        name: Name,
        /// For how long; `None` lets it in.
        out: Option<Term>,
    },
}

/// What is to be done with streams, and what is to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Tell the daemon at the other end.
    Notify {
        /// The stream.
        stream: StreamNumber,
        /// What.
        notice: Notice,
    },
    /// Tell the server at the other end.
    Send {
        /// The stream.
        stream: StreamNumber,
        /// What.
        message: Message,
    },
    /// The daemon at the other end is not attached: close it.
    Reject {
        /// The stream.
        stream: StreamNumber,
        /// Who.
        daemon: DaemonId,
        /// Why.
        reason: Rejection,
    },
    /// Tell the daemon at the other end that this server is alive.
    Beat {
        /// The stream.
        stream: StreamNumber,
    },
    /// The other end has been silent for too long: close it.
    HangUp {
        /// The stream.
        stream: StreamNumber,
    },
    /// The other end has opened another stream in the place of this one: close it.
    Replace {
        /// The stream.
        stream: StreamNumber,
    },
    /// A daemon was attached and is not any more.
    Departed {
        /// Who.
        daemon: DaemonId,
        /// Why, for people.
        cause: String,
    },
    /// A server broke the protocol.
    Refused {
        /// Who.
        from: ServerId,
        /// How.
        fault: Fault,
    },
    /// There are new configurations.
    Agreed(Agreed),
}

/// The machine, and who is at the other end of which stream.
pub struct Switchboard {
    server: Server,
    daemons: BTreeMap<DaemonId, StreamNumber>,
    servers: BTreeMap<ServerId, StreamNumber>,
    /// What the machine ordered in this step.
    ordered: Vec<Output>,
}

impl Switchboard {
    /// Server `id`, with nobody on the line.
    pub fn new(id: ServerId, params: Params) -> Switchboard {
        Switchboard {
            server: Server::new(id, params),
            daemons: BTreeMap::new(),
            servers: BTreeMap::new(),
            ordered: Vec::new(),
        }
    }

    /// The daemons that are attached.
    pub fn attached(&self) -> impl Iterator<Item = DaemonId> + '_ {
        self.daemons.keys().copied()
    }

    /// The machine.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The servers that there is a link to.
    pub fn linked(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.servers.keys().copied()
    }

    /// The greatest boot of a server called `name` that is known; zero if none is.
    pub fn latest(&self, name: Name) -> Boot {
        let links = self.server.links();
        let known = links.iter().flat_map(|(server, linked)| linked.iter().chain([server]));
        let linked = self.servers.keys();
        let lives = known.chain(linked).filter(|server| server.name() == name);
        lives.map(ServerId::boot).max().unwrap_or(Boot::new(0))
    }

    fn server_on(&self, stream: StreamNumber) -> Option<ServerId> {
        self.servers.iter().find(|(_, current)| **current == stream).map(|(server, _)| *server)
    }

    fn daemon_on(&self, stream: StreamNumber) -> Option<DaemonId> {
        self.daemons.iter().find(|(_, current)| **current == stream).map(|(daemon, _)| *daemon)
    }

    /// The fact for the machine, if the stream speaks for somebody.
    fn translate(&mut self, fact: Fact, out: &mut Vec<Order>) -> Option<Input> {
        match fact {
            Fact::Daemon { stream, arrival } => {
                if let Some(stream) = self.daemons.insert(arrival.daemon, stream) {
                    out.push(Order::Replace { stream });
                }
                Some(Input::Attach(arrival))
            }
            Fact::Reports { stream, report } => {
                self.daemon_on(stream).map(|daemon| Input::Report { daemon, report })
            }
            Fact::Attempted { stream, id, agrees } => {
                self.daemon_on(stream).map(|daemon| Input::Attempted { daemon, id, agrees })
            }
            Fact::Beats { stream } => self.daemon_on(stream).map(|daemon| Input::Beat { daemon }),
            Fact::Bar { name, out } => Some(Input::Bar { name, out }),
            Fact::Server { stream, server } => {
                let namesakes = self.servers.keys().filter(|other| other.name() == server.name());
                let namesakes: Vec<ServerId> = namesakes.copied().collect();
                if namesakes.iter().any(|other| other.boot() > server.boot()) {
                    out.push(Order::Replace { stream });
                    return None;
                }
                out.extend(
                    namesakes
                        .iter()
                        .filter_map(|other| Some(Order::Replace { stream: self.servers.remove(other)? })),
                );
                self.servers.insert(server, stream);
                Some(Input::PeerUp { server })
            }
            Fact::Says { stream, message } => {
                self.server_on(stream).map(|from| Input::Peer { from, message })
            }
            Fact::Closed { stream, leave, cause } => {
                if let Some(daemon) = self.daemon_on(stream) {
                    self.daemons.remove(&daemon);
                    out.push(Order::Departed { daemon, cause });
                    return Some(Input::Detach { daemon, leave });
                }
                let server = self.server_on(stream)?;
                self.servers.remove(&server);
                Some(Input::PeerDown { server })
            }
        }
    }

    fn translate_back(&mut self, order: Output) -> Option<Order> {
        match order {
            Output::Notify { daemon, notice } => {
                let stream = *self.daemons.get(&daemon)?;
                Some(Order::Notify { stream, notice })
            }
            Output::Send { to, message } => {
                let stream = *self.servers.get(&to)?;
                Some(Order::Send { stream, message })
            }
            Output::Beat { daemon } => {
                let stream = *self.daemons.get(&daemon)?;
                Some(Order::Beat { stream })
            }
            Output::HangUp { daemon } => {
                let stream = self.daemons.remove(&daemon)?;
                Some(Order::HangUp { stream })
            }
            Output::HangUpOn { server } => {
                let stream = self.servers.remove(&server)?;
                Some(Order::HangUp { stream })
            }
            Output::Rejected { daemon, reason } => {
                let stream = self.daemons.remove(&daemon)?;
                Some(Order::Reject { stream, daemon, reason })
            }
            Output::Refuse { from, fault } => Some(Order::Refused { from, fault }),
            Output::Agreed(agreed) => Some(Order::Agreed(agreed)),
        }
    }

    fn give_out(&mut self, out: &mut Vec<Order>) {
        for order in std::mem::take(&mut self.ordered) {
            out.extend(self.translate_back(order));
        }
    }
}

impl Machine for Switchboard {
    type Input = Fact;
    type Output = Order;

    fn handle(&mut self, now: Time, fact: Fact, out: &mut Vec<Order>) {
        if let Some(input) = self.translate(fact, out) {
            self.server.handle(now, input, &mut self.ordered);
            self.give_out(out);
        }
    }

    fn wake(&mut self, now: Time, out: &mut Vec<Order>) {
        self.server.wake(now, &mut self.ordered);
        self.give_out(out);
    }

    fn next_wake(&self) -> Option<(Time, &'static str)> {
        self.server.next_wake()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Address;

    fn board() -> Switchboard {
        let id = ServerId::new("membership-1".parse().unwrap(), Boot::new(1));
        Switchboard::new(id, Params::sim())
    }

    fn daemon(boot: u64) -> DaemonId {
        DaemonId::new("a".parse().unwrap(), Boot::new(boot))
    }

    fn opens(stream: u64, boot: u64) -> Fact {
        let arrival = Arrival {
            daemon: daemon(boot),
            address: Address::new("a:1"),
            attempt: stream,
            last_start: None,
            standing: None,
            is_changing: false,
            ballots: None,
        };
        Fact::Daemon { stream: StreamNumber(stream), arrival }
    }

    fn closes(stream: u64) -> Fact {
        Fact::Closed { stream: StreamNumber(stream), leave: Leave::Closed, cause: "reset".to_owned() }
    }

    fn handle(board: &mut Switchboard, fact: Fact) -> Vec<Order> {
        let mut out = Vec::new();
        board.handle(Time::ZERO, fact, &mut out);
        board.wake(Time::ZERO, &mut out);
        out
    }

    fn notified(orders: &[Order]) -> Vec<u64> {
        let stream = |order: &Order| match order {
            Order::Notify { stream, .. } => Some(stream.0),
            Order::Send { .. }
            | Order::Reject { .. }
            | Order::Beat { .. }
            | Order::HangUp { .. }
            | Order::Replace { .. }
            | Order::Departed { .. }
            | Order::Refused { .. }
            | Order::Agreed(_) => None,
        };
        orders.iter().filter_map(stream).collect()
    }

    #[test]
    fn a_daemon_is_told_on_its_newest_stream_only() {
        let mut board = board();
        assert_eq!(notified(&handle(&mut board, opens(1, 7))), [1, 1]);
        let orders = handle(&mut board, opens(2, 7));
        assert_eq!(orders.first(), Some(&Order::Replace { stream: StreamNumber(1) }));
        assert_eq!(notified(&orders), [2, 2]);
        assert_eq!(handle(&mut board, closes(1)), [], "the old stream speaks for nobody");
        assert_eq!(board.attached().collect::<Vec<_>>(), [daemon(7)]);
    }

    #[test]
    fn a_new_life_ends_the_stream_of_the_old_one() {
        let mut board = board();
        handle(&mut board, opens(1, 7));
        let orders = handle(&mut board, opens(2, 8));
        assert!(matches!(orders[0], Order::Reject { stream: StreamNumber(1), .. }), "{orders:?}");
        assert_eq!(board.attached().collect::<Vec<_>>(), [daemon(8)]);
        let orders = handle(&mut board, opens(3, 7));
        assert!(matches!(orders[..], [Order::Reject { stream: StreamNumber(3), .. }]), "{orders:?}");
        assert_eq!(board.attached().collect::<Vec<_>>(), [daemon(8)]);
    }

    #[test]
    fn who_left_and_why_is_known_before_what_follows() {
        let mut board = board();
        handle(&mut board, opens(1, 7));
        let orders = handle(&mut board, closes(1));
        assert_eq!(orders[0], Order::Departed { daemon: daemon(7), cause: "reset".to_owned() });
        assert!(
            matches!(&orders[1], Order::Agreed(agreed) if agreed.configurations.is_empty()),
            "{orders:?}"
        );
    }

    #[test]
    fn a_replaced_link_is_not_heard() {
        let mut board = board();
        let server = ServerId::new("membership-2".parse().unwrap(), Boot::new(1));
        let says = |stream| Fact::Says {
            stream: StreamNumber(stream),
            message: Message::Row(membership_core::Row { version: 9, ..Default::default() }),
        };
        assert_eq!(handle(&mut board, says(1)), [], "nobody is known to be there");
        handle(&mut board, Fact::Server { stream: StreamNumber(1), server });
        let orders = handle(&mut board, Fact::Server { stream: StreamNumber(2), server });
        assert_eq!(orders[0], Order::Replace { stream: StreamNumber(1) });
        assert_eq!(handle(&mut board, says(1)), []);
        assert!(!handle(&mut board, says(2)).is_empty());
    }
}
