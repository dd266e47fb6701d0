//! What this daemon has to know when it starts again: the primary components that it was in, or agreed to. With
//! dynamic voting, whoever forgot that could make a second one.
//!
//! It is one small file, which is replaced as a whole. A file that cannot be read is not taken for an empty one: the
//! daemon does not start.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use model::{Ballot, Ballots, ConfigurationId, Digest, Name};
use serde::{Deserialize, Serialize};
use svc_kit::shutdown::Failure;

/// Of what is in the file.
const VERSION: u32 = 1;

/// The state of a daemon, on disk.
#[derive(Clone, Debug)]
pub struct State {
    file: PathBuf,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    cluster: Name,
    daemon: Name,
    ballots: Ballots,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    content: Content,
    /// Of the content, as it is written.
    digest: u64,
}

impl State {
    /// That of the daemon called `daemon`, in `directory`. It begins empty.
    pub fn open(directory: &Path, cluster: Name, daemon: Name) -> Result<State, Failure> {
        let file = directory.join(format!("{daemon}.state.json"));
        let damaged = |reason: String| Failure::State { path: file.clone(), reason };
        let content = match fs::read_to_string(&file) {
            Ok(text) => read(&text, cluster, daemon).map_err(damaged)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(directory)
                    .map_err(|source| Failure::Write { path: directory.to_owned(), source })?;
                tracing::info!(file = %file.display(), "remembers no primary component");
                Content { version: VERSION, cluster, daemon, ballots: Ballots::default() }
            }
            Err(error) => return Err(damaged(error.to_string())),
        };
        Ok(State { file, content })
    }

    /// What is remembered.
    pub fn ballots(&self) -> &Ballots {
        &self.content.ballots
    }

    /// Remembers that this daemon agrees to `ballot`. If that fails, it does not.
    pub async fn attempt(&mut self, ballot: Ballot) -> io::Result<()> {
        self.change(|ballots| ballots.attempt(ballot)).await
    }

    /// All have agreed to the configuration `id`, which is told in a view.
    pub async fn form(&mut self, id: ConfigurationId) -> io::Result<()> {
        if self.content.ballots.attempts.iter().all(|attempt| attempt.id != id) {
            return Ok(());
        }
        self.change(|ballots| {
            ballots.form(id);
        })
        .await
    }

    async fn change(&mut self, change: impl FnOnce(&mut Ballots)) -> io::Result<()> {
        let mut content = self.content.clone();
        change(&mut content.ballots);
        let (file, text) = (self.file.clone(), write(&content)?);
        tokio::task::spawn_blocking(move || replace(&file, &text)).await??;
        self.content = content;
        Ok(())
    }
}

fn write(content: &Content) -> io::Result<String> {
    let sealed = Sealed { digest: digest(content)?, content: content.clone() };
    Ok(serde_json::to_string_pretty(&sealed)?)
}

fn read(text: &str, cluster: Name, daemon: Name) -> Result<Content, String> {
    let Sealed { content, digest: sealed } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("it is of version {}, and this program reads {VERSION}", content.version));
    }
    if (content.cluster, content.daemon) != (cluster, daemon) {
        return Err(format!("it belongs to {} of cluster {}", content.daemon, content.cluster));
    }
    if digest(&content).map_err(|error| error.to_string())? != sealed {
        return Err("its digest does not fit".to_owned());
    }
    Ok(content)
}

fn digest(content: &Content) -> serde_json::Result<u64> {
    Ok(Digest::EMPTY.and(&serde_json::to_vec(content)?).bits())
}

/// Puts `text` in the place of what is in `file`: after a crash there is the one or the other.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn ballot(counter: u64, members: &[&str]) -> Ballot {
        let members = members.iter().map(|it| name(it)).collect();
        Ballot { id: ConfigurationId::new(counter, 7), members }
    }

    fn open(directory: &Path) -> Result<State, String> {
        State::open(directory, name("handover"), name("a")).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn what_was_agreed_to_is_known_to_the_next_life() {
        let directory = tempfile::tempdir().unwrap();
        let (first, second) = (ballot(3, &["a", "b"]), ballot(4, &["a"]));
        let mut state = open(&directory.path().join("new")).unwrap();
        state.attempt(first.clone()).await.unwrap();
        state.form(first.id).await.unwrap();
        state.attempt(second.clone()).await.unwrap();
        let expected = Ballots { formed: Some(first), attempts: vec![second] };
        assert_eq!(open(&directory.path().join("new")).unwrap().ballots(), &expected);
    }

    #[tokio::test]
    async fn what_cannot_be_written_was_not_agreed_to() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = open(&directory.path().join("gone")).unwrap();
        fs::remove_dir(directory.path().join("gone")).unwrap();
        assert!(state.attempt(ballot(3, &["a"])).await.is_err());
        assert_eq!(state.ballots(), &Ballots::default());
    }

    #[tokio::test]
    async fn a_damaged_file_is_not_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = open(directory.path()).unwrap();
        state.attempt(ballot(3, &["a", "b"])).await.unwrap();
        let file = directory.path().join("a.state.json");
        let good = fs::read_to_string(&file).unwrap();
        for (from, to, reason) in [
            ("\"b\"", "\"c\"", "its digest does not fit"),
            ("\"version\": 1", "\"version\": 2", "it is of version 2, and this program reads 1"),
            ("\"daemon\": \"a\"", "\"daemon\": \"b\"", "it belongs to b of cluster handover"),
            ("\"handover\"", "\"other\"", "it belongs to a of cluster other"),
            ("\"attempts\"", "\"attempt\"", "missing field `attempts`"),
            (&good, "", "EOF while parsing"),
            (&good, &good[..good.len() / 2], "EOF while parsing"),
        ] {
            assert!(good.contains(from), "{from}");
            fs::write(&file, good.replacen(from, to, 1)).unwrap();
            let wrong = open(directory.path()).unwrap_err();
            assert!(wrong.contains("a.state.json") && wrong.contains(reason), "{wrong}");
        }
    }
}
