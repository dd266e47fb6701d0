//! Membership servers that come and go, operators, the primary component, and names that are given twice.

use std::path::Path;

use e2e::deadline::{until, within};
use e2e::program::{Ended, Program, run};
use e2e::rpc::channel;
use e2e::{Bed, Plan, programs};
use handover_cli::cluster::{Protocol, Service};
use model::{Address, Name};
use nix::sys::signal::Signal;
use proto::membership::v1 as pb;
use proto::membership::v1::membership_service_client::MembershipServiceClient;

fn server(number: usize) -> Name {
    Service::Membership.name(number)
}

async fn with_servers(membership_servers: usize, protocol: Protocol) -> Bed {
    Bed::plan(Plan { membership_servers, protocol, ..Plan::default() }).await
}

async fn membership(bed: &Bed, number: usize) -> pb::GetMembershipResponse {
    let mut client = MembershipServiceClient::new(channel(&bed.address(server(number))).await);
    within("the membership", client.get_membership(pb::GetMembershipRequest {})).await.unwrap().into_inner()
}

/// Waits until a server agrees with so many, and all three machines are well in `configuration`.
async fn until_well(
    bed: &Bed,
    number: usize,
    servers: usize,
    configuration: &str,
) -> pb::GetMembershipResponse {
    until("all to be attached as before", async || {
        let seen = membership(bed, number).await;
        let is_well = |it: &pb::DaemonStatus| it.lost.is_empty() && it.configuration == configuration;
        let well = seen.daemons.iter().filter(|it| is_well(it)).count();
        if seen.agrees_with.len() == servers && well == 3 { Ok(seen) } else { Err(format!("{seen:?}")) }
    })
    .await
}

/// The configuration that all three machines are in.
async fn configuration(bed: &mut Bed) -> String {
    let common = bed.until("one configuration of three", |snapshot| {
        let mut daemons = snapshot.up_daemons();
        let first = daemons.next().filter(|it| it.members.len() == 3)?.configuration.clone();
        (daemons.filter(|it| it.configuration == first).count() == 2).then_some(first)
    });
    common.await
}

