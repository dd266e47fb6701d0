//! Frames between daemons, between the generated types and those of the machine. The reader trusts nothing: whatever
//! has no sense of its own is malformed; whether it makes sense here is for the machine to judge.
//!
//! A frame is encoded once, however many peers it goes to, and sent in parts: before it stands what is of one peer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gcs_core::{Entry, Message, Payload, Rank, Row, Run, Sync, Table};
use model::{Boot, ConfigurationId, GroupName, GroupViewId, Level, ProcessId, StartId, Terms};
use prost::encoding::{self, WireType};
use proto::gcs::v1 as pb;

use crate::wire::{self, Malformed};

/// A frame without its number, encoded: the same for all peers.
pub fn encode(message: &Message) -> Bytes {
    let message = write(message);
    let mut body = BytesMut::with_capacity(message.encoded_len());
    message.encode(&mut body);
    body.freeze()
}

/// A field `frames` of `OpenRequest` in two parts: what is of one peer, and the frame that all peers are sent.
pub fn numbered(number: u64, body: Bytes) -> [Bytes; 2] {
    const FRAMES: u32 = 2;
    const NUMBER: u32 = 1;
    let bytes = encoding::uint64::encoded_len(NUMBER, &number) + body.len();
    let mut head = BytesMut::with_capacity(2 * (1 + encoding::encoded_len_varint(u64::MAX)));
    encoding::encode_key(FRAMES, WireType::LengthDelimited, &mut head);
    encoding::encode_varint(bytes as u64, &mut head);
    encoding::uint64::encode(NUMBER, &number, &mut head);
    [head.freeze(), body]
}

fn write(message: &Message) -> pb::frame::Message {
    match message {
        Message::Entries { configuration, first, stable, entries } => {
            pb::frame::Message::Entries(pb::Entries {
                configuration: Some(write_configuration(*configuration)),
                first: *first,
                stable: *stable,
                entries: entries.iter().map(write_entry).collect(),
            })
        }
        Message::Sync { start, sync } => pb::frame::Message::Sync(pb::Sync {
            start_boot: start.boot().number(),
            start_number: start.number(),
            configuration: Some(write_configuration(sync.configuration())),
            cut: match sync {
                Sync::Full { cut, .. } => Some(pb::Cut { indexes: cut.clone() }),
                Sync::Compact { .. } => None,
            },
        }),
        Message::Forward { configuration, origin, first, entries } => {
            pb::frame::Message::Forward(pb::Forward {
                configuration: Some(write_configuration(*configuration)),
                origin: origin.place(),
                first: *first,
                entries: entries.iter().map(write_entry).collect(),
            })
        }
        Message::Progress { configuration, delivered, position, stable } => {
            pb::frame::Message::Progress(pb::Progress {
                configuration: Some(write_configuration(*configuration)),
                delivered: delivered.clone(),
                stable: *stable,
                position: *position,
            })
        }
    }
}

fn write_configuration(id: ConfigurationId) -> pb::ConfigurationId {
    pb::ConfigurationId { counter: id.counter(), digest: id.digest() }
}

