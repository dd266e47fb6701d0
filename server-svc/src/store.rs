//! A content directory: every file in it whose name ends like that of a [kind](Kind) of content is a content unit, or a
//! later edition of one: `film.mp4` is the first edition of the unit `film`, `film@2.mp4` the second.
//!
//! Files are read into memory. A map of them would be smaller, but a file that is cut short under a map kills the
//! process, and whoever serves a film reads all of it anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use model::{Digest, UnitId};
use session_core::{ContentId, Edition};
use thiserror::Error;

use crate::content::{Content, ContentError, Kind};

/// A server holds at most so many units: with the longest ids and titles, the message in which it tells them all is not
/// longer than one may be, 1 MiB.
const UNITS_MAX: usize = 2000;

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
    #[error("cannot {action} {}: {reason}", path.display())]
    Io { action: &'static str, path: PathBuf, reason: io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: ContentError },
    #[error("{}: the name of a content unit's file ends with one of {}", path.display(), suffixes())]
    NoKind { path: PathBuf },
    #[error(
        "{}: the file name has to be a unit id, at most {} of a-z, 0-9, `-`, `_` and `.`, then `@` and a number from 2 on \
         if it is a later edition, then `{suffix}`, such as `{suggestion}{suffix}`; rename it",
        path.display(), UnitId::LEN_MAX
    )]
    Name { path: PathBuf, suggestion: String, suffix: &'static str },
    #[error("{} and {} would both be the same edition of `{unit}`; rename one", one.display(), other.display())]
    Twice { unit: UnitId, one: PathBuf, other: PathBuf },
    #[error(
        "{} has no content, which are files with names that end with one of {}; add one with `handover content add \
         FILE`, or name another directory",
        dir.display(), suffixes()
    )]
    NoContent { dir: PathBuf },
    #[error("{} has no unit `{unit}`; it has {}", dir.display(), listed(held))]
    NoSuchUnit { dir: PathBuf, unit: UnitId, held: BTreeSet<UnitId> },
    #[error("{units} units of {} are too many for one server, which holds at most {UNITS_MAX}; select some with `units`", dir.display())]
    TooMany { dir: PathBuf, units: usize },
    #[error(
        "there is another unit called `{unit}` already, and content does not change while it is served; rename the new \
         one, or publish it as a new edition with `handover content publish`"
    )]
    Taken { unit: UnitId },
}

fn suffixes() -> String {
    Kind::ALL.map(Kind::suffix).join(", ")
}

fn listed(units: &BTreeSet<UnitId>) -> String {
    units.iter().map(UnitId::as_str).collect::<Vec<_>>().join(", ")
}

/// What the name of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The unit.
    pub unit: UnitId,
    /// Which edition of it.
    pub edition: u32,
    /// What it is.
    pub kind: Kind,
}

impl Named {
    /// The name of the file.
    fn file_name(&self) -> String {
        let Named { unit, edition, kind } = self;
        let suffix = kind.suffix();
        if *edition == 1 { format!("{unit}{suffix}") } else { format!("{unit}@{edition}{suffix}") }
    }
}

/// The files of each unit, by edition.
pub type Files = BTreeMap<UnitId, BTreeMap<u32, PathBuf>>;

/// Loads the selected units of a directory, in all their editions.
///
/// # Errors
/// A [`StoreError`] names the file that cannot be used. Nothing is left out in silence.
pub fn load(dir: &Path, selection: &Selection) -> Result<BTreeMap<ContentId, Content>, StoreError> {
    let files = list(dir)?;
    let selected: BTreeSet<UnitId> = match selection {
        Selection::All => files.keys().cloned().collect(),
        Selection::Units(units) => units.clone(),
    };
    if selected.len() > UNITS_MAX {
        return Err(StoreError::TooMany { dir: dir.to_owned(), units: selected.len() });
    }
    let mut loaded = BTreeMap::new();
    for unit in selected {
        let Some(editions) = files.get(&unit) else {
            let held = files.keys().cloned().collect();
            return Err(StoreError::NoSuchUnit { dir: dir.to_owned(), unit, held });
        };
        for (number, path) in editions {
            let (bytes, content) = read(path)?;
            let edition = Edition { number: *number, digest: Digest::of(&bytes) };
            loaded.insert(ContentId { unit: unit.clone(), edition }, content);
        }
    }
    Ok(loaded)
}

