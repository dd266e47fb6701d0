//! What processes see of groups, and how they lose their daemon.

use gcs_client::{Attachment, Command, ConnectError, Event, Loss};
use gcs_svc::config::Limits;
use proto::gcs::v1 as pb;
use svc_kit::status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn three_daemons_deliver_everything_in_one_order() {
    const EACH: usize = 200;
    let membership = Membership::default();
    let daemons = cluster(&membership, 3).await;
    let mut processes = Vec::new();
    for daemon in &daemons {
        let process = attach(daemon, "p").await;
        join(&process, "g").await;
        processes.push(process);
    }
    for process in &mut processes {
        view_of(process, "g", 3).await;
    }
    let senders = processes.iter().enumerate().map(|(sender, process)| {
        let commands = process.commands.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let payload = format!("{sender}:{number:03}").into();
                commands.send(Command::multicast(group("g"), payload)).await;
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let mut orders = Vec::new();
    for process in &mut processes {
        orders.push(messages(process, 3 * EACH).await);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    for sender in 0..3 {
        let prefix = format!("{sender}:");
        let of_sender: Vec<_> = orders[0].iter().filter(|text| text.starts_with(&prefix)).collect();
        assert_eq!(of_sender.len(), EACH);
        assert!(of_sender.is_sorted(), "the messages of a sender stay in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_goes_away_leaves_its_groups() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 2).await;
    let mut stays = attach(&daemons[0], "stays").await;
    let goes = attach(&daemons[1], "goes").await;
    for process in [&stays, &goes] {
        join(process, "g").await;
        join(process, "h").await;
    }
    view_of(&mut stays, "h", 2).await;
    let gone = goes.process;
    drop(goes);
    let Some(Event::Views(views)) = soon("the views", stays.events.next()).await else { panic!("no views") };
    let told: Vec<_> = views.iter().map(|view| view.group.as_str()).collect();
    assert_eq!(told, ["g", "h"], "one step, and so one event");
    for view in &views {
        assert_eq!((&view.left[..], &view.transitional[..]), (&[gone][..], &[stays.process][..]));
        assert_eq!(view.members.len(), 1);
        assert_eq!(view.members[0].name.as_str(), "stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_cluster_is_refused() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 1).await;
    let mut target = target(&daemons[0], "p");
    target.cluster = "other".parse().unwrap();
    let refused = soon("a refusal", Attachment::connect(&target)).await.unwrap_err();
    let message = "this daemon belongs to cluster test".to_owned();
    assert_eq!(refused, ConnectError::Refused { address: daemons[0].address.clone(), message });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_kept_out_sends_its_processes_elsewhere_until_it_is_let_in() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 2).await;
    let mut target = target(&daemons[0], "p");
    target.addresses.push(daemons[1].address.clone());
    let mut process = soon("an attachment", Attachment::connect(&target)).await.unwrap();
    assert_eq!(process.address, daemons[0].address);
    membership.bar(daemons[0].id, true);
    let lost = Event::Lost(Loss::Broken("an operator keeps this daemon out of the cluster".into()));
    assert_eq!(soon("the end", process.events.next()).await, Some(lost));
    let elsewhere = soon("another daemon", Attachment::connect(&target)).await.unwrap();
    assert_eq!(elsewhere.address, daemons[1].address);
    let (_requests, call) = call(&daemons[0].address, vec![hello("test", "p")]).await;
    assert_eq!(status::reason(&call.unwrap_err()).as_deref(), Some("BARRED"));

    membership.bar(daemons[0].id, false);
    target.addresses.truncate(1);
    soon("the first daemon", Attachment::connect(&target)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_before_the_first_configuration() {
    let files = tempfile::tempdir().unwrap();
    let ready = files.path().join("ready");
    let mut config = config("d1");
    config.ready_file = Some(ready.clone());
    let (enrolled, mut enrolments) = mpsc::channel(1);
    let silent = async move |enrolment: gcs_svc::Enrolment| {
        let stop = enrolment.stop.clone();
        enrolled.send(()).await.unwrap();
        stop.cancelled().await;
        Ok(())
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(gcs_svc::run_with(config, stop.clone(), silent));
    soon("the enrolment", enrolments.recv()).await.unwrap();
    let address = model::Address::new(std::fs::read_to_string(&ready).unwrap().trim());
    let (_requests, call) = call(&address, vec![hello("test", "p")]).await;
    let status = call.unwrap_err();
    assert_eq!(
        (status.code(), status::reason(&status).as_deref()),
        (Code::Unavailable, Some("NO_CONFIGURATION"))
    );
    stop.cancel();
    soon("the end", task).await.unwrap().unwrap();
}

fn hello(cluster: &str, name: &str) -> pb::AttachRequest {
    let hello = pb::AttachHello { cluster: cluster.into(), name: name.into() };
    pb::AttachRequest { hello: Some(hello), commands: Vec::new() }
}

fn commands(commands: Vec<pb::command::Command>) -> pb::AttachRequest {
    let commands = commands.into_iter().map(|command| pb::Command { command: Some(command) }).collect();
    pb::AttachRequest { hello: None, commands }
}

fn to_group(group: &str, payload: Vec<u8>) -> pb::command::Command {
    pb::command::Command::Multicast(pb::Multicast {
        group: group.into(),
        payload: payload.into(),
        ..pb::Multicast::default()
    })
}

fn join_groups(groups: &[&str]) -> pb::command::Command {
    pb::command::Command::Join(pb::Join { groups: groups.iter().map(|name| (*name).to_owned()).collect() })
}

type Responses = Result<Streaming<proto::encoded::AttachResponse>, Status>;

/// Attaches as a program of somebody else would.
async fn call(
    address: &model::Address,
    requests: Vec<pb::AttachRequest>,
) -> (mpsc::Sender<pb::AttachRequest>, Responses) {
    let (sender, queue) = mpsc::channel(64);
    for request in requests {
        sender.send(request).await.unwrap();
    }
    let mut client = client(address).await;
    let call = client.attach(ReceiverStream::new(queue));
    let responses = soon("a response", call).await.map(tonic::Response::into_inner);
    (sender, responses)
}

/// How a call ends.
async fn end_of(responses: Responses) -> Status {
    let end = async {
        let mut responses = responses?;
        while responses.message().await?.is_some() {}
        Ok::<(), Status>(())
    };
    soon("the end of the call", end).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_ends_the_call_and_names_the_field() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 1).await;
    let me = || hello("test", "p");
    let cases = [
        (vec![pb::AttachRequest::default()], "hello"),
        (vec![hello("test", "Not a Name")], "hello.name"),
        (vec![hello("Über", "p")], "hello.cluster"),
        (vec![me(), me()], "hello"),
        (
            vec![me(), pb::AttachRequest { hello: None, commands: vec![pb::Command::default()] }],
            "commands[0].command",
        ),
        (vec![me(), commands(vec![join_groups(&["g"]), join_groups(&[])])], "commands[1].join.groups"),
        (vec![me(), commands(vec![join_groups(&["g", ""])])], "commands[0].join.groups[1]"),
        (vec![me(), commands(vec![to_group("", Vec::new())])], "commands[0].multicast.group"),
        (vec![me(), commands(vec![to_group("g", vec![0; (1 << 20) + 1])])], "commands[0].multicast.payload"),
    ];
    for (requests, field) in cases {
        let (_requests, responses) = call(&daemons[0].address, requests).await;
        let status = end_of(responses).await;
        let violations =
            tonic_types::StatusExt::get_details_bad_request(&status).map(|it| it.field_violations);
        let fields: Vec<_> =
            violations.unwrap_or_default().into_iter().map(|violation| violation.field).collect();
        assert_eq!((status.code(), fields), (Code::InvalidArgument, vec![field.to_owned()]), "{status:?}");
    }
    let (_requests, responses) =
        call(&daemons[0].address, vec![me(), commands(vec![to_group("g", vec![0; 5 << 20])])]).await;
    let status = end_of(responses).await;
    assert_eq!(
        (status.code(), status::reason(&status).as_deref()),
        (Code::OutOfRange, Some("MESSAGE_TOO_LARGE"))
    );

    let mut living = attach(&daemons[0], "q").await;
    join(&living, "g").await;
    assert_eq!(view_of(&mut living, "g", 1).await.members.len(), 1, "nobody else is left in the group");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_read_is_evicted_and_the_others_go_on() {
    const MESSAGES: usize = 400;
    let membership = Membership::default();
    let mut small = config("d1");
    small.limits = Limits { events: 16, event_bytes: 1 << 20, ..Limits::default() };
    let daemon = start(&membership, small).await;
    let mut reads = attach(&daemon, "reads").await;
    join(&reads, "g").await;
    let (_requests, slow) =
        call(&daemon.address, vec![hello("test", "slow"), commands(vec![join_groups(&["g"])])]).await;
    view_of(&mut reads, "g", 2).await;
    for _ in 0..MESSAGES {
        multicast(&reads, "g", "x".repeat(64 << 10)).await;
        messages(&mut reads, 1).await;
    }
    let status = end_of(slow).await;
    assert_eq!(
        (status.code(), status::reason(&status).as_deref()),
        (Code::ResourceExhausted, Some("PROCESS_TOO_SLOW"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_daemon_sends_its_processes_away_and_leaves() {
    let membership = Membership::default();
    let mut daemons = cluster(&membership, 2).await;
    let mut stays = attach(&daemons[0], "stays").await;
    let mut goes = attach(&daemons[1], "goes").await;
    join(&stays, "g").await;
    join(&goes, "g").await;
    view_of(&mut stays, "g", 2).await;
    view_of(&mut goes, "g", 2).await;
    let leaver = daemons.pop().unwrap();
    leaver.stop.cancel();
    assert_eq!(soon("the loss", goes.events.next()).await, Some(Event::Lost(Loss::Draining)));
    let view = view_of(&mut stays, "g", 1).await;
    assert_eq!(view.left, [goes.process]);
    assert_ne!(view.id.position, 0, "an ordered message told it, not a change of configuration");
    together(&daemons[0], 1).await;
    let mut leaver = leaver;
    soon("the end of the daemon", &mut leaver.task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_change_processes_wait_and_nothing_is_rejected() {
    const EACH: usize = 10_000;
    let membership = Membership::default();
    let daemon = start(&membership, config("d1")).await;
    let mut processes = Vec::new();
    for _ in 0..3 {
        let process = attach(&daemon, "p").await;
        join(&process, "g").await;
        processes.push(process);
    }
    for process in &mut processes {
        view_of(process, "g", 3).await;
    }
    let change = membership.begin_change();
    let senders = processes.iter().map(|process| {
        let commands = process.commands.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let payload = format!("{number:05}").into();
                commands.send(Command::multicast(group("g"), payload)).await;
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let mut client = client(&daemon.address).await;
    let holding = async {
        while !client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner().holding {
            tokio::task::yield_now().await;
        }
    };
    soon("the daemon to hold its processes", holding).await;
    let refused = pb::MulticastRequest {
        cluster: "test".into(),
        name: "curl".into(),
        group: "g".into(),
        payload: "hello".into(),
        ..pb::MulticastRequest::default()
    };
    assert_eq!(client.multicast(refused).await.unwrap_err().code(), Code::ResourceExhausted);
    change.complete();
    let delivered = processes.iter_mut().map(|process| messages(process, 3 * EACH));
    let delivered = futures::future::join_all(delivered).await;
    assert_eq!(delivered[0], delivered[1]);
    assert_eq!(delivered[0], delivered[2]);
    for sender in senders {
        sender.await.unwrap();
    }
}
