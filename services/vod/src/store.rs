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
