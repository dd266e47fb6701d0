//! Identifiers: newtypes with private fields and one short, stable spelling each.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::GroupViewId;

/// Why a text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameError;

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name is 1 to 31 characters, each a lower-case letter, a digit, '-', '_' or '.'")
    }
}

impl core::error::Error for NameError {}

/// The configured name of a process, such as `machine-1`: 1 to 31 lower-case letters, digits, `-`, `_` or `.`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; Name::LEN_MAX + 1]);

impl Ord for Name {
    /// The order of the texts. Every map of ids asks for it all the time, so eight bytes are compared at once.
    fn cmp(&self, other: &Name) -> Ordering {
        self.words().cmp(other.words())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Name {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 31;

    /// The name that `text` spells. For constants: a text that is not a name does not compile there.
    ///
    /// # Panics
    /// If `text` is not a name.
    pub const fn literal(text: &str) -> Name {
        match Name::read(text.as_bytes()) {
            Some(name) => name,
            None => panic!("not a name"),
        }
    }

    const fn read(text: &[u8]) -> Option<Name> {
        if text.is_empty() || text.len() > Name::LEN_MAX {
            return None;
        }
        let mut bytes = [0; Name::LEN_MAX + 1];
        let mut at = 0;
        while at < text.len() {
            if !matches!(text[at], b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.') {
                return None;
            }
            bytes[at] = text[at];
            at += 1;
        }
        bytes[Name::LEN_MAX] = text.len() as u8;
        Some(Name(bytes))
    }

    fn words(&self) -> impl Iterator<Item = u64> {
        self.0.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0[..usize::from(self.0[Name::LEN_MAX])]).unwrap_or_default()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::read(text.as_bytes()).ok_or(NameError)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which life of a process this is: strictly greater after each restart under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Boot(u64);

impl Boot {
    /// A boot number. Services use the start time in microseconds.
    pub const fn new(number: u64) -> Boot {
        Boot(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// One life of one `gcs-svc` daemon. A restarted daemon is somebody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaemonId {
    name: Name,
    boot: Boot,
}

impl DaemonId {
    /// The daemon called `name` in its life `boot`.
    pub const fn new(name: Name, boot: Boot) -> DaemonId {
        DaemonId { name, boot }
    }

    /// The configured name, the same in every life.
    pub const fn name(&self) -> Name {
        self.name
    }

    /// Which life.
    pub const fn boot(&self) -> Boot {
        self.boot
    }
}

/// One life of one `membership-svc` server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    name: Name,
    boot: Boot,
}

impl ServerId {
    /// The membership server called `name` in its life `boot`.
    pub const fn new(name: Name, boot: Boot) -> ServerId {
        ServerId { name, boot }
    }

    /// The configured name, the same in every life.
    pub const fn name(&self) -> Name {
        self.name
    }

    /// Which life.
    pub const fn boot(&self) -> Boot {
        self.boot
    }
}

/// Why a text does not spell an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpellingError;

impl fmt::Display for SpellingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the spelling of this identifier")
    }
}

/// Identifiers are spelt the same everywhere: logs, scripts, traces and the command line.
macro_rules! spelt {
    ($type:ty, |$it:ident| $format:expr, |$text:ident| $parse:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $it = self;
                f.write_fmt($format)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = SpellingError;

            fn from_str($text: &str) -> Result<$type, SpellingError> {
                fn read($text: &str) -> Option<$type> {
                    $parse
                }
                read($text).ok_or(SpellingError)
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_string())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn number_after(text: &str, separator: char) -> Option<(&str, u64)> {
    let (head, tail) = text.rsplit_once(separator)?;
    Some((head, tail.parse().ok()?))
}

spelt!(DaemonId, |it| format_args!("{}#{}", it.name, it.boot.0), |text| {
    let (name, boot) = number_after(text, '#')?;
    Some(DaemonId { name: name.parse().ok()?, boot: Boot(boot) })
});

spelt!(ServerId, |it| format_args!("{}#{}", it.name, it.boot.0), |text| {
    let (name, boot) = number_after(text, '#')?;
    Some(ServerId { name: name.parse().ok()?, boot: Boot(boot) })
});

/// One attachment of a process to its daemon. Whoever attaches again is somebody else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    daemon: DaemonId,
    connection: u32,
}

impl ProcessId {
    /// The process on `daemon`'s connection number `connection`.
    pub const fn new(daemon: DaemonId, connection: u32) -> ProcessId {
        ProcessId { daemon, connection }
    }

    /// The daemon that the process is attached to.
    pub const fn daemon(&self) -> DaemonId {
        self.daemon
    }

    /// The number of the connection at that daemon, counted from 1 and never used twice in one life of it.
    pub const fn connection(&self) -> u32 {
        self.connection
    }
}

spelt!(ProcessId, |it| format_args!("{}/{}", it.daemon, it.connection), |text| {
    let (daemon, connection) = number_after(text, '/')?;
    Some(ProcessId { daemon: daemon.parse().ok()?, connection: connection.try_into().ok()? })
});

/// The locally unique id of a start change, strictly increasing over the life of a daemon [KK:start-id].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartId {
    boot: Boot,
    number: u64,
}

impl StartId {
    /// Start change number `number` of the life `boot`.
    pub const fn new(boot: Boot, number: u64) -> StartId {
        StartId { boot, number }
    }

    /// The id of the next start change in the same life.
    pub const fn next(self) -> StartId {
        StartId { boot: self.boot, number: self.number + 1 }
    }

    /// Which life of the daemon.
    pub const fn boot(self) -> Boot {
        self.boot
    }

    /// The number within that life, from 1.
    pub const fn number(self) -> u64 {
        self.number
    }
}

spelt!(StartId, |it| format_args!("{}:{}", it.boot.0, it.number), |text| {
    let (boot, number) = number_after(text, ':')?;
    Some(StartId { boot: Boot(boot.parse().ok()?), number })
});

/// The id of a configuration: a counter that grows along every daemon's history, and a digest of members and start
/// ids that tells concurrent configurations apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigurationId {
    counter: u64,
    digest: u64,
}

impl ConfigurationId {
    /// The id with this counter and digest.
    pub const fn new(counter: u64, digest: u64) -> ConfigurationId {
        ConfigurationId { counter, digest }
    }