fn write_entry(entry: &Entry) -> pb::Entry {
    use pb::entry::Entry as Written;
    let texts = |groups: &[GroupName]| groups.iter().map(GroupName::to_string).collect();
    let entry = match entry {
        Entry::Payload(Payload::Multicast { connection, number, group, bytes, terms }) => {
            Written::Multicast(pb::EntryMulticast {
                connection: *connection,
                number: *number,
                group: group.to_string(),
                payload: bytes.clone(),
                safe: terms.level == Level::Safe,
                only_in: terms.only_in.map(|view| write_configuration(view.configuration)),
                only_in_position: terms.only_in.map_or(0, |view| view.position),
                report: terms.report,
            })
        }
        Entry::Payload(Payload::Join { connection, name, groups }) => Written::Join(pb::EntryJoin {
            connection: *connection,
            name: name.to_string(),
            groups: texts(groups),
        }),
        Entry::Payload(Payload::Leave { connection, groups }) => {
            Written::Leave(pb::EntryLeave { connection: *connection, groups: texts(groups) })
        }
        Entry::Payload(Payload::Stopped { connection, groups }) => {
            Written::Stopped(pb::EntryStopped { connection: *connection, groups: texts(groups) })
        }
        Entry::Payload(Payload::State { connection, group, view, part, class }) => {
            let class = class.iter().flat_map(|class| class.iter());
            Written::State(pb::EntryState {
                connection: *connection,
                group: group.to_string(),
                configuration: Some(write_configuration(view.configuration)),
                position: view.position,
                part: part.clone(),
                class: class.map(ToString::to_string).collect(),
            })
        }
        Entry::Payload(Payload::Uninformed { connection, groups }) => {
            let written = |(group, view): &(GroupName, GroupViewId)| pb::GroupAt {
                group: group.to_string(),
                configuration: Some(write_configuration(view.configuration)),
                position: view.position,
            };
            let groups = groups.iter().map(written).collect();
            Written::Uninformed(pb::EntryUninformed { connection: *connection, groups })
        }
        Entry::Payload(Payload::Gone { connection }) => {
            Written::Gone(pb::EntryGone { connection: *connection })
        }
        Entry::Payload(Payload::Table(Table::Rows(rows))) => {
            let row = |row: &Row| pb::Row {
                daemon: row.daemon.place(),
                connection: row.connection,
                name: row.name.to_string(),
                groups: texts(&row.groups),
                views: row.views.iter().map(write_row_view).collect(),
            };
            Written::Rows(pb::EntryRows { rows: rows.iter().map(row).collect() })
        }
        Entry::Payload(Payload::Table(Table::End { class })) => {
            Written::TableEnd(pb::EntryTableEnd { class: class.iter().map(|rank| rank.place()).collect() })
        }
        Entry::Order(runs) => {
            let run = |run: &Run| pb::Run { origin: run.origin.place(), upto: run.upto };
            Written::Order(pb::EntryOrder { runs: runs.iter().map(run).collect() })
        }
    };
    pb::Entry { entry: Some(entry) }
}

/// Reads a frame: its number and its content.
pub fn read(frame: pb::Frame) -> Result<(u64, Message), Malformed> {
    let message = frame.message.ok_or_else(|| Malformed::new("message", "is missing"))?;
    let message = match message {
        pb::frame::Message::Entries(entries) => Message::Entries {
            configuration: read_configuration(entries.configuration)?,
            first: entries.first,
            stable: entries.stable,
            entries: read_entries(entries.entries)?,
        },
        pb::frame::Message::Sync(sync) => {
            let configuration = read_configuration(sync.configuration)?;
            Message::Sync {
                start: StartId::new(Boot::new(sync.start_boot), sync.start_number),
                sync: match sync.cut {
                    Some(cut) => Sync::Full { configuration, cut: cut.indexes },
                    None => Sync::Compact { configuration },
                },
            }
        }
        pb::frame::Message::Forward(forward) => Message::Forward {
            configuration: read_configuration(forward.configuration)?,
            origin: Rank::new(forward.origin),
            first: forward.first,
            entries: read_entries(forward.entries)?,
        },
        pb::frame::Message::Progress(progress) => Message::Progress {
            configuration: read_configuration(progress.configuration)?,
            delivered: progress.delivered,
            position: progress.position,
            stable: progress.stable,
        },
    };
    Ok((frame.number, message))
}

fn read_configuration(id: Option<pb::ConfigurationId>) -> Result<ConfigurationId, Malformed> {
    let id = id.ok_or_else(|| Malformed::new("configuration", "is missing"))?;
    Ok(ConfigurationId::new(id.counter, id.digest))
}

fn read_entries(entries: Vec<pb::Entry>) -> Result<Vec<Entry>, Malformed> {
    entries.into_iter().map(read_entry).collect()
}

