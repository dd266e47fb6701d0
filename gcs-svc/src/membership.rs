//! This daemon at the membership service: one stream to one of its servers, and to the next one when that ends.
//!
//! Each attachment says which start change and which configuration the machine was told last, so that whoever the
//! server is, ids go on increasing [Moshe:fail-over]. While there is no server, the daemon stays in its configuration; if
//! it misses a member as well, it does not take it for the primary component any more: there may be another one by now.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use detector::{Params, Report};
use gcs_core::{Input, Notice};
use model::{Address, Ballot, Ballots, Boot, Configuration, ConfigurationId, DaemonId, Name, StartId};
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_client::MembershipServiceClient;
use svc_kit::dial::{Backoff, DialError, Wire};
use svc_kit::driver::Stopped;
use svc_kit::shutdown::Failure;
use svc_kit::status;
use svc_kit::tls::Role;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::Enrolment;
use crate::metrics::Measures;
use crate::register::{self, Silence};
use crate::state::State;

/// How long servers may take to say which lives of this daemon they know. Whoever was not told in time and takes a boot
/// that is too small is told so when it attaches.
const QUESTION_MAX: Duration = Duration::from_secs(1);

/// The membership service, as the settings name it.
pub struct Membership {
    /// Its servers, the preferred one first.
    pub servers: Vec<Address>,
    /// The cluster that this daemon belongs to.
    pub cluster: Name,
    /// When a silent server counts as gone.
    pub detection: Params,
    /// How to call them.
    pub wire: Wire,
    /// Told of changes.
    pub measures: Arc<Measures>,
}

/// What the machine was told last.
#[derive(Default)]
struct Told {
    start: Option<StartId>,
    configuration: Option<Configuration>,
    /// Whether the start change came after the configuration.
    is_changing: bool,
    /// How often it has attached.
    attempts: u64,
    /// What it remembers of primary components, if it votes for them.
    state: Option<State>,
}

