//! The clients in other languages, as somebody installs them: their stubs generated, in environments of their own, and tried
//! on a cluster whose processes are killed.

use std::process::Command;

use crate::steps::{self, handover_path, run};

const PROTOC: &str = "grpcio-tools==1.85.1";
const TYPESCRIPT: &str = "sdk/typescript";

/// Each client's tests.
pub fn check() -> anyhow::Result<()> {
    python()?;
    typescript()
}

fn python() -> anyhow::Result<()> {
    let (python, package) = (steps::python(&[PROTOC])?, "sdk/python/src");
    let outputs = ["--python_out", "--pyi_out", "--grpc_python_out"].map(|flag| format!("{flag}={package}"));
    let stubs = ["-m", "grpc_tools.protoc", "-I", "proto", "proto/handover/session/v1/session.proto"];
    run(python().args(stubs).args(outputs))?;
    run(python().args(["-m", "pip", "install", "--quiet", "./sdk/python"]))?;
    let tests = ["-m", "unittest", "discover", "sdk/python/tests"];
    run(python().args(tests).env("HANDOVER_BIN", handover_path()?))
}

fn typescript() -> anyhow::Result<()> {
    let npm = |args: &[&str]| {
        let mut npm = Command::new("npm");
        npm.args(["--prefix", TYPESCRIPT]).args(args);
        npm
    };
    run(&mut npm(&["install", "--silent", "--no-fund", "--no-audit", "--no-package-lock"]))?;
    run(&mut npm(&["run", "--silent", "build"]))?;
    run(npm(&["test", "--silent"]).env("HANDOVER_BIN", handover_path()?))
}
