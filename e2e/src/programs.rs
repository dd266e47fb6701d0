//! The programs under test.
//!
//! Without further ado they are built from this workspace, in release mode, once for each run of the tests: that takes
//! no time if they are up to date, and no test ever meets a stale program. With `HANDOVER_BIN=FILE` that `handover` is
//! tested instead, together with the programs of the services that lie beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const PACKAGES: [&str; 7] = ["cli", "membership-svc", "gcs-svc", "server-svc", "gateway", "examples", "e2e"];

static HANDOVER: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::var_os("HANDOVER_BIN").map_or_else(build, absolute));

/// The `handover` command.
pub fn handover() -> &'static Path {
    &HANDOVER
}

/// The program of one service, such as `gcs-svc`, one of the examples, or `unruly`, which is for tests alone.
pub fn service(name: &str) -> PathBuf {
    handover().with_file_name(name)
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// Tests run in the directory of their package, whoever sets the variable thinks of the workspace.
fn absolute(path: std::ffi::OsString) -> PathBuf {
    workspace().join(path).canonicalize().expect("HANDOVER_BIN names a file")
}

fn build() -> PathBuf {
    let packages = PACKAGES.iter().flat_map(|package| ["--package", package]);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--bins"]).args(packages).current_dir(workspace());
    // Build scripts that look at what cargo said of the program that calls it would run anew for every other one.
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"CARGO_PKG_") || bytes.starts_with(b"CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    let built = cargo.status().expect("cargo runs");
    assert!(built.success(), "the programs under test cannot be built");
    // A test is TARGET/PROFILE/deps/NAME.
    let test = std::env::current_exe().expect("a test knows where it is");
    let target = test.ancestors().nth(3).expect("a test lies in the target directory");
    target.join("release/handover")
}
