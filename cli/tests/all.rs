//! The command as its user meets it, as far as no cluster is needed.
#![allow(clippy::unwrap_used, reason = "this is part of tests, which fail by panicking")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn handover(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.env("XDG_STATE_HOME", state);
    command
}

fn run(args: &[&str]) -> Output {
    let state = tempfile::tempdir().unwrap();
    handover(state.path()).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn film() -> String {
    format!("{}/../content/life.mp4", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn help_names_every_command_and_where_to_begin() {
    let help = run(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for word in [
        "demo",
        "up",
        "watch",
        "status",
        "membership",
        "move",
        "kill",
        "content",
        "check",
        "membership-svc",
        "gcs-svc",
        "server-svc",
        "gateway",
        "New here?",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(!text.contains("with-parent"), "{text}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = dir.path().join("tokens.toml");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut token = handover(dir.path());
    let output = token.args(["token", tokens.to_str().unwrap(), "alice"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(141), ""));
}

#[test]
fn a_wrong_command_line_is_told_from_an_error() {
    for args in [
        &["fly"][..],
        &["demo", "--kills", "many"],
        &["demo", "--seconds", "0"],
        &["demo", "--period", "0"],
        &["watch", "Not A Unit"],
        &["watch", "life", "--seek", "-1"],
        &["status", "--gateway", "nowhere"],
        &["kill", "moon", "1"],
        &["up", "--machines", "0"],
        &["up", "--membership-servers", "8"],
        &["membership"],
        &["membership", "list", "--membership", "nowhere"],
        &["membership", "evict", "machine-1", "--for", "ever"],
        &["membership", "evict", "Machine 1"],
        &["membership", "maintenance", "machine-1"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn without_a_cluster_every_command_says_how_to_start_one() {
    for args in [
        &["status"][..],
        &["watch", "life"],
        &["kill", "server", "1"],
        &["content", "ls"],
        &["membership", "list"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(69), "{args:?}");
        let expected = "handover: no cluster is running on this computer; start one with `handover up`\n";
        assert_eq!(stderr(&output), expected, "{args:?}");
    }
}

#[test]
fn a_cluster_with_idle_machines_is_not_started() {
    let output = run(&["up", "--machines", "32", "--replicas", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("would have nothing to serve"), "{}", stderr(&output));
}

#[test]
fn a_gateway_that_does_not_answer_is_named() {
    let output = run(&["status", "--gateway", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(stderr(&output).contains("127.0.0.1:1 does not answer"), "{}", stderr(&output));
}

#[test]
fn whoever_cannot_be_reached_is_named_with_the_reason() {
    for args in [
        &["config", "show", "--of", "127.0.0.1:1"][..],
        &["log-level", "--of", "127.0.0.1:1"],
        &["content", "ls", "--gateway", "127.0.0.1:1"],
        &["policy", "life", "--server", "127.0.0.1:1"],
        &["session", "ls", "--server", "127.0.0.1:1"],
        &["group", "views", "g", "--daemon", "127.0.0.1:1"],
    ] {
        let output = run(args);
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(69), "{args:?}: {errors}");
        assert!(errors.contains("127.0.0.1:1") && errors.contains("refused"), "{args:?}: {errors}");
    }
}

#[test]
fn membership_servers_that_do_not_answer_are_named() {
    let output = run(&["membership", "history", "--membership", "127.0.0.1:1,127.0.0.1:2"]);
    assert_eq!(output.status.code(), Some(69));
    let errors = stderr(&output);
    for part in ["127.0.0.1:1 does not answer", "127.0.0.1:2 does not answer", "no membership server answers"]
    {
        assert!(errors.contains(part), "{errors}");
    }
}

#[test]
fn a_film_is_checked_before_it_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, content) = (dir.path().join("bad.mp4"), dir.path().join("content"));
    std::fs::write(&bad, "no film").unwrap();
    let add = |file: &str| run(&["content", "add", file, "--dir", content.to_str().unwrap()]);
    let refused = add(bad.to_str().unwrap());
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("not an MP4 file"), "{}", stderr(&refused));
    assert!(!content.join("bad.mp4").exists());
    let added = add(&film());
    assert!(added.status.success(), "{}", stderr(&added));
    assert_eq!(std::fs::read(content.join("life.mp4")).unwrap(), std::fs::read(film()).unwrap());
}

#[test]
fn a_directory_without_traces_is_no_proof_of_anything() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["check", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no *.jsonl file"), "{}", stderr(&output));
}

#[test]
fn a_broken_trace_is_told_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let session = "0123456789abcdef0123456789abcdef";
    let line = |event: &str| format!("{{\"at\":1,\"event\":{event},\"session\":\"{session}\"");
    let trace = format!(
        "{},\"after\":0}}\n{},\"response\":2,\"digest\":7}}\n",
        line("\"client_attach\""),
        line("\"client_receive\"")
    );
    std::fs::write(dir.path().join("client-1-1.jsonl"), trace).unwrap();
    let output = run(&["check", dir.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}{}", stderr(&output));
    assert!(text.contains("response_once") && text.contains("client-1-1.jsonl:2"), "{text}");
}

#[test]
fn every_service_is_a_subcommand_with_its_own_flags() {
    for service in ["membership-svc", "gcs-svc", "server-svc", "gateway"] {
        let nameless = run(&[service, "--check-config"]);
        assert_eq!(nameless.status.code(), Some(78), "{service}");
        assert!(stderr(&nameless).contains("the setting `name` is missing"), "{}", stderr(&nameless));
        let help = run(&[service, "--help"]);
        assert!(String::from_utf8(help.stdout).unwrap().contains("--listen"), "{service}");
    }
}

#[test]
fn a_child_ends_when_its_parent_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let mut child = handover(dir.path())
        .args(["--with-parent", "membership-svc", "--name", "m", "--listen", "127.0.0.1:0", "--ready-file"])
        .arg(&ready)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !ready.exists() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "it does not listen: {ended:?}");
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    let mut log = String::new();
    // Its standard error is open for as long as it lives.
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{log}");
}
