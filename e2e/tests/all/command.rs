//! The `handover` command as its user meets it, with a cluster.

use std::path::{Path, PathBuf};

use e2e::deadline::until;
use e2e::program::{Ended, Program, is_running, run};
use e2e::stock::Conversation;
use e2e::{Room, programs};
use handover_cli::cluster::Service;
use handover_cli::cluster::state::State;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A user: somebody whose clusters nobody else sees.
struct User {
    home: tempfile::TempDir,
    _room: Room,
}

impl User {
    async fn new() -> User {
        User { _room: Room::take().await, home: tempfile::tempdir().unwrap() }
    }

    fn start(&self, args: &[&str]) -> Program {
        Program::start(programs::handover(), |command| {
            command.args(args).env("XDG_STATE_HOME", self.home.path()).current_dir(self.home.path());
        })
    }

    async fn run(&self, args: &[&str]) -> Ended {
        self.start(args).end().await
    }

    async fn succeeds(&self, args: &[&str]) -> String {
        let ended = self.run(args).await;
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {ended:?}");
        ended.output.join("\n")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The state of the only cluster, once it is as it should be.
    async fn cluster(&self, what: &str, is_it: impl Fn(&State) -> bool) -> State {
        let clusters = self.file("handover");
        until(what, async || {
            let dirs = std::fs::read_dir(&clusters).map_err(|error| error.to_string())?;
            let states = dirs.filter_map(|dir| std::fs::read(dir.ok()?.path().join("cluster.json")).ok());
            let state = states.filter_map(|text| serde_json::from_slice::<State>(&text).ok()).next();
            let state = state.ok_or("there is no state file")?;
            if is_it(&state) { Ok(state) } else { Err(format!("{state:?}")) }
        })
        .await
    }
}

fn pids(state: &State) -> Vec<u32> {
    state.processes.iter().filter_map(|process| process.pid).collect()
}

async fn assert_all_gone(pids: &[u32]) {
    for pid in pids {
        until("the end of a child", async || {
            if is_running(*pid).await { Err(format!("process {pid} is there")) } else { Ok(()) }
        })
        .await;
    }
}

fn film(unit: &str) -> PathBuf {
    programs::workspace().join("content").join(unit).with_extension("mp4")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_succeeds_and_its_last_line_has_all_figures() {
    let user = User::new().await;
    let ended = user.run(&["demo", "--seconds", "8", "--json"]).await;
    assert_eq!(ended.status.code(), Some(0), "{ended:#?}");
    let figures: serde_json::Value = serde_json::from_str(ended.output.last().unwrap()).unwrap();
    let number = |key: &str| figures[key].as_u64().unwrap_or_else(|| panic!("{key} is not in {figures}"));
    for key in ["lost", "repeated", "reordered", "requests_lost", "violations"] {
        assert_eq!(number(key), 0, "{key}");
    }
    assert!(number("responses") >= 12 * 16, "12 films for 8 seconds, and a lead: {figures}");
    assert!(number("takeovers") >= 1, "{figures}");
    number("moved");
    for key in ["p50", "p99", "max"] {
        assert!(figures["gap_ms"][key].as_f64().is_some_and(|gap| gap > 0.0), "{figures}");
    }
    assert_eq!(figures["sha256_match"], true);
    let left: Vec<_> = std::fs::read_dir(user.file("handover")).unwrap().collect();
    assert!(left.is_empty(), "a demo that went well leaves nothing behind: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_of_the_demo_that_is_killed_from_outside_is_named_and_its_log_is_shown() {
    let user = User::new().await;
    let mut demo = user.start(&["demo", "--seconds", "60", "--kills", "0"]);
    demo.says("that films play", |line| line.contains("12 sessions playing")).await;
    let state = user.cluster("11 processes", |state| pids(state).len() == 11).await;
    let (pids, victim) = (pids(&state), state.process(Service::Gateway.name(1)).unwrap().pid.unwrap());
    kill(Pid::from_raw(victim.cast_signed()), Signal::SIGKILL).unwrap();
    let ended = demo.end().await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    for word in ["gateway-1 ended by itself", "SIGKILL", "the last lines of", "listening on"] {
        assert!(ended.errors.contains(word), "{word:?} is not in {}", ended.errors);
    }
    assert_all_gone(&pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_outlives_a_demo_that_is_interrupted_or_killed() {
    let user = User::new().await;
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(130)), (Signal::SIGKILL, None)]
    {
        let demo = user.start(&["demo", "--seconds", "60"]);
        let started = |state: &State| state.pid == demo.pid() && pids(state).len() == 11;
        let pids = pids(&user.cluster("11 processes", started).await);
        demo.signal(signal);
        let ended = demo.end().await;
        assert_eq!(ended.status.code(), code, "{ended:?}");
        assert_all_gone(&pids).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_kept_goes_on_and_says_where() {
    let user = User::new().await;
    let mut demo = user.start(&["demo", "--seconds", "4", "--sessions", "3", "--kills", "1", "--keep"]);
    demo.says("that it goes on", |line| line.contains("goes on until Ctrl-C")).await;
    let state = user.cluster("11 processes", |state| pids(state).len() == 11).await;
    for process in &state.processes {
        let address = process.address.clone().unwrap().to_string();
        demo.says("where everybody is", |line| line.contains(&address)).await;
    }
    let status = user.succeeds(&["status"]).await;
    assert!(status.contains("server-1") && status.contains("machine-4"), "{status}");
    demo.signal(Signal::SIGINT);
    let ended = demo.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_all_gone(&pids(&state)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_that_was_added_is_watched_byte_for_byte_while_its_server_is_killed() {
    let user = User::new().await;
    let mut up = user.start(&["up", "--trace", "traces"]);
    up.says("what to do next", |line| line.contains("watch")).await;
    let listed = user.succeeds(&["content", "ls"]).await;
    for unit in ["mandelbrot", "life", "gradients"] {
        assert!(listed.contains(unit), "{listed}");
    }
    let watched = user.run(&["watch", "notes"]).await;
    let said = "handover: notes is no film: `handover talk notes` has a session on it";
    assert_eq!((watched.status.code(), watched.errors.as_str()), (Some(1), said), "{watched:?}");
    let own = user.file("own-film.mp4");
    std::fs::copy(film("life"), &own).unwrap();
    let added = user.succeeds(&["content", "add", own.to_str().unwrap()]).await;
    assert!(added.contains("own-film"), "{added}");
    assert!(user.succeeds(&["content", "ls"]).await.contains("own-film"));

    let out = user.file("out.mp4");
    let mut watch = user.start(&["watch", "own-film", "--rate", "8", "--out", out.to_str().unwrap()]);
    let serves = watch.says("who serves", |line| line.contains(" serves (fence ")).await;
    let server = serves.split_whitespace().find(|word| word.starts_with("server-")).unwrap().to_owned();
    let status = user.succeeds(&["status", "--output", "json"]).await;
    assert!(status.contains("own-film"), "{status}");
    let killed = user.succeeds(&["kill", "server", &server]).await;
    assert!(killed.contains(&format!("killed {server}")), "{killed}");
    watch.says("who took over", |line| line.contains(&format!("{server} -> "))).await;
    let watched = watch.end().await;
    assert_eq!(watched.status.code(), Some(0), "{watched:?}");
    let summary = watched.output.last().unwrap();
    assert!(summary.contains("0 lost, 0 repeated, 0 out of order"), "{summary}");
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&own).unwrap(), "the file is the film");

    up.says("that it is back", |line| line.contains(&server) && line.contains("started again")).await;
    let state = user.cluster("all processes", |state| pids(state).len() == 11).await;
    up.signal(Signal::SIGINT);
    let ended = up.end().await;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.errors, "", "everybody ended well");
    assert_all_gone(&pids(&state)).await;
    assert_traces_are_good(&user.file("traces")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_edition_is_for_new_sessions_and_those_that_are_there_stay_with_theirs() {
    let user = User::new().await;
    let mut up = user.start(&["up", "--trace", "traces"]);
    up.says("what to do next", |line| line.contains("watch")).await;
    let state = user.cluster("a gateway", |state| !state.addresses(Service::Gateway).is_empty()).await;
    let gateway = state.addresses(Service::Gateway)[0].clone();
    let (unit, next) = ("group-communication", serde_json::json!({ "next": {} }));
    let mut early = Conversation::open(gateway.clone(), unit).await;
    assert!(early.hear().await.contains("A service that is always there"));

    let course = programs::workspace().join("content/group-communication.course.toml");
    let second = std::fs::read_to_string(course).unwrap();
    let second = second.replace("A service that is always there", "Always there, second edition");
    let second = second.replace("Nobody sees a crash", "A crash, second edition");
    let file = user.file("revised.course.toml");
    std::fs::write(&file, second).unwrap();
    let file = file.to_str().unwrap();
    let unknown = user.run(&["content", "publish", file]).await;
    assert!(unknown.errors.contains("no server that is running holds `revised`"), "{unknown:?}");
    let published = user.succeeds(&["content", "publish", file, "--unit", unit]).await;
    assert!(published.contains("opened on edition 2"), "{published}");
    let listed = user.succeeds(&["content", "ls"]).await;
    let row = listed.lines().find(|line| line.contains(unit)).map(|line| line.split_whitespace().nth(1));
    assert_eq!(row, Some(Some("2")), "{listed}");

    let mut late = Conversation::open(gateway, unit).await;
    assert!(late.hear().await.contains("Always there, second edition"));
    for (talk, title) in [(&mut early, "Nobody sees a crash"), (&mut late, "A crash, second edition")] {
        let server = talk.server().await;
        user.succeeds(&["kill", "server", &server]).await;
        let heard = talk.ask(&next).await;
        assert!(heard.contains(title), "{heard}");
        let back = |line: &str| line.contains(&server) && line.contains("started again");
        up.says("that it is back", back).await;
    }
    early.close().await;
    late.close().await;
    up.signal(Signal::SIGINT);
    let ended = up.end().await;
    assert_eq!((ended.status.code(), ended.errors.as_str()), (Some(0), ""), "{ended:?}");
    assert_traces_are_good(&user.file("traces")).await;
}

async fn assert_traces_are_good(dir: &Path) {
    let checked = run(programs::handover(), |command| {
        command.arg("check").arg(dir);
    });
    let checked = checked.await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_under_chaos_is_judged_well() {
    let user = User::new().await;
    let chaos = ["chaos", "--on", "processes", "--minutes", "0.1", "--seed", "2"];
    let plan = user.succeeds(&[&chaos[..], &["--dry-run"]].concat()).await;
    assert!(plan.contains("drain of a content server") && !plan.contains("partition"), "{plan}");
    let told = user.succeeds(&chaos).await;
    assert!(told.ends_with("\n0 violations"), "{told}");
}
