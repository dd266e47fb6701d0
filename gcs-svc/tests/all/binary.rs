//! The program as an operator starts it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::bed::soon;

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gcs-svc"));
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear();
    command
}

async fn outcome(child: Child) -> (Option<i32>, String) {
    let output = soon("the end of the program", child.wait_with_output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn wrong_settings_and_usage_have_exit_codes_of_their_own() {
    let wrong = program().args(["--name", "Machine 1"]).spawn().unwrap();
    let (code, text) = outcome(wrong).await;
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("`name`: \"Machine 1\" from --name"), "{text}");
    let (code, text) = outcome(program().arg("--nmae").spawn().unwrap()).await;
    assert_eq!(code, Some(2), "{text}");
    let checked = program().args(["--name", "machine-1", "--check-config"]).spawn().unwrap();
    assert_eq!(outcome(checked).await, (Some(0), String::new()));
}

#[tokio::test]
async fn it_says_where_it_listens_and_how_it_is_and_ends_well_when_asked_to() {
    let files = tempfile::tempdir().unwrap();
    let ready = files.path().join("ready");
    // Nobody is at home at this membership server, which is no reason to end.
    let child = program()
        .args(["--name", "machine-1", "--listen", "127.0.0.1:0", "--membership", "127.0.0.1:9"])
        .args([Path::new("--ready-file"), &ready, Path::new("--trace"), files.path()])
        .spawn()
        .unwrap();
    let listening = async {
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the ready file", listening).await;
    let address = std::fs::read_to_string(&ready).unwrap();
    let health = || {
        let settings = ["--name", "machine-1", "--listen", address.trim(), "--healthcheck"];
        outcome(program().args(settings).spawn().unwrap())
    };
    let unattached = format!("gcs-svc: {} does not serve: NOT_SERVING\n", address.trim());
    assert_eq!(health().await, (Some(1), unattached));
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let (code, log) = outcome(child).await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&format!("listening on {}", address.trim())), "{log}");
    assert_eq!(health().await, (Some(69), format!("gcs-svc: cannot reach {}\n", address.trim())));
    let traces = std::fs::read_dir(files.path()).unwrap().filter_map(Result::ok);
    let traces: Vec<_> =
        traces.filter(|file| file.path().extension().is_some_and(|it| it == "jsonl")).collect();
    let trace = std::fs::read_to_string(traces[0].path()).unwrap();
    assert!(trace.contains("\"daemon_start\""), "{trace}");
}
