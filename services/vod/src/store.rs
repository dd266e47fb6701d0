//! A content directory: every file `UNIT.mp4` in it is a content unit.
//!
//! Files are read into memory. A map of them would be smaller, but a file that is cut short under a map kills the
//! process, and whoever serves a film reads all of it anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use model::UnitId;
use thiserror::Error;

use crate::film::{Film, FilmError};

const EXTENSION: &str = "mp4";

/// Which units of a directory to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that are there.
    All,
    /// These, each of which has to be there.
    Units(BTreeSet<UnitId>),
}

/// Why content cannot be loaded or added.
#[derive(Debug, Error)]
#[allow(missing_docs)]
pub enum StoreError {
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Film { path: PathBuf, source: FilmError },
    #[error(
        "{}: the file name has to be a unit id, at most {} of a-z, 0-9, `-`, `_` and `.`, then `.mp4`, such as \
         `{suggestion}.mp4`; rename it",
        path.display(), UnitId::LEN_MAX
    )]
    Name { path: PathBuf, suggestion: String },
    #[error("{} has no *.mp4; add one with `handover content add FILE`, or name another directory", dir.display())]
    NoContent { dir: PathBuf },
    #[error("{} has no unit `{unit}`; it has {}", dir.display(), listed(held))]
    NoSuchUnit { dir: PathBuf, unit: UnitId, held: BTreeSet<UnitId> },
    #[error(
        "there is another film called `{unit}` already, and content does not change while it is served; \
         rename the new one"
    )]
    Taken { unit: UnitId },
}

fn listed(units: &BTreeSet<UnitId>) -> String {
    units.iter().map(UnitId::as_str).collect::<Vec<_>>().join(", ")
}

/// Loads the selected films of a directory.
///
/// # Errors
/// A [`StoreError`] names the file that cannot be used. Nothing is left out in silence.
pub fn load(dir: &Path, selection: &Selection) -> Result<BTreeMap<UnitId, Film>, StoreError> {
    let paths = list(dir)?;
    let selected: BTreeSet<UnitId> = match selection {
        Selection::All => paths.keys().cloned().collect(),
        Selection::Units(units) => units.clone(),
    };
    let load_one = |unit: UnitId| {
        let Some(path) = paths.get(&unit) else {
            let held = paths.keys().cloned().collect();
            return Err(StoreError::NoSuchUnit { dir: dir.to_owned(), unit, held });
        };
        Ok((unit, read(path)?.1))
    };
    selected.into_iter().map(load_one).collect()
}

/// The units of a directory and their files.
///
/// # Errors
/// If the directory cannot be read, has no film, or has one whose name is not a unit id.
pub fn list(dir: &Path) -> Result<BTreeMap<UnitId, PathBuf>, StoreError> {
    let failed = |source| StoreError::Io { action: "read", path: dir.to_owned(), source };
    let mut paths = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|it| it == EXTENSION) && !hidden {
            paths.insert(unit_of(&path)?, path);
        }
    }
    if paths.is_empty() {
        return Err(StoreError::NoContent { dir: dir.to_owned() });
    }
    Ok(paths)
}