fn read_entry(entry: pb::Entry) -> Result<Entry, Malformed> {
    use pb::entry::Entry as Written;
    let entry = entry.entry.ok_or_else(|| Malformed::new("entry", "is missing"))?;
    let payload = match entry {
        Written::Multicast(multicast) => Payload::Multicast {
            connection: multicast.connection,
            number: multicast.number,
            group: wire::group_name(&multicast.group, "multicast.group")?,
            bytes: multicast.payload,
            terms: Terms {
                level: if multicast.safe { Level::Safe } else { Level::Agreed },
                only_in: multicast.only_in.map(|id| GroupViewId {
                    configuration: ConfigurationId::new(id.counter, id.digest),
                    position: multicast.only_in_position,
                }),
                report: multicast.report,
            },
        },
        Written::Join(join) => Payload::Join {
            connection: join.connection,
            name: wire::parse(&join.name, "join.name")?,
            groups: read_groups(&join.groups, "join.groups")?,
        },
        Written::Leave(leave) => Payload::Leave {
            connection: leave.connection,
            groups: read_groups(&leave.groups, "leave.groups")?,
        },
        Written::Stopped(stopped) => Payload::Stopped {
            connection: stopped.connection,
            groups: read_groups(&stopped.groups, "stopped.groups")?,
        },
        Written::State(state) => read_state(state)?,
        Written::Uninformed(uninformed) => Payload::Uninformed {
            connection: uninformed.connection,
            groups: uninformed.groups.iter().map(read_group_at).collect::<Result<_, _>>()?,
        },
        Written::Gone(gone) => Payload::Gone { connection: gone.connection },
        Written::Rows(rows) => {
            Payload::Table(Table::Rows(rows.rows.iter().map(read_row).collect::<Result<_, _>>()?))
        }
        Written::TableEnd(end) => {
            Payload::Table(Table::End { class: end.class.into_iter().map(Rank::new).collect() })
        }
        Written::Order(order) => {
            let run = |run: pb::Run| Run { origin: Rank::new(run.origin), upto: run.upto };
            return Ok(Entry::Order(order.runs.into_iter().map(run).collect()));
        }
    };
    Ok(Entry::Payload(payload))
}

fn read_state(state: pb::EntryState) -> Result<Payload, Malformed> {
    let configuration = read_configuration(state.configuration)?;
    let class = state.class.iter().map(|process| wire::parse(process, "state.class"));
    let class: Arc<[ProcessId]> = class.collect::<Result<_, _>>()?;
    Ok(Payload::State {
        connection: state.connection,
        group: wire::group_name(&state.group, "state.group")?,
        view: GroupViewId { configuration, position: state.position },
        part: state.part,
        class: (!class.is_empty()).then_some(class),
    })
}

fn read_group_at(at: &pb::GroupAt) -> Result<(GroupName, GroupViewId), Malformed> {
    let configuration = read_configuration(at.configuration)?;
    let group = wire::group_name(&at.group, "uninformed.group")?;
    Ok((group, GroupViewId { configuration, position: at.position }))
}

fn read_row(row: &pb::Row) -> Result<Row, Malformed> {
    Ok(Row {
        daemon: Rank::new(row.daemon),
        connection: row.connection,
        name: wire::parse(&row.name, "rows.name")?,
        groups: read_groups(&row.groups, "rows.groups")?,
        views: row.views.iter().map(read_row_view).collect::<Result<_, _>>()?,
    })
}

fn write_row_view((place, view): &(u32, GroupViewId)) -> pb::RowView {
    let configuration = Some(write_configuration(view.configuration));
    pb::RowView { place: *place, configuration, position: view.position }
}

fn read_row_view(view: &pb::RowView) -> Result<(u32, GroupViewId), Malformed> {
    let configuration = read_configuration(view.configuration)?;
    Ok((view.place, GroupViewId { configuration, position: view.position }))
}