/// Why the daemon is not attached.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{}", .0.message())]
    Call(#[from] Status),
    #[error("the server ended the call")]
    Ended,
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
    #[error("not a notice: {0}")]
    Malformed(&'static str),
    #[error("stopped")]
    Stopped(#[from] Stopped),
}

impl Lost {
    /// Whether every further attempt is bound to end in the same way.
    fn is_final(&self) -> bool {
        match self {
            Lost::Call(status) => matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument),
            Lost::Dial(DialError::Address(_)) => true,
            Lost::Dial(DialError::Unreachable { .. })
            | Lost::Ended
            | Lost::Silent(_)
            | Lost::Malformed(_)
            | Lost::Stopped(_) => false,
        }
    }
}

impl Lost {
    /// Whether an operator keeps the daemon out.
    fn is_barred(&self) -> bool {
        let Lost::Call(status) = self else { return false };
        status::reason(status).as_deref() == Some("BARRED")
    }

    /// Another life of `me` that is attached in its place. Of two processes with one name, the one that started later
    /// stays: if the other one came back, it would be its turn to be sent away, and so on.
    fn superseded_by(&self, me: DaemonId) -> Option<DaemonId> {
        let Lost::Call(status) = self else { return None };
        let by: DaemonId = status::fact(status, "by")?.parse().ok()?;
        (status.code() == Code::Aborted && by != me).then_some(by)
    }
}

impl Membership {
    /// The boot of the daemon called `name` that starts at `boot` by its clock: greater than those of its lives that are
    /// attached. After a clock was set back it would be taken for a life that is over.
    pub async fn next_boot(&self, name: Name, boot: Boot) -> Boot {
        let known = async {
            for server in &self.servers {
                if let Some(known) = self.known(server, name).await {
                    return known.into_iter().max();
                }
            }
            None
        };
        let known = timeout(QUESTION_MAX, known).await.ok().flatten().filter(|known| *known >= boot);
        let Some(known) = known else { return boot };
        tracing::warn!(reason = "CLOCK_SET_BACK", %name, known = known.number(), "a later life of this daemon is known");
        Boot::new(known.number().saturating_add(1))
    }

    /// The lives of `name` that are attached, if the server answers.
    async fn known(&self, server: &Address, name: Name) -> Option<Vec<Boot>> {
        let channel = self.wire.connect(server, Role::Membership).await.ok()?;
        let request = pb::GetMembershipRequest {};
        let answer = MembershipServiceClient::new(channel).get_membership(request).await.ok()?.into_inner();
        let daemons = answer.daemons.iter().filter_map(|it| it.daemon.parse::<DaemonId>().ok());
        Some(daemons.filter(|it| it.name() == name).map(|it| it.boot()).collect())
    }

    /// Stands for a daemon until its `stop` is cancelled, and then leaves.
    pub async fn follow(self, enrolment: Enrolment, state: Option<State>) -> Result<(), Failure> {
        let mut told = Told { state, ..Told::default() };
        let mut backoff = Backoff::new();
        tracing::info!(servers = ?self.servers, "looking for the membership service");
        loop {
            for server in &self.servers {
                let Err(lost) = self.attach(server, &enrolment, &mut told, &mut backoff).await;
                if enrolment.stop.is_cancelled() {
                    return Ok(());
                }
                if lost.is_barred() && !enrolment.barred.send_replace(true) {
                    tracing::warn!(%server, reason = %lost, "kept out of the cluster: processes are sent elsewhere");
                }
                if let Lost::Stopped(_) = lost {
                    return Err(Failure::Ended("the machine"));
                }
                if let Some(by) = lost.superseded_by(enrolment.daemon) {
                    tracing::error!(daemon = %enrolment.daemon, %by, reason = "SUPERSEDED", "another daemon has this name");
                    return Err(Failure::Superseded(by.to_string()));
                }
                if lost.is_final() {
                    return Err(Failure::Unreachable(format!("the membership server {server}: {lost}")));
                }
                tracing::debug!(%server, reason = %lost, "not attached to the membership service");
            }
            if told.may_be_left_behind(&enrolment.reach.borrow()) {
                tracing::warn!(
                    "neither a membership server nor some member can be reached: not the primary component"
                );
                let secondary = Input::Membership(Notice::Secondary);
                enrolment.machine.send(secondary).await.map_err(|_| Failure::Ended("the machine"))?;
                told.leave_primary();
            }
            enrolment.stop.run_until_cancelled(backoff.pause()).await;
        }
    }

    /// Attaches to `server` and hands on what it says, until that ends.
    async fn attach(
        &self,
        server: &Address,
        enrolment: &Enrolment,
        told: &mut Told,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Lost> {
        let opening = timeout(self.detection.ceiling, self.open(server, enrolment, told));
        let opened = enrolment.stop.run_until_cancelled(opening).await.ok_or(Lost::Ended)?;
        let (mut notices, answers) = opened.map_err(|_| Lost::Silent(self.detection.ceiling))??;
        let mut silence = Silence::new(&self.detection);
        let Err(lost) =
            tell(&mut notices, &answers, &mut silence, enrolment, told, (server, backoff, &self.measures))
                .await;
        if !enrolment.stop.is_cancelled() && !lost.is_barred() {
            tracing::warn!(%server, reason = %lost, "lost the membership service");
        }
        Err(lost)
    }

    async fn open(
        &self,
        server: &Address,
        enrolment: &Enrolment,
        told: &mut Told,
    ) -> Result<(Streaming<pb::RegisterResponse>, mpsc::Sender<pb::Attempted>), Lost> {
        let channel = self.wire.connect(server, Role::Membership).await?;
        let members = told.configuration.as_ref().map_or(0, |it| it.members.len());
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        let hello = pb::RegisterHello {
            cluster: self.cluster.to_string(),
            daemon: enrolment.daemon.to_string(),
            address: enrolment.address.to_string(),
            last_start: told.start.map(|start| start.to_string()).unwrap_or_default(),
            last_configuration: told.configuration.as_ref().map(|it| it.id.to_string()).unwrap_or_default(),
            last_members: members,
            changing: told.is_changing,
            attempt: told.attempts,
            version: proto::MEMBERSHIP_VERSION,
            ballots: told.state.as_ref().map(|state| write_ballots(state.ballots())),
        };
        told.attempts += 1;
        let (reach, stop) = (enrolment.reach.clone(), enrolment.stop.clone());
        let (answer, answers) = mpsc::channel(1);
        let requests = register::requests(hello, reach, answers, self.detection.period, stop);
        let notices = MembershipServiceClient::new(channel).register(requests).await?.into_inner();
        Ok((notices, answer))
    }
}

/// Tells the machine every notice, until the server is silent. When the daemon leaves, it says so, and the server ends
/// the call.
async fn tell(
    notices: &mut Streaming<pb::RegisterResponse>,
    answers: &mpsc::Sender<pb::Attempted>,
    silence: &mut Silence,
    enrolment: &Enrolment,
    told: &mut Told,
    (server, backoff, measures): (&Address, &mut Backoff, &Measures),
) -> Result<Infallible, Lost> {
    let mut attached = false;
    loop {
        let response = tokio::select! {
            biased;
            response = notices.message() => response?.ok_or(Lost::Ended)?,
            silent = silence.broken() => return Err(Lost::Silent(silent)),
        };
        silence.heard();
        backoff.reset();
        if !std::mem::replace(&mut attached, true) {
            tracing::info!(%server, "attached to the membership service");
            enrolment.barred.send_replace(false);
        }
        let notice = match read(response)? {
            Heard::Notice(notice) => notice,
            Heard::Beat => {
                silence.beat();
                continue;
            }
            Heard::Attempt(ballot) => {
                let configuration = ballot.id.to_string();
                let agrees = told.agree(ballot).await;
                // If nobody takes the answer, the stream is about to end.
                let _ = answers.send(pb::Attempted { configuration, agrees }).await;
                continue;
            }
        };
        let (start, configuration) = match &notice {
            Notice::StartChange { start, .. } => (Some(*start), None),
            Notice::View(configuration) => (None, Some(configuration.clone())),
            Notice::Secondary => (None, None),
        };
        if start.is_some() {
            measures.begin_change();
        }
        enrolment.machine.send(Input::Membership(notice)).await?;
        told.start = start.or(told.start);
        told.is_changing = start.is_some();
        if let Some(configuration) = configuration {
            told.form(configuration.id).await;
            told.configuration = Some(configuration);
        }
    }
}

impl Told {
    /// Writes down that this daemon agrees to `ballot`. One that cannot votes no more.
    async fn agree(&mut self, ballot: Ballot) -> bool {
        let Some(state) = &mut self.state else { return false };
        let written = state.attempt(ballot).await;
        if let Err(error) = &written {
            tracing::error!(%error, "cannot write down a vote, and votes no more");
            self.state = None;
        }
        written.is_ok()
    }

    /// Whether there may be a later primary component than the one that this daemon is in, given whom it misses. Only
    /// without a membership server: it would say so.
    fn may_be_left_behind(&self, missed: &Report<DaemonId>) -> bool {
        let misses_any = |it: &Configuration| it.members.keys().any(|member| missed.contains_key(member));
        self.configuration.as_ref().is_some_and(|it| it.primary && misses_any(it))
    }

    /// The configuration is not the primary component, so far as is known. The next server is to make a new one, even
    /// if nobody has left.
    fn leave_primary(&mut self) {
        if let Some(configuration) = &mut self.configuration {
            configuration.primary = false;
        }
        self.is_changing = true;
    }

    /// All have agreed to the configuration `id`. If that cannot be written down, it stays in doubt.
    async fn form(&mut self, id: ConfigurationId) {
        if let Some(state) = &mut self.state
            && let Err(error) = state.form(id).await
        {
            tracing::error!(%error, "cannot write down that a primary component was formed");
        }
    }
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Notice(Notice),
    Attempt(Ballot),
    Beat,
}

fn read(response: pb::RegisterResponse) -> Result<Heard, Lost> {
    match response.notice.ok_or(Lost::Malformed("it is empty"))? {
        pb::register_response::Notice::StartChange(change) => {
            let start = parse(&change.start, "start_change.start")?;
            let endpoint = |it: &pb::Endpoint| {
                Ok((parse(&it.daemon, "start_change.proposed.daemon")?, Address::new(&it.address)))
            };
            let proposed: Result<BTreeMap<_, _>, Lost> = change.proposed.iter().map(endpoint).collect();
            Ok(Heard::Notice(Notice::StartChange { start, proposed: proposed? }))
        }
        pb::register_response::Notice::View(view) => {
            let id: ConfigurationId = parse(&view.id, "view.id")?;
            let member = |it: &pb::Member| {
                Ok((parse(&it.daemon, "view.members.daemon")?, parse(&it.start, "view.members.start")?))
            };
            let members: Result<BTreeMap<_, _>, Lost> = view.members.iter().map(member).collect();
            let configuration = Configuration::new(id.counter(), members?).with_primary(view.primary);
            if configuration.id != id {
                return Err(Lost::Malformed("view.id does not fit its members"));
            }
            Ok(Heard::Notice(Notice::View(configuration)))
        }
        pb::register_response::Notice::Beat(pb::Beat {}) => Ok(Heard::Beat),
        pb::register_response::Notice::Attempt(ballot) => {
            let member = |name: &String| parse(name, "attempt.members");
            let members: Result<_, Lost> = ballot.members.iter().map(member).collect();
            let id = parse(&ballot.configuration, "attempt.configuration")?;
            Ok(Heard::Attempt(Ballot { id, members: members? }))
        }
    }
}

fn write_ballots(ballots: &Ballots) -> pb::Ballots {
    let write = |ballot: &Ballot| pb::Ballot {
        configuration: ballot.id.to_string(),
        members: ballot.members.iter().map(ToString::to_string).collect(),
    };
    pb::Ballots {
        formed: ballots.formed.as_ref().map(write),
        attempts: ballots.attempts.iter().map(write).collect(),
    }
}

fn parse<T: FromStr>(text: &str, field: &'static str) -> Result<T, Lost> {
    text.parse().map_err(|_| Lost::Malformed(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(id: &str, members: &[(&str, &str)]) -> pb::RegisterResponse {
        let member = |(daemon, start): &(&str, &str)| pb::Member {
            daemon: (*daemon).to_owned(),
            start: (*start).to_owned(),
        };
        let members = members.iter().map(member).collect();
        let view = pb::Configuration { id: id.to_owned(), members, primary: false };
        pb::RegisterResponse { notice: Some(pb::register_response::Notice::View(view)) }
    }

    #[test]
    fn a_view_is_read() {
        let (daemon, start) = ("a#1".parse().unwrap(), "1:3".parse().unwrap());
        let configuration = Configuration::new(4, BTreeMap::from([(daemon, start)]));
        let read = read(view(&configuration.id.to_string(), &[("a#1", "1:3")])).unwrap();
        assert_eq!(read, Heard::Notice(Notice::View(configuration)));
    }

    #[test]
    fn what_is_not_a_notice_says_which_field() {
        let change = pb::StartChange { start: "1:1".into(), proposed: vec![pb::Endpoint::default()] };
        let change = pb::register_response::Notice::StartChange(change);
        for (response, field) in [
            (pb::RegisterResponse::default(), "it is empty"),
            (pb::RegisterResponse { notice: Some(change) }, "start_change.proposed.daemon"),
            (view("4", &[]), "view.id"),
            (view("v4.beef", &[("a", "1:1")]), "view.members.daemon"),
            (view("v4.beef", &[("a#1", "1")]), "view.members.start"),
            (view("v4.beef", &[("a#1", "1:1")]), "view.id does not fit its members"),
        ] {
            let Err(Lost::Malformed(wrong)) = read(response) else { panic!("{field} is malformed") };
            assert_eq!(wrong, field);
        }
    }

    #[test]
    fn another_life_ends_this_one_and_another_stream_does_not() {
        let me: DaemonId = "a#1".parse().unwrap();
        let superseded = |by: &str| {
            let by = ("by", by.to_owned());
            Lost::Call(status::because_of(Code::Aborted, "SUPERSEDED", by, String::new()))
        };
        assert_eq!(superseded("a#2").superseded_by(me), Some("a#2".parse().unwrap()));
        assert_eq!(superseded("a#1").superseded_by(me), None);
        assert_eq!(Lost::Call(Status::aborted("replaced")).superseded_by(me), None);
        assert_eq!(Lost::Ended.superseded_by(me), None);
        let barred = Lost::Call(status::unavailable("BARRED", "in maintenance", Duration::ZERO));
        assert!(barred.is_barred() && !barred.is_final() && !superseded("a#2").is_barred());
    }

    #[test]
    fn who_misses_a_member_may_be_left_behind_by_a_primary_component() {
        let members = ["a#1", "b#1"].map(|it| (it.parse().unwrap(), "1:3".parse().unwrap()));
        let primary = Configuration::new(4, members.into()).with_primary(true);
        let mut told = Told { configuration: Some(primary), ..Told::default() };
        let silent = detector::Doubted { doubt: detector::Doubt::Cut, silent: Duration::ZERO };
        let misses = |who: &str| Report::from([(who.parse().unwrap(), silent)]);
        assert!(!told.may_be_left_behind(&Report::new()) && !told.may_be_left_behind(&misses("c#1")));
        assert!(told.may_be_left_behind(&misses("b#1")));
        told.leave_primary();
        assert!(told.is_changing && !told.may_be_left_behind(&misses("b#1")), "once");
    }

    #[test]
    fn a_refusal_is_final_and_an_outage_is_not() {
        for (code, is_final) in [
            (Code::FailedPrecondition, true),
            (Code::InvalidArgument, true),
            (Code::Unavailable, false),
            (Code::Aborted, false),
            (Code::Unknown, false),
        ] {
            assert_eq!(Lost::Call(Status::new(code, "")).is_final(), is_final, "{code:?}");
        }
        assert!(!Lost::Ended.is_final());
    }
}