#[tokio::test(flavor = "multi_thread")]
async fn membership_servers_come_and_go_and_no_configuration_changes() {
    servers_come_and_go(Protocol::Moshe).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_wombat_come_and_go_and_no_configuration_changes() {
    servers_come_and_go(Protocol::Wombat).await;
}

async fn servers_come_and_go(protocol: Protocol) {
    let mut bed = with_servers(3, protocol).await;
    // With Wombat, who leads alone knows the daemons of all.
    let knowing = match protocol {
        Protocol::Moshe => 1..=3,
        Protocol::Wombat => 1..=1,
    };
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    let before = configuration(&mut bed).await;

    // Machine 1 is attached to it.
    bed.kill(&[server(1)]).await;
    until_well(&bed, 2, 2, &before).await;
    viewer.goes_on(2).await;
    assert_eq!(configuration(&mut bed).await, before);
    bed.begin_again(&[server(1)]).await;
    for number in knowing.clone() {
        until_well(&bed, number, 3, &before).await;
    }

    let all = [server(1), server(2), server(3)];
    bed.kill(&all).await;
    viewer.goes_on(2).await;
    assert_eq!(configuration(&mut bed).await, before, "the running configuration goes on");
    bed.begin_again(&all).await;
    for number in knowing {
        let seen = until_well(&bed, number, 3, &before).await;
        assert_eq!(seen.current, None, "there was nothing to agree on");
    }
    viewer.goes_on(2).await;
    assert_eq!(configuration(&mut bed).await, before);
    assert_eq!(viewer.close().await.stretches().len(), 1);
    bed.finish().await;
}

/// `handover membership ARGS`, asking all three servers.
async fn handover(bed: &Bed, args: &[&str]) -> Ended {
    let addresses: Vec<String> = (1..=3).map(|number| bed.address(server(number)).to_string()).collect();
    let ended = run(programs::handover(), |command| {
        command.arg("membership").args(args).args(["--membership", &addresses.join(",")]);
    });
    let ended = ended.await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    ended
}

async fn until_shown(bed: &Bed, args: &[&str], text: &str) -> Ended {
    until(text, async || {
        let ended = handover(bed, args).await;
        if ended.output.iter().any(|line| line.contains(text)) {
            Ok(ended)
        } else {
            Err(format!("{ended:?}"))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_keep_machines_out_and_are_told_who_left_and_why() {
    let mut bed = with_servers(3, Protocol::Moshe).await;
    let viewer = bed.viewer("gradients", 1).await;
    viewer.goes_on(2).await;
    let first = configuration(&mut bed).await;
    let matrix = handover(&bed, &["matrix"]).await;
    assert!(matrix.output.contains(&"2   membership-2   . - .".to_owned()), "{matrix:?}");

    let mut watch = Program::start(programs::handover(), |command| {
        let (first, second) = (bed.address(server(1)), bed.address(server(2)));
        command.args(["membership", "watch", "--membership", &format!("{first},{second}")]);
    });
    watch.says("the configuration", |line| line.contains(&first)).await;
    let evicted = handover(&bed, &["evict", "machine-3"]).await;
    assert_eq!(evicted.output, ["machine-3 is kept out for 1s"]);
    until_shown(&bed, &["history"], "machine-3 excluded: kept out by an operator").await;
    until_shown(&bed, &["history"], "machine-3 joined").await;
    watch.says("who left", |line| line.ends_with("machine-3 excluded: kept out by an operator")).await;
    assert_ne!(configuration(&mut bed).await, first);

    let mut client = MembershipServiceClient::new(channel(&bed.address(server(3))).await);
    for (maintenance, state) in [(true, "kept out: in maintenance"), (false, "well")] {
        let request = pb::SetMaintenanceRequest { name: "machine-2".to_owned(), maintenance };
        within("an answer", client.set_maintenance(request)).await.unwrap();
        until("the state of machine-2", async || {
            let listed = handover(&bed, &["list"]).await;
            let line = listed.output.iter().find(|line| line.starts_with("machine-2")).cloned();
            if line.is_some_and(|line| line.ends_with(state)) { Ok(()) } else { Err(format!("{listed:?}")) }
        })
        .await;
        if maintenance {
            // Its gateway goes to another daemon, and sessions are opened there as before.
            let other = bed.viewer("mandelbrot", 2).await;
            other.goes_on(1).await;
            other.close().await;
        }
    }
    configuration(&mut bed).await;

    // The first server is asked in vain; the next one has seen it all.
    bed.kill(&[server(1)]).await;
    let machine = Service::Daemon.name(3);
    bed.kill(&[machine]).await;
    let shown = until_shown(&bed, &["history"], "machine-3 excluded: its stream broke").await;
    assert!(shown.errors.contains("does not answer"), "{shown:?}");
    watch
        .says("what the next server knows", |line| line.contains("machine-3 excluded: its stream broke"))
        .await;
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.end().await.status.code(), Some(130));
    bed.start_again(&[server(1), machine]).await;
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

/// A daemon that is not of the cluster's own making.
async fn daemon(bed: &Bed, membership: &Address, ready: &Path) -> Program {
    let program = Program::start(programs::handover(), |command| {
        command.args(["gcs-svc", "--cluster", "e2e", "--name", "machine-9", "--listen", "127.0.0.1:0"]);
        command.args(["--membership", membership.as_str(), "--ready-file"]).arg(ready);
        command.arg("--trace").arg(bed.dir().join("trace"));
    });
    until("a daemon", async || std::fs::read_to_string(ready)).await;
    program
}

async fn until_member(bed: &Bed, daemon: &str) {
    until("a member", async || {
        let seen = membership(bed, 1).await;
        let is_it = |it: &pb::DaemonStatus| it.daemon == daemon && !it.configuration.is_empty();
        if seen.daemons.iter().any(is_it) { Ok(()) } else { Err(format!("{:?}", seen.daemons)) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_belongs_to_who_started_last_whatever_the_clock_says() {
    let mut bed = with_servers(1, Protocol::default()).await;
    let viewer = bed.viewer("mandelbrot", 2).await;
    viewer.goes_on(1).await;
    let address = bed.address(server(1));

    // A life that ended, or so it seems, before the clock was set back by some tens of thousands of years.
    let past = 1_u64 << 60;
    let hello = pb::RegisterHello {
        cluster: "e2e".to_owned(),
        daemon: format!("machine-9#{past}"),
        address: "127.0.0.1:1".to_owned(),
        version: proto::MEMBERSHIP_VERSION,
        ..pb::RegisterHello::default()
    };
    let hello = pb::RegisterRequest { request: Some(pb::register_request::Request::Hello(hello)) };
    let (sender, queue) = tokio::sync::mpsc::channel(1);
    sender.send(hello).await.unwrap();
    let mut client = MembershipServiceClient::new(channel(&address).await);
    let notices = client.register(tokio_stream::wrappers::ReceiverStream::new(queue));
    let mut notices = within("to be attached", notices).await.unwrap().into_inner();
    within("a notice", notices.message()).await.unwrap();

    let first = daemon(&bed, &address, &bed.dir().join("ready/first")).await;
    until_member(&bed, &format!("machine-9#{}", past + 1)).await;
    let before = membership(&bed, 1).await.history.len();
    let second = daemon(&bed, &address, &bed.dir().join("ready/second")).await;
    let ended = first.end().await;
    assert_eq!(ended.status.code(), Some(76), "{ended:?}");
    assert!(ended.errors.contains("another process is called by the name of this one"), "{ended:?}");
    until_member(&bed, &format!("machine-9#{}", past + 2)).await;
    let changes = membership(&bed, 1).await.history.len() - before;
    assert!(changes <= 2, "one leaves, one comes: {changes} changes");

    second.signal(Signal::SIGTERM);
    assert_eq!(second.end().await.status.code(), Some(0));
    configuration(&mut bed).await;
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

/// Kills a machine: its daemon and its content server.
fn machine(number: usize) -> [Name; 2] {
    [Service::Daemon.name(number), Service::Server.name(number)]
}

/// Waits until the last configuration is of these machines, and is the primary component or not.
async fn until_together(bed: &Bed, machines: &[usize], primary: bool) {
    let names: Vec<String> = machines.iter().map(|it| Service::Daemon.name(*it).to_string()).collect();
    until("a configuration", async || {
        let current = membership(bed, 1).await.current.ok_or("none")?;
        let is_of = |it: &pb::ViewMember, name: &String| it.daemon.split('#').next() == Some(name);
        let fits = current.members.len() == names.len()
            && current.members.iter().zip(&names).all(|(it, name)| is_of(it, name) && it.primary == primary);
        if fits { Ok(()) } else { Err(format!("{current:?}")) }
    })
    .await;
}

/// Each primary component is a majority of the one before. What machine 1 knows, the others do not.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_component_follows_from_the_one_before_also_after_restarts() {
    let mut bed = Bed::plan(Plan { voting: Some("dynamic"), ..Plan::default() }).await;
    until_together(&bed, &[1, 2, 3], true).await;
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    bed.kill(&machine(3)).await;
    until_together(&bed, &[1, 2], true).await;
    bed.kill(&machine(2)).await;
    until_together(&bed, &[1], true).await;
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.kill(&machine(1)).await;
    let mut others = machine(2).to_vec();
    others.extend(machine(3));
    bed.begin_again(&others).await;
    until_together(&bed, &[2, 3], false).await;
    bed.begin_again(&machine(1)).await;
    until_together(&bed, &[1, 2, 3], true).await;
    let viewer = bed.viewer("life", 1).await;
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}

/// Waits until a process is told that it is in the primary component, or is not.
async fn until_told_primary(events: &mut gcs_client::Events, expected: bool) {
    let told = async {
        while let Some(event) = events.next().await {
            if event == gcs_client::Event::Primary(expected) {
                return;
            }
        }
        panic!("the process was lost");
    };
    within("the event", told).await;
}

/// Its company may have gone on without it: a daemon that reaches no membership server and misses a member says that it is
/// not in the primary component any more, until a server tells it more.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_be_left_behind_does_not_take_itself_for_the_primary_component() {
    let mut bed = Bed::plan(Plan { voting: Some("static"), ..Plan::default() }).await;
    until_together(&bed, &[1, 2, 3], true).await;
    let viewer = bed.viewer("life", 1).await;
    let target = gcs_client::Target {
        addresses: vec![bed.address(Service::Daemon.name(1))],
        cluster: "e2e".parse().unwrap(),
        name: "witness".parse().unwrap(),
        wire: svc_kit::dial::Wire::default(),
    };
    let mut witness = within("to attach", gcs_client::Attachment::connect(&target)).await.unwrap();
    until_told_primary(&mut witness.events, true).await;
    bed.kill(&[server(1)]).await;
    viewer.goes_on(2).await;
    bed.kill(&machine(3)).await;
    until_told_primary(&mut witness.events, false).await;
    viewer.goes_on(2).await;
    bed.begin_again(&[server(1)]).await;
    until_told_primary(&mut witness.events, true).await;
    until_together(&bed, &[1, 2], true).await;
    viewer.close().await;
    drop(witness);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_memory_is_damaged_does_not_start_and_the_others_go_on() {
    let mut bed = Bed::plan(Plan { voting: Some("dynamic"), ..Plan::default() }).await;
    until_together(&bed, &[1, 2, 3], true).await;
    let viewer = bed.viewer("life", 1).await;
    bed.kill(&machine(3)).await;
    until_together(&bed, &[1, 2], true).await;
    let memory = bed.dir().join("state/machine-3.state.json");
    let text = std::fs::read_to_string(&memory).unwrap();
    std::fs::write(&memory, text.replacen("machine-2", "machine-9", 1)).unwrap();
    let program = Program::start(programs::handover(), |command| {
        command.args(["gcs-svc", "--cluster", "e2e", "--name", "machine-3", "--listen", "127.0.0.1:0"]);
        command.args(["--membership", bed.address(server(1)).as_str(), "--state-dir"]);
        command.arg(bed.dir().join("state"));
    });
    let ended = program.end().await;
    assert_eq!(ended.status.code(), Some(65), "{ended:?}");
    assert!(ended.errors.contains("machine-3.state.json: its digest does not fit"), "{ended:?}");
    until_together(&bed, &[1, 2], true).await;
    std::fs::write(&memory, text).unwrap();
    bed.start_again(&machine(3)).await;
    until_together(&bed, &[1, 2, 3], true).await;
    viewer.goes_on(2).await;
    viewer.close().await;
    bed.finish().await;
}