/// Adds a film to a directory, which is made if need be, under the name of its file. The film is there as a whole or
/// not at all. Adding the same film again changes nothing.
///
/// # Errors
/// A [`StoreError`] says why this file cannot be served, and what to do about it.
pub fn add(file: &Path, dir: &Path) -> Result<UnitId, StoreError> {
    let (bytes, _) = read(file)?;
    let unit = unit_of(file)?;
    let target = dir.join(format!("{unit}.{EXTENSION}"));
    let failed = |source| StoreError::Io { action: "write", path: target.clone(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut copy = tempfile::Builder::new()
        .prefix(".adding-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(failed)?;
    copy.write_all(&bytes).and_then(|()| copy.as_file().sync_all()).map_err(failed)?;
    match copy.persist_noclobber(&target) {
        Ok(_) => Ok(unit),
        Err(it) if it.error.kind() != io::ErrorKind::AlreadyExists => Err(failed(it.error)),
        Err(_) if fs::read(&target).map_err(failed)? == bytes => Ok(unit),
        Err(_) => Err(StoreError::Taken { unit }),
    }
}

fn read(path: &Path) -> Result<(Bytes, Film), StoreError> {
    let failed = |source| StoreError::Io { action: "read", path: path.to_owned(), source };
    let bytes = Bytes::from(fs::read(path).map_err(failed)?);
    let film = Film::parse(bytes.clone());
    film.map(|it| (bytes, it)).map_err(|source| StoreError::Film { path: path.to_owned(), source })
}

/// The unit that a file holds: its name without the extension.
fn unit_of(path: &Path) -> Result<UnitId, StoreError> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    UnitId::new(&stem).ok_or_else(|| {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let suggestion = stem.to_lowercase().chars().map(legal).take(UnitId::LEN_MAX).collect();
        StoreError::Name { path: path.to_owned(), suggestion }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::{VIDEO, fragment, ftyp, moov, video};

    fn some_film(duration: u32) -> Vec<u8> {
        [ftyp(), moov(&[video()]), fragment(1, VIDEO, Some(0), &[duration])].concat()
    }

    fn unit(id: &str) -> UnitId {
        UnitId::new(id).unwrap()
    }

    fn dir_with(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |it: io::Result<fs::DirEntry>| it.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_is_loaded() {
        let files =
            [("a.mp4", some_film(500)), ("b.mp4", some_film(750)), ("make.sh", vec![]), (".c.mp4", vec![])];
        let dir = dir_with(&files);
        let all = load(dir.path(), &Selection::All).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), [&unit("a"), &unit("b")]);
        assert_eq!(all[&unit("b")].duration().as_millis(), 750);
        let some = load(dir.path(), &Selection::Units([unit("b")].into())).unwrap();
        assert_eq!(some.keys().collect::<Vec<_>>(), [&unit("b")]);
    }

    #[test]
    fn a_film_that_is_not_selected_need_not_be_readable() {
        let dir = dir_with(&[("a.mp4", some_film(500)), ("broken.mp4", b"no film".to_vec())]);
        assert!(load(dir.path(), &Selection::Units([unit("a")].into())).is_ok());
        let refused = load(dir.path(), &Selection::All).unwrap_err();
        assert!(matches!(refused, StoreError::Film { source: FilmError::NotMp4, .. }), "{refused}");
        assert!(refused.to_string().contains("broken.mp4"));
    }

    #[test]
    fn what_cannot_be_loaded_says_what_to_do() {
        let two = dir_with(&[("a.mp4", some_film(500)), ("b.mp4", some_film(500))]);
        let misnamed = dir_with(&[("My Film (1).mp4", some_film(500))]);
        let empty = dir_with(&[("readme.txt", vec![])]);
        let absent = empty.path().join("absent");
        let cases = [
            (two.path(), Selection::Units([unit("c")].into()), "has no unit `c`; it has a, b"),
            (misnamed.path(), Selection::All, "such as `my-film--1-.mp4`"),
            (empty.path(), Selection::All, "add one with `handover content add FILE`"),
            (&absent, Selection::All, "cannot read"),
        ];
        for (dir, selection, message) in cases {
            let refused = load(dir, &selection).unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
        }
    }

    #[test]
    fn a_film_is_added_as_a_whole() {
        let from = dir_with(&[("film-1.mp4", some_film(500))]);
        let parent = tempfile::tempdir().unwrap();
        let content = parent.path().join("content");
        for _ in 0..2 {
            assert_eq!(add(&from.path().join("film-1.mp4"), &content).unwrap(), unit("film-1"));
            assert_eq!(names(&content), ["film-1.mp4"]);
            assert_eq!(fs::read(content.join("film-1.mp4")).unwrap(), some_film(500));
        }
        assert!(load(&content, &Selection::All).is_ok());
        let mode = fs::metadata(content.join("film-1.mp4")).unwrap().permissions().mode();
        assert_eq!(mode & 0o600, 0o600);
    }

    #[test]
    fn what_cannot_be_added_leaves_the_directory_alone() {
        let files = [
            ("film.mp4", some_film(750)),
            ("broken.mp4", some_film(500)[..40].to_vec()),
            ("Film.mp4", some_film(500)),
        ];
        let from = dir_with(&files);
        let content = dir_with(&[("film.mp4", some_film(500))]);
        let cases = [
            ("film.mp4", "another film called `film`"),
            ("broken.mp4", "is cut off"),
            ("Film.mp4", "such as `film.mp4`"),
            ("absent.mp4", "cannot read"),
        ];
        for (name, message) in cases {
            let refused = add(&from.path().join(name), content.path()).unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
            assert_eq!(names(content.path()), ["film.mp4"]);
            assert_eq!(fs::read(content.path().join("film.mp4")).unwrap(), some_film(500));
        }
    }
}
