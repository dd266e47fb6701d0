//! Reads the trace of a real run: a directory in which every process wrote a file of its own, one record a line.
//!
//! Files are merged by the time that their writers noted, and keep their own order. Clocks of one host differ by
//! little, so the merge is close to what happened, but nothing relies on that. A process that was killed may have
//! written half a line last, which is passed over; anything else that is not a record is an error.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use model::Time;
use model::trace::Record;

use crate::judge::{Judge, Report};
use crate::property::Position;

/// How the names of trace files end.
pub const EXTENSION: &str = "jsonl";

/// Why a trace cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// A file, or the directory itself, cannot be read.
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A line is not a record.
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u32,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// There is no trace file in the directory.
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// There are more files than a position can tell apart.
    TooManyFiles {
        /// The directory.
        path: PathBuf,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            ReadError::Malformed { path, line, error } => {
                write!(f, "{}:{line}: not a trace record: {error}", path.display())
            }
            ReadError::Empty { path } => write!(f, "{}: no *.{EXTENSION} file there", path.display()),
            ReadError::TooManyFiles { path } => write!(f, "{}: too many trace files", path.display()),
        }
    }
}

impl std::error::Error for ReadError {}

/// A trace on disk that is being read. Holds one record of each file in memory.
pub struct Trace {
    sources: Vec<Source>,
}

/// One file, and its next record.
struct Source {
    path: PathBuf,
    lines: BufReader<File>,
    line: u32,
    next: Option<Record>,
}

impl Trace {
    /// Opens all trace files of a directory.
    pub fn open(directory: &Path) -> Result<Trace, ReadError> {
        let failed = |error| ReadError::Io { path: directory.to_owned(), error };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(ReadError::Empty { path: directory.to_owned() });
        }
        if u16::try_from(paths.len()).is_err() {
            return Err(ReadError::TooManyFiles { path: directory.to_owned() });
        }
        paths.sort();
        let sources = paths.into_iter().map(Source::open).collect::<Result<_, _>>()?;
        Ok(Trace { sources })
    }

    /// Reads the rest of the trace, and judges it.
    pub fn judge(mut self) -> Result<Report, ReadError> {
        let mut judge = Judge::default();
        for record in &mut self {
            let (at, record) = record?;
            judge.observe(at, &record.event);
        }
        let sources = self.sources.iter().map(|source| source.path.display().to_string()).collect();
        Ok(Report { sources, ..judge.finish() })
    }

    fn advance(&mut self, first: usize) -> Result<Option<(Position, Record)>, ReadError> {
        let source = &mut self.sources[first];
        let at = Position { source: first as u16, line: source.line };
        let following = source.read()?;
        Ok(std::mem::replace(&mut source.next, following).map(|record| (at, record)))
    }
}

/// The records in the order of their times.
impl Iterator for Trace {
    type Item = Result<(Position, Record), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let time = |source: &Source| source.next.as_ref().map(|record| record.at);
        let heads = self.sources.iter().enumerate().filter_map(|(n, source)| Some((time(source)?, n)));
        let (_, first): (Time, usize) = heads.min()?;
        self.advance(first).transpose()
    }
}

impl Source {
    fn open(path: PathBuf) -> Result<Source, ReadError> {
        let file = File::open(&path).map_err(|error| ReadError::Io { path: path.clone(), error })?;
        let mut source = Source { path, lines: BufReader::new(file), line: 0, next: None };
        source.next = source.read()?;
        Ok(source)
    }

    /// Reads one more line.
    fn read(&mut self) -> Result<Option<Record>, ReadError> {
        let mut text = Vec::new();
        let read = self.lines.read_until(b'\n', &mut text);
        read.map_err(|error| ReadError::Io { path: self.path.clone(), error })?;
        self.line += 1;
        match serde_json::from_slice(&text) {
            Ok(record) => Ok(Some(record)),
            // Nothing is left, or only what its writer did not finish.
            Err(_) if text.last() != Some(&b'\n') => Ok(None),
            Err(error) => Err(ReadError::Malformed { path: self.path.clone(), line: self.line, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    /// A directory of its own for each test, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Directory {
            let path = std::env::temp_dir().join(format!("handover-check-{}-{test}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Directory(path)
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.0.join(name), text).unwrap();
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn lines(script: &Script, times: impl IntoIterator<Item = u64>) -> String {
        let records = script.events().iter().zip(times).map(|(event, at)| {
            let record = Record { at: Time::from_micros(at), event: event.clone() };
            serde_json::to_string(&record).unwrap() + "\n"
        });
        records.collect()
    }

    #[test]
    fn files_are_merged_by_time_and_keep_their_own_order() {
        let directory = Directory::new("merge");
        directory
            .write("a.jsonl", &lines(&Script::new().crashes("a").crashes("b").crashes("c"), [10, 40, 30]));
        directory.write("b.jsonl", &lines(&Script::new().crashes("d").crashes("e"), [20, 35]));
        directory.write("notes.txt", "no trace");
        let records = Trace::open(&directory.0).unwrap().map(Result::unwrap);
        let order: Vec<_> = records.map(|(at, record)| (at.source, at.line, record.at.as_micros())).collect();
        assert_eq!(order, [(0, 1, 10), (1, 1, 20), (1, 2, 35), (0, 2, 40), (0, 3, 30)]);
    }

    #[test]
    fn half_a_line_at_the_end_is_passed_over() {
        let directory = Directory::new("half");
        let text = lines(&Script::new().crashes("a").crashes("b"), [1, 2]);
        directory.write("a.jsonl", &text[..text.len() - 9]);
        directory.write("empty.jsonl", "");
        let report = Trace::open(&directory.0).unwrap().judge().unwrap();
        assert_eq!(report.tally.records, 1);
    }

    #[test]
    fn anything_else_that_is_no_record_is_an_error() {
        let directory = Directory::new("malformed");
        directory.write("a.jsonl", &(lines(&Script::new().crashes("a"), [1]) + "nonsense\n"));
        let error = Trace::open(&directory.0).and_then(Trace::judge).unwrap_err();
        assert!(error.to_string().contains("a.jsonl:2: not a trace record"), "{error}");
        let empty = Directory::new("empty");
        assert!(matches!(Trace::open(&empty.0), Err(ReadError::Empty { .. })));
    }

    #[test]
    fn a_bad_run_is_rejected_from_disk() {
        let directory = Directory::new("bad");
        let script = Script::new().forms(1, "a b").casts("a", 1).delivers("b", "a", 2);
        directory.write("a.jsonl", &lines(&script, 1..));
        let report = Trace::open(&directory.0).unwrap().judge().unwrap();
        assert_eq!(report.violations.len(), 1, "{report}");
        assert_eq!(report.violations[0].property, "fifo");
        assert!(report.to_string().contains("a.jsonl:8"), "{report}");
    }
}
