//! What people call by hand.

use prost::Message as _;
use proto::gcs::v1 as pb;
use proto::gcs::v1::group_service_client::GroupServiceClient;
use svc_kit::status;
use tonic::Code;
use tonic::transport::Channel;

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_in_pages_and_found_by_name() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 2).await;
    let mut process = attach(&daemons[0], "p").await;
    let mut view = None;
    for name in ["content/a", "content/b", "content/c", "service"] {
        join(&process, name).await;
        view = Some(view_of(&mut process, name, 1).await.id);
    }
    let mut client = client(&daemons[0].address).await;
    let mut page = async |page_token: &str| {
        let request =
            pb::ListGroupsRequest { page_size: 2, page_token: page_token.into(), prefix: "content/".into() };
        let page = client.list_groups(request).await.unwrap().into_inner();
        (page.groups.into_iter().map(|group| group.name).collect::<Vec<_>>(), page.next_page_token)
    };
    let (first, token) = page("").await;
    assert_eq!(first, ["content/a", "content/b"]);
    assert_eq!(page(&token).await, (vec!["content/c".to_owned()], String::new()));

    let found = client.get_group(pb::GetGroupRequest { name: "service".into() }).await.unwrap();
    let group = found.into_inner().group.unwrap();
    assert_eq!(group.members[0].process, process.process.to_string());
    let told = view.map(|id| (id.configuration.to_string(), id.position));
    assert_eq!(group.view.map(|id| (id.configuration, id.position)), told);
    let missing = client.get_group(pb::GetGroupRequest { name: "nothing".into() }).await.unwrap_err();
    assert_eq!((missing.code(), status::reason(&missing).as_deref()), (Code::NotFound, Some("NOT_FOUND")));
    let bad = pb::ListGroupsRequest { page_size: -1, ..pb::ListGroupsRequest::default() };
    assert_eq!(client.list_groups(bad).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn group_of(client: &mut GroupServiceClient<Channel>, name: &str) -> pb::Group {
    let request = pb::GetGroupRequest { name: name.into() };
    client.get_group(request).await.unwrap().into_inner().group.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_can_be_sent_without_staying() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 2).await;
    let mut process = attach(&daemons[0], "p").await;
    join(&process, "g").await;
    view_of(&mut process, "g", 1).await;
    let mut client = client(&daemons[1].address).await;
    let request = pb::MulticastRequest {
        cluster: "test".into(),
        name: "curl".into(),
        group: "g".into(),
        payload: "hello".into(),
        level: pb::Level::Safe.into(),
        only_in: None,
    };
    let sent = client.multicast(request.clone()).await.unwrap().into_inner();
    assert_eq!(sent.level(), pb::Level::Safe);
    let view = sent.view.unwrap();
    assert_eq!(Some(&view), group_of(&mut client, "g").await.view.as_ref());
    assert_eq!(messages(&mut process, 1).await, ["hello"]);
    let another = pb::GroupViewId { position: view.position + 1, ..view };
    for (request, code) in [
        (pb::MulticastRequest { group: "nobody".into(), ..request.clone() }, Code::NotFound),
        (pb::MulticastRequest { only_in: Some(another), ..request.clone() }, Code::FailedPrecondition),
        (pb::MulticastRequest { level: 7, ..request.clone() }, Code::InvalidArgument),
        (pb::MulticastRequest { cluster: "other".into(), ..request.clone() }, Code::FailedPrecondition),
        (
            pb::MulticastRequest { payload: vec![0; (1 << 20) + 1].into(), ..request.clone() },
            Code::InvalidArgument,
        ),
        (pb::MulticastRequest { group: String::new(), ..request }, Code::InvalidArgument),
    ] {
        assert_eq!(client.multicast(request).await.unwrap_err().code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_tells_how_it_is() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 3).await;
    let _process = attach(&daemons[0], "p").await;
    let mut client = client(&daemons[0].address).await;
    let status = client.get_status(pb::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.daemon, status.cluster.as_str()), (daemons[0].id.to_string(), "test"));
    assert_eq!((status.members.len(), status.processes, status.links.len()), (3, 1, 2));
    assert!(status.links.iter().all(|link| link.up));
    assert!(!status.holding);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_told_what_there_is_and_what_comes() {
    let membership = Membership::default();
    let daemons = cluster(&membership, 2).await;
    let mut process = attach(&daemons[0], "p").await;
    join(&process, "film/1").await;
    view_of(&mut process, "film/1", 1).await;
    let mut client = client(&daemons[1].address).await;
    let request = pb::WatchRequest { prefix: "film/".into() };
    let mut seen = client.watch(request).await.unwrap().into_inner();
    let mut next = async || {
        let response = soon("a change", seen.message()).await.unwrap().unwrap();
        response.events.into_iter().map(|event| pb::Event::decode(event).unwrap().event.unwrap())
    };
    let mut told = Vec::new();
    let mut joined = false;
    while told.len() < 3 {
        for event in next().await {
            if let pb::event::Event::Configuration(configuration) = event {
                told.push(configuration.members.len());
            } else if let pb::event::Event::Views(views) = event {
                told.extend(views.views.iter().map(|view| view.members.len()));
            }
        }
        if told.len() == 2 && !joined {
            joined = true;
            join(&process, "other").await;
            process.commands.send(gcs_client::Command::Leave(vec![group("film/1")])).await;
        }
    }
    assert_eq!(told, [2, 1, 0], "the configuration, the group, and the end of the group");
}