    /// The counter: what people call "the view number".
    pub const fn counter(self) -> u64 {
        self.counter
    }

    /// The digest of members, start ids, and whether it is the primary component.
    pub const fn digest(self) -> u64 {
        self.digest
    }
}

spelt!(ConfigurationId, |it| format_args!("v{}.{:x}", it.counter, it.digest), |text| {
    let (counter, digest) = text.strip_prefix('v')?.split_once('.')?;
    Some(ConfigurationId { counter: counter.parse().ok()?, digest: u64::from_str_radix(digest, 16).ok()? })
});

/// A message: the `number`-th multicast of its sender, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    sender: ProcessId,
    number: u64,
}

impl MessageId {
    /// The `number`-th multicast of `sender`.
    pub const fn new(sender: ProcessId, number: u64) -> MessageId {
        MessageId { sender, number }
    }

    /// Who sent it.
    pub const fn sender(&self) -> ProcessId {
        self.sender
    }

    /// Which of the sender's multicasts.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

spelt!(MessageId, |it| format_args!("{}!{}", it.sender, it.number), |text| {
    let (sender, number) = number_after(text, '!')?;
    Some(MessageId { sender: sender.parse().ok()?, number })
});

/// The name of a lightweight group: 1 to 255 bytes of text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupName(Arc<str>);

impl GroupName {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 255;

    /// The group called `name`, or nothing if that is empty or too long.
    pub fn new(name: &str) -> Option<GroupName> {
        (1..=GroupName::LEN_MAX).contains(&name.len()).then(|| GroupName(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the group is strict: what a member sends is delivered in the view in which it was sent
    /// [KK:sending-view], for which members are blocked while a view changes. Its name begins with `strict:` or
    /// `strict+state:`. The mode is a part of the name so that no two members can disagree on it, not even members
    /// that meet when a partition heals.
    pub fn is_strict(&self) -> bool {
        self.modes().any(|mode| mode == "strict")
    }

    /// Whether members that come from different views bring each other up to date: the name begins with `state:` or
    /// `strict+state:`.
    pub fn transfers_state(&self) -> bool {
        self.modes().any(|mode| mode == "state")
    }

    fn modes(&self) -> impl Iterator<Item = &str> {
        let prefix = self.0.split_once(':').map_or("", |(prefix, _)| prefix);
        let known = matches!(prefix, "strict" | "state" | "strict+state");
        prefix.split('+').filter(move |_| known)
    }
}

/// A content unit: 1 to 127 lower-case letters, digits, `-`, `_` or `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UnitId(Arc<str>);

impl<'de> Deserialize<'de> for UnitId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<UnitId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that does not spell the id of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitIdError;

impl fmt::Display for UnitIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a unit is called by 1 to 127 of a-z, 0-9, `-`, `_` and `.`")
    }
}

impl core::error::Error for UnitIdError {}

impl FromStr for UnitId {
    type Err = UnitIdError;

    fn from_str(text: &str) -> Result<UnitId, UnitIdError> {
        UnitId::new(text).ok_or(UnitIdError)
    }
}

impl UnitId {
    /// The longest id, in bytes.
    pub const LEN_MAX: usize = 127;