fn read_groups(texts: &[String], field: &str) -> Result<Arc<[GroupName]>, Malformed> {
    texts.iter().map(|text| wire::group_name(text, field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    fn groups(names: &[&str]) -> Arc<[GroupName]> {
        names.iter().map(|name| GroupName::new(name).unwrap()).collect()
    }

    fn every_entry() -> Vec<Entry> {
        let (name, bytes) = ("p".parse().unwrap(), Bytes::from_static(b"hello"));
        let group = GroupName::new("g").unwrap();
        let (daemon, both) = (Rank::new(1), groups(&["g", "h"]));
        let configuration = ConfigurationId::new(3, 0xfeed);
        let only_in = Some(GroupViewId { configuration, position: 5 });
        let multicast = |number, terms| {
            let (group, bytes) = (group.clone(), bytes.clone());
            Payload::Multicast { connection: 1, number, group, bytes, terms }
        };
        let view = GroupViewId { configuration, position: 9 };
        let state = |class| {
            let (group, part) = (group.clone(), Bytes::from_static(b"part"));
            Payload::State { connection: 1, group, view, part, class }
        };
        let row = Row { daemon, connection: 3, name, groups: Arc::clone(&both), views: [(1, view)].into() };
        vec![
            Entry::Payload(multicast(7, Terms::default())),
            Entry::Payload(multicast(8, Terms { level: Level::Safe, only_in, report: true })),
            Entry::Payload(Payload::Join { connection: 1, name, groups: Arc::clone(&both) }),
            Entry::Payload(Payload::Leave { connection: 1, groups: both }),
            Entry::Payload(Payload::Stopped { connection: 1, groups: groups(&["strict:g"]) }),
            Entry::Payload(state(Some(["m-1#7/1".parse().unwrap()].into()))),
            Entry::Payload(state(None)),
            Entry::Payload(Payload::Uninformed { connection: 1, groups: [(group.clone(), view)].into() }),
            Entry::Payload(Payload::Gone { connection: 1 }),
            Entry::Payload(Payload::Table(Table::Rows([row].into()))),
            Entry::Payload(Payload::Table(Table::End { class: [Rank::new(0), daemon].into() })),
            Entry::Order([Run { origin: daemon, upto: 9 }, Run { origin: Rank::new(0), upto: 2 }].into()),
        ]
    }

    fn every_message() -> Vec<Message> {
        let configuration = ConfigurationId::new(4, 0xbeef);
        let start = StartId::new(Boot::new(7), 3);
        vec![
            Message::Entries { configuration, first: 5, stable: 2, entries: every_entry() },
            Message::Sync { start, sync: Sync::Full { configuration, cut: vec![4, 0, 9] } },
            Message::Sync { start, sync: Sync::Full { configuration, cut: Vec::new() } },
            Message::Sync { start, sync: Sync::Compact { configuration } },
            Message::Forward { configuration, origin: Rank::new(2), first: 1, entries: every_entry() },
            Message::Progress { configuration, delivered: vec![1, 2, 3], position: 6, stable: 1 },
        ]
    }

    /// The frame that the peer makes of the parts.
    fn sent(number: u64, message: &Message) -> pb::Frame {
        let parts = numbered(number, encode(message)).concat();
        pb::OpenRequest::decode(&parts[..]).unwrap().frames.remove(0)
    }

    #[test]
    fn every_message_reads_back() {
        for message in every_message() {
            assert_eq!(read(sent(12, &message)), Ok((12, message)));
        }
    }

    #[test]
    fn corrupted_frames_are_refused_or_read_back() {
        let samples: Vec<_> = (1..).zip(every_message()).map(|(number, it)| sent(number, &it)).collect();
        fuzz::messages(fuzz::target!(), &samples, |frame| match read(frame) {
            Ok((number, message)) => {
                assert_eq!(read(sent(number, &message)), Ok((number, message)));
                true
            }
            Err(_) => false,
        });
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        let field = |message| read(pb::Frame { number: 1, message }).err().map(|malformed| malformed.field);
        let entries = |entry| {
            let configuration = Some(pb::ConfigurationId::default());
            let entries = vec![pb::Entry { entry }];
            Some(pb::frame::Message::Entries(pb::Entries {
                configuration,
                entries,
                ..pb::Entries::default()
            }))
        };
        let join = |name: &str, group: &str| {
            let (name, groups) = (name.to_owned(), vec![group.to_owned()]);
            entries(Some(pb::entry::Entry::Join(pb::EntryJoin { connection: 1, name, groups })))
        };
        let multicast = pb::entry::Entry::Multicast(pb::EntryMulticast::default());
        let rows = pb::EntryRows { rows: vec![pb::Row::default()] };
        for (message, wanted) in [
            (None, "message"),
            (Some(pb::frame::Message::Sync(pb::Sync::default())), "configuration"),
            (Some(pb::frame::Message::Progress(pb::Progress::default())), "configuration"),
            (entries(None), "entry"),
            (entries(Some(multicast)), "multicast.group"),
            (entries(Some(pb::entry::Entry::Rows(rows))), "rows.name"),
            (join("No Name", "g"), "join.name"),
            (join("p", ""), "join.groups"),
        ] {
            assert_eq!(field(message).as_deref(), Some(wanted));
        }
    }
}