/// The units of a directory and their files.
///
/// # Errors
/// If the directory cannot be read, has no content, or has some whose name is not a unit id or that of another.
pub fn list(dir: &Path) -> Result<Files, StoreError> {
    let failed = |reason| StoreError::Io { action: "read", path: dir.to_owned(), reason };
    let mut files = Files::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
        if hidden || Kind::of(&path).is_none() {
            continue;
        }
        let Named { unit, edition, .. } = named(&path)?;
        if let Some(one) = files.entry(unit.clone()).or_default().insert(edition, path.clone()) {
            return Err(StoreError::Twice { unit, one, other: path });
        }
    }
    if files.is_empty() {
        return Err(StoreError::NoContent { dir: dir.to_owned() });
    }
    Ok(files)
}

/// Adds a file to a directory, which is made if need be, under its name. It is there as a whole or not at all. Adding
/// the same one again changes nothing.
///
/// # Errors
/// A [`StoreError`] says why this file cannot be served, and what to do about it.
pub fn add(file: &Path, dir: &Path) -> Result<UnitId, StoreError> {
    let name = named(file)?;
    add_as(file, dir, &name)?;
    Ok(name.unit)
}

/// The same, under this name.
///
/// # Errors
/// As [`add`].
pub fn add_as(file: &Path, dir: &Path, name: &Named) -> Result<(), StoreError> {
    let (bytes, _) = read(file)?;
    let target = dir.join(name.file_name());
    let taken = || StoreError::Taken { unit: name.unit.clone() };
    let there = list(dir).unwrap_or_default();
    let same = there.get(&name.unit).and_then(|editions| editions.get(&name.edition));
    if same.is_some_and(|path| *path != target) {
        return Err(taken());
    }
    let failed = |reason| StoreError::Io { action: "write", path: target.clone(), reason };
    fs::create_dir_all(dir).map_err(failed)?;
    let mut copy = tempfile::Builder::new()
        .prefix(".adding-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(failed)?;
    copy.write_all(&bytes).and_then(|()| copy.as_file().sync_all()).map_err(failed)?;
    match copy.persist_noclobber(&target) {
        Ok(_) => Ok(()),
        Err(it) if it.error.kind() != io::ErrorKind::AlreadyExists => Err(failed(it.error)),
        Err(_) if fs::read(&target).map_err(failed)? == bytes => Ok(()),
        Err(_) => Err(taken()),
    }
}

fn read(path: &Path) -> Result<(Bytes, Content), StoreError> {
    let Some(kind) = Kind::of(path) else { return Err(StoreError::NoKind { path: path.to_owned() }) };
    let failed = |reason| StoreError::Io { action: "read", path: path.to_owned(), reason };
    let bytes = fs::read(path).map(Bytes::from).map_err(failed)?;
    let content = Content::parse(kind, bytes.clone());
    content
        .map(|content| (bytes, content))
        .map_err(|reason| StoreError::Content { path: path.to_owned(), reason })
}

/// What a file is, by its name.
///
/// # Errors
/// If the name is not that of a unit's file.
pub fn named(path: &Path) -> Result<Named, StoreError> {
    let Some(kind) = Kind::of(path) else { return Err(StoreError::NoKind { path: path.to_owned() }) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(kind.suffix()).unwrap_or_default();
    let (id, edition) = match stem.split_once('@') {
        None => (stem, Some(1)),
        Some((id, number)) => (id, number.parse().ok().filter(|number: &u32| *number > 1)),
    };
    if let (Some(unit), Some(edition)) = (UnitId::new(id), edition) {
        return Ok(Named { unit, edition, kind });
    }
    let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let suggestion = stem.to_lowercase().chars().map(legal).take(UnitId::LEN_MAX).collect();
    Err(StoreError::Name { path: path.to_owned(), suggestion, suffix: kind.suffix() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use session_core::UnitInfo;
    use session_core::message::ServiceMessage;

    use super::*;
    use crate::content::TITLE_BYTES_MAX;

    /// A course that is so long.
    fn course(pages: usize) -> Vec<u8> {
        let page = |number| format!("[[page]]\nid = '{number}'\ntitle = ''\ntext = ''\nlinks = ['1']\n");
        let next = |number| if number < pages { format!("next = '{}'\n", number + 1) } else { String::new() };
        let pages: String = (1..=pages).map(|number| page(number) + &next(number)).collect();
        format!("title = 'A course'\n{pages}").into_bytes()
    }

    fn film() -> Vec<u8> {
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../content/life.mp4")).unwrap()
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
        let files = [
            ("a.mp4", film()),
            ("b.course.toml", course(3)),
            ("b@12.course.toml", course(4)),
            ("c.collection.md", b"# C\ntext".to_vec()),
            ("make.sh", vec![]),
            (".c.mp4", vec![]),
        ];
        let dir = dir_with(&files);
        let all = load(dir.path(), &Selection::All).unwrap();
        let names: Vec<_> = all.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b", "b@12", "c"]);
        let course_of =
            |number| all.iter().find(|(id, _)| (id.unit.as_str(), id.edition.number) == ("b", number));
        let Some((_, Content::Course(course))) = course_of(1) else { panic!("it is a course") };
        assert_eq!(course.pages.len(), 3);
        let some = load(dir.path(), &Selection::Units([unit("b")].into())).unwrap();
        assert_eq!(some.keys().map(ToString::to_string).collect::<Vec<_>>(), ["b", "b@12"]);
    }

    #[test]
    fn a_film_is_the_file_as_it_was_read_and_no_copy() {
        let dir = dir_with(&[("a.mp4", film())]);
        let (file, content) = read(&dir.path().join("a.mp4")).unwrap();
        let Content::Film(film) = content else { panic!("it is a film") };
        assert!(film.fragments().iter().all(|it| file.as_ptr_range().contains(&film.payload(it).as_ptr())));
    }

    #[test]
    fn what_is_not_selected_need_not_be_readable() {
        let dir = dir_with(&[("a.course.toml", course(1)), ("broken.mp4", b"no film".to_vec())]);
        assert!(load(dir.path(), &Selection::Units([unit("a")].into())).is_ok());
        let refused = load(dir.path(), &Selection::All).unwrap_err();
        assert!(matches!(refused, StoreError::Content { reason: ContentError::Film(_), .. }), "{refused}");
        assert!(refused.to_string().contains("broken.mp4"));
    }

    #[test]
    fn what_cannot_be_loaded_says_what_to_do() {
        let two = dir_with(&[("a.course.toml", course(1)), ("b.course.toml", course(1))]);
        let twice = dir_with(&[("a.course.toml", course(1)), ("a.mp4", film())]);
        let first = dir_with(&[("a@1.course.toml", course(1))]);
        let misnamed = dir_with(&[("My Film (1).mp4", film())]);
        let empty = dir_with(&[("readme.txt", vec![])]);
        let absent = empty.path().join("absent");
        let cases = [
            (two.path(), Selection::Units([unit("c")].into()), "has no unit `c`; it has a, b"),
            (twice.path(), Selection::All, "would both be the same edition of `a`"),
            (first.path(), Selection::All, "a number from 2 on"),
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
    fn what_a_server_holds_can_be_told_in_one_message() {
        let title = |bytes| format!("title = '{}'", "t".repeat(bytes)).into_bytes();
        let fits = dir_with(&[("a.kv.toml", title(TITLE_BYTES_MAX))]);
        assert!(load(fits.path(), &Selection::All).is_ok());
        let long = dir_with(&[("a.kv.toml", title(TITLE_BYTES_MAX + 1))]);
        let refused = load(long.path(), &Selection::All).unwrap_err().to_string();
        assert!(refused.ends_with("a.kv.toml: the title has 257 bytes, and may have 256"), "{refused}");
        let units = (0..=UNITS_MAX).map(|number| unit(&format!("{number:0>127}")));
        let many = Selection::Units(units.clone().collect());
        let refused = load(fits.path(), &many).unwrap_err().to_string();
        assert!(refused.starts_with("2001 units of "), "{refused}");
        let info = |unit| UnitInfo {
            edition: Edition { number: u32::MAX, digest: Digest::new(u64::MAX) },
            duration: Duration::MAX,
            size: u64::MAX,
            ..UnitInfo::new(unit, &"t".repeat(TITLE_BYTES_MAX), "application/json")
        };
        let holds = ServiceMessage::Holds { units: units.take(UNITS_MAX).map(info).collect() };
        // A byte more is the version.
        assert!(postcard::to_allocvec(&holds).unwrap().len() < 1 << 20);
    }

    #[test]
    fn a_unit_is_added_as_a_whole() {
        let from = dir_with(&[("course-1.course.toml", course(1))]);
        let parent = tempfile::tempdir().unwrap();
        let content = parent.path().join("content");
        for _ in 0..2 {
            assert_eq!(add(&from.path().join("course-1.course.toml"), &content).unwrap(), unit("course-1"));
            assert_eq!(names(&content), ["course-1.course.toml"]);
            assert_eq!(fs::read(content.join("course-1.course.toml")).unwrap(), course(1));
        }
        assert!(load(&content, &Selection::All).is_ok());
        let mode = fs::metadata(content.join("course-1.course.toml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o600, 0o600);
    }

    #[test]
    fn a_file_is_added_as_another_edition() {
        let from = dir_with(&[("new.course.toml", course(2))]);
        let content = dir_with(&[("a.course.toml", course(1))]);
        let name = Named { unit: unit("a"), edition: 2, kind: Kind::Course };
        let file = from.path().join("new.course.toml");
        add_as(&file, content.path(), &name).unwrap();
        assert_eq!(names(content.path()), ["a.course.toml", "a@2.course.toml"]);
        assert_eq!(named(&content.path().join("a@2.course.toml")).unwrap(), name);
        fs::write(&file, course(3)).unwrap();
        assert!(matches!(add_as(&file, content.path(), &name), Err(StoreError::Taken { .. })));
    }

    #[test]
    fn what_cannot_be_added_leaves_the_directory_alone() {
        let files = [
            ("a.course.toml", course(2)),
            ("a.mp4", film()),
            ("broken.mp4", film()[..40].to_vec()),
            ("Film.mp4", film()),
            ("a.txt", film()),
        ];
        let from = dir_with(&files);
        let content = dir_with(&[("a.course.toml", course(1))]);
        let cases = [
            ("a.course.toml", "another unit called `a`"),
            ("a.mp4", "another unit called `a`"),
            ("broken.mp4", "is cut off"),
            ("Film.mp4", "such as `film.mp4`"),
            ("a.txt", "ends with one of .mp4, .course.toml, .collection.md"),
            ("absent.mp4", "cannot read"),
        ];
        for (name, message) in cases {
            let refused = add(&from.path().join(name), content.path()).unwrap_err().to_string();
            assert!(refused.contains(message), "{refused}");
            assert_eq!(names(content.path()), ["a.course.toml"]);
            assert_eq!(fs::read(content.path().join("a.course.toml")).unwrap(), course(1));
        }
    }
}