    /// The unit called `id`, or nothing if that is not a legal spelling.
    pub fn new(id: &str) -> Option<UnitId> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        ((1..=UnitId::LEN_MAX).contains(&id.len()) && id.bytes().all(allowed)).then(|| UnitId(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shown_as_text {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

shown_as_text!(GroupName, UnitId);

/// A session, chosen once by the gateway that opens it, so that a repeated open is the same open. 128 random bits,
/// spelt as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// The session with these bits.
    pub const fn new(bits: u128) -> SessionId {
        SessionId(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

spelt!(SessionId, |it| format_args!("{:032x}", it.0), |text| {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten().map(SessionId)
});

/// Who may serve a session: of two servers that both believe they are primary, the greater fence is right
/// [FK:one-primary]. The view in which it was given out comes first: views grow, also for a group whose members have
/// all been replaced and count from the beginning, and no two sides of a partition share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    view: GroupViewId,
    counter: u64,
}

impl Fence {
    /// Below every fence that a primary has.
    pub const NONE: Fence = Fence::new(GroupViewId::NONE, 0);

    /// The fence with this counter, given out in `view` of the content group.
    pub const fn new(view: GroupViewId, counter: u64) -> Fence {
        Fence { view, counter }
    }

    /// The counter: strictly greater with each new primary that one unit database appoints.
    pub const fn counter(self) -> u64 {
        self.counter
    }

    /// The view in which it was given out.
    pub const fn view(self) -> GroupViewId {
        self.view
    }
}

spelt!(Fence, |it| format_args!("f{}@{}", it.counter, it.view), |text| {
    let (counter, view) = text.strip_prefix('f')?.split_once('@')?;
    let (configuration, position) = number_after(view, '+')?;
    let view = GroupViewId { configuration: configuration.parse().ok()?, position };
    Some(Fence { view, counter: counter.parse().ok()? })
});

/// A 64-bit FNV-1a fingerprint of bytes: for identifiers and traces, not for security.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(u64);

impl Digest {
    /// The fingerprint of nothing.
    pub const EMPTY: Digest = Digest(0xcbf2_9ce4_8422_2325);

    /// The fingerprint of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::EMPTY.and(bytes)
    }

    /// The fingerprint of what this covers followed by `bytes`.
    #[must_use]
    pub fn and(self, bytes: &[u8]) -> Digest {
        Digest(bytes.iter().fold(self.0, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// The fingerprint with these bits.
    pub const fn new(bits: u64) -> Digest {
        Digest(bits)
    }

    /// The 64 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_reads_back() {
        let daemon = DaemonId::new("machine-1".parse().unwrap(), Boot::new(7));
        let process = ProcessId::new(daemon, 3);
        let configuration = ConfigurationId::new(4, 0xbeef);
        assert_eq!(process.to_string(), "machine-1#7/3");
        assert_eq!(process.to_string().parse(), Ok(process));
        let message = MessageId::new(process, 12);
        assert_eq!(message.to_string().parse(), Ok(message));
        let start = StartId::new(Boot::new(7), 9);
        assert_eq!(start.to_string().parse(), Ok(start));
        let fence = Fence::new(GroupViewId { configuration, position: 3 }, 5);
        assert_eq!(fence.to_string(), "f5@v4.beef+3");
        assert_eq!(fence.to_string().parse(), Ok(fence));
        let session = SessionId::new(0xabc);
        assert_eq!(session.to_string().parse(), Ok(session));
    }

    #[test]
    fn names_are_short_plain_text() {
        for bad in ["", "Machine", "a b", "über", "a-name-that-is-far-too-long-to-be-one"] {
            assert_eq!(bad.parse::<Name>(), Err(NameError), "{bad:?}");
        }
        assert!(GroupName::new("").is_none());
        assert!(UnitId::new("films/1").is_none());
        assert!(UnitId::new("film-1").is_some());
    }

    #[test]
    fn the_modes_of_a_group_are_in_its_name() {
        let modes = |text: &str| {
            let group = GroupName::new(text).unwrap();
            (group.is_strict(), group.transfers_state())
        };
        assert_eq!(modes("orders"), (false, false));
        assert_eq!(modes("strict:orders"), (true, false));
        assert_eq!(modes("state:orders"), (false, true));
        assert_eq!(modes("strict+state:orders"), (true, true));
        assert_eq!(modes("strict"), (false, false));
        assert_eq!(modes("strict+fast:orders"), (false, false));
    }

    #[test]
    fn names_sort_as_text() {
        let texts = ["", "0", "1", "7.", "-", "machine-1", "machine-10", "machine-1-", "machine-2", "z"];
        let longest = "x".repeat(Name::LEN_MAX);
        let texts = texts.into_iter().flat_map(|text| [text.to_string(), (text.to_string() + &longest)]);
        let texts = texts.map(|text| text[..text.len().min(Name::LEN_MAX)].to_string());
        let names: alloc::vec::Vec<Name> = texts.filter_map(|text| text.parse().ok()).collect();
        for (a, b) in names.iter().flat_map(|a| names.iter().map(move |b| (a, b))) {
            assert_eq!(a.cmp(b), a.as_str().cmp(b.as_str()), "{a} {b}");
            assert_eq!(a == b, a.as_str() == b.as_str());
        }
        assert_eq!(Ok(const { Name::literal("machine-1") }), "machine-1".parse());
    }
}
