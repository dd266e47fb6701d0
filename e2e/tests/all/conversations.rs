//! Sessions in which requests and responses take turns, held with a stock client while the servers that serve them are
//! killed: every response is the one that it would have been.

use e2e::program::run;
use e2e::stock::Conversation;
use e2e::{Bed, Plan, programs};
use handover_cli::bundle;
use handover_cli::cluster::Service;
use serde_json::{Value, json};

/// Whether servers die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kills {
    None,
    /// With every third request.
    Many,
}

/// What a client hears who opens a session on `unit`, `greeted` or not, and sends these requests.
async fn conversation(
    bed: &mut Bed,
    unit: &str,
    greeted: bool,
    requests: &[Value],
    kills: Kills,
) -> Vec<String> {
    let mut talk = Conversation::open(bed.address(Service::Gateway.name(1)), unit).await;
    let mut heard = Vec::new();
    if greeted {
        heard.push(talk.hear().await);
    }
    let mut killed = 0;
    for (index, request) in requests.iter().enumerate() {
        if kills == Kills::Many && index % 3 == 1 {
            heard.push(talk.ask_while_killing(request, bed).await);
            killed += 1;
        } else {
            heard.push(talk.ask(request).await);
        }
    }
    assert!(talk.takeovers() >= killed, "{} takeovers after {killed} kills", talk.takeovers());
    talk.close().await;
    heard
}

/// Holds the same conversation with and without kills.
async fn compare(plan: Plan, unit: &str, greeted: bool, requests: &[Value]) -> Vec<String> {
    let mut bed = Bed::plan(plan).await;
    let undisturbed = conversation(&mut bed, unit, greeted, requests, Kills::None).await;
    let disturbed = conversation(&mut bed, unit, greeted, requests, Kills::Many).await;
    for (index, (expected, found)) in undisturbed.iter().zip(&disturbed).enumerate() {
        assert_eq!(expected, found, "what was heard as number {index}");
    }
    assert_eq!(undisturbed.len(), disturbed.len());
    bed.finish().await;
    disturbed
}

fn bundled() -> Plan {
    Plan { further: bundle::ALL.to_vec(), ..Plan::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_course_is_taken_to_its_end_while_its_servers_are_killed() {
    let (next, answer) = (json!({ "next": {} }), |choice: u32| json!({ "answer": { "choice": choice } }));
    let visit = |page: &str| json!({ "visit": { "page": page } });
    let mut requests = vec![visit("words"), next.clone(), next.clone()];
    // A wrong answer leads aside, and back to the question.
    requests.extend([
        answer(1),
        next.clone(),
        next.clone(),
        answer(2),
        next.clone(),
        answer(2),
        next.clone(),
    ]);
    requests.extend([next.clone(), answer(2), next.clone(), visit("crash"), visit("causal"), next.clone()]);
    requests.extend([
        answer(2),
        next.clone(),
        answer(1),
        next.clone(),
        next.clone(),
        answer(2),
        next.clone(),
    ]);
    requests.extend([
        next.clone(),
        answer(2),
        next.clone(),
        next.clone(),
        answer(1),
        next.clone(),
        answer(2),
    ]);
    requests.extend([next.clone(), next, json!({ "report": {} })]);
    let heard = compare(bundled(), "group-communication", true, &requests).await;
    assert_eq!(heard.len(), requests.len() + 1);
    assert_eq!(
        heard.iter().filter(|it| it.contains("comes first: answer with a choice")).count(),
        1,
        "{heard:?}"
    );
    assert!(heard.iter().any(|it| it.contains(r#""id":"slow""#)), "the wrong answer led aside");
    let report: Value = serde_json::from_str(heard.last().unwrap()).unwrap();
    let progress = &report["progress"];
    assert_eq!((&progress["finished"], &progress["right"]), (&json!(true), &json!(9)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_refined_and_intersected_while_their_servers_are_killed() {
    let requests = [
        json!({ "find": { "text": "server" } }),
        json!({ "refine": { "set": 1, "text": "session" } }),
        json!({ "find": { "text": "gateway" } }),
        json!({ "intersect": { "sets": [2, 3] } }),
        json!({ "more": { "set": 1, "after": 10 } }),
        json!({ "refine": { "set": 9, "text": "nothing" } }),
        json!({ "open": { "document": "requests-and-responses" } }),
        json!({ "refine": { "set": 4, "text": "primaries" } }),
        json!({ "list": {} }),
    ];
    let heard = compare(bundled(), "handbook", false, &requests).await;
    assert!(heard[5].contains("there is no set 9"), "{}", heard[5]);
    let sets: Value = serde_json::from_str(heard.last().unwrap()).unwrap();
    let sizes: Vec<u64> =
        sets["sets"]["sets"].as_array().unwrap().iter().map(|set| set["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes.len(), 5, "{sets}");
    let [server, session, gateway, both, primaries] = sizes[..] else { panic!("{sets}") };
    assert!(
        server > 10 && session < server && both <= session.min(gateway) && both >= primaries,
        "{sizes:?}"
    );
    assert!(primaries > 0, "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_ones_own_keeps_its_sessions() {
    let plan = || Plan { server: Some(programs::service("tally")), ..Plan::default() };
    let requests: Vec<Value> = [5, -7, 100, 0, 3, 8].map(|add| json!({ "add": add })).into();
    let sums: Vec<String> = [5, -2, 98, 98, 101, 109].map(|sum| format!(r#"{{"sum":{sum}}}"#)).into();
    assert_eq!(compare(plan(), "tally", false, &requests).await, sums);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_talks_on_the_terminal_is_answered_line_by_line() {
    let mut bed = Bed::plan(Plan { server: Some(programs::service("tally")), ..Plan::default() }).await;
    let gateway = bed.address(Service::Gateway.name(2));
    let talk = r#"printf '{"add":5}\nadd\n{"add":6}\n' | "$0" talk tally --gateway "$1""#;
    let ended = run("sh", |command| {
        command.args(["-c", talk]).arg(programs::handover()).arg(gateway.as_str());
    })
    .await;
    assert_eq!(ended.status.code(), Some(1), "one was refused: {ended:?}");
    assert_eq!(ended.output, [r#"{"sum":5}"#, r#"{"sum":11}"#], "{ended:?}");
    assert!(ended.errors.contains("serves") && ended.errors.contains("refused"), "{ended:?}");
    bed.all_live().await;
    bed.finish().await;
}
