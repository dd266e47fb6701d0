//! docker-compose, of two kinds: the one that is installed, on Debian 12 the old 1.29, and the one that is now `docker compose`,
//! from the next Debian. What is shipped is for both.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use crate::steps::{install, run};

/// Where the new one is unpacked, so that it replaces nothing.
const DIR: &str = "target/tools/compose";
const BIN: &str = "usr/bin";
const PROGRAM: &str = "docker-compose";

const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n";

/// Installs one if there is none, and downloads the new one if the old one is installed.
pub fn provide() -> anyhow::Result<()> {
    if !is_there() {
        install(&[PROGRAM])?;
    }
    let dir = std::path::absolute(DIR)?;
    if is_old_installed() && !dir.join(BIN).join(PROGRAM).exists() {
        download(&dir)?;
    }
    Ok(())
}

fn is_there() -> bool {
    let answers = |command: &mut Command| command.arg("version").output().is_ok_and(|it| it.status.success());
    answers(&mut Command::new(PROGRAM)) || answers(Command::new("docker").arg("compose"))
}

fn is_old_installed() -> bool {
    let said = Command::new(PROGRAM).args(["version", "--short"]).output();
    said.is_ok_and(|it| it.stdout.starts_with(b"1."))
}

/// Debian's signature is checked, and no package is installed.
fn download(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir.join("lists/partial"))?;
    fs::create_dir_all(dir.join("cache/archives/partial"))?;
    fs::write(dir.join("sources.list"), SOURCE)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(dir).args(["--quiet", "-o", "dir::etc::sourceparts=-"]);
        for (option, path) in
            [("etc::sourcelist", "sources.list"), ("state::lists", "lists"), ("cache", "cache")]
        {
            command.arg("-o").arg(format!("dir::{option}={}", dir.join(path).display()));
        }
        run(command.args(arguments))
    };
    apt(&["update"])?;
    apt(&["download", PROGRAM])?;
    for file in fs::read_dir(dir)? {
        let file = file?.path();
        if file.extension().is_some_and(|it| it == "deb") {
            run(Command::new("dpkg").arg("--extract").arg(file).arg(dir))?;
        }
    }
    Ok(())
}

/// The variable PATH of those who are to find the new one before the old one.
pub fn new_first() -> anyhow::Result<OsString> {
    let new = std::path::absolute(Path::new(DIR).join(BIN))?;
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([new].into_iter().chain(env::split_paths(&path)))?)
}
