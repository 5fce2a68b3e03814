//! Goes through folders and files in order and dumps each by what its name says it is.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proto::Offset;

use super::file_kind::FileKind;
use super::item::{DumpSink, Field, Kind, Value};
use super::log_file::{self, LogFile};
use super::small_files;

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct DumpOptions {
    /// Records too, not only batches.
    pub deep: bool,
    /// Keys and values of records.
    pub print_data: bool,
    /// Check CRCs and compare indexes with logs.
    pub verify: bool,
    /// Print what indexes say, not only whether they are right.
    pub index_entries: bool,
    /// Offsets may be missing between batches: logs that Kafka compacted.
    pub allow_gaps: bool,
}

/// What was gone through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DumpReport {
    /// Files.
    pub files: u64,
    /// Good batches.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Bytes of logs.
    pub bytes: u64,
    /// Damages found.
    pub damages: u64,
}

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// There is nothing to dump at a path.
    #[error(
        "{path}: {what}; name a partition's folder, a log directory, or files such as \
         00000000000000000000.log"
    )]
    NotALog {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {error}; check its permissions, then the disk")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The sink takes no more.
    #[error("the output cannot be written: {0}")]
    Output(#[source] io::Error),
}

/// A dump.
pub struct Dumper<'s> {
    pub(super) options: DumpOptions,
    pub(super) sink: &'s mut dyn DumpSink,
    pub(super) report: DumpReport,
    /// Of one batch at a time.
    pub(super) buffer: Vec<u8>,
    /// Segments of the folders seen.
    folders: BTreeMap<PathBuf, Vec<Offset>>,
}

/// A file to dump.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    path: PathBuf,
    kind: FileKind,
}

impl<'s> Dumper<'s> {
    /// A dump to `sink`.
    pub fn new(options: DumpOptions, sink: &'s mut dyn DumpSink) -> Self {
        let report = DumpReport::default();
        Self { options, sink, report, buffer: Vec::new(), folders: BTreeMap::new() }
    }

    /// Bytes that [`Dumper::run`] will go through, for a progress display.
    pub fn size_of(paths: &[PathBuf]) -> Result<u64, DumpError> {
        let logs = expand(paths)?.into_iter().filter(|target| target.kind.is_log());
        Ok(logs.filter_map(|target| fs::metadata(&target.path).ok()).map(|meta| meta.len()).sum())
    }

    /// Dumps folders and files in the order given; the files of a folder segment by segment.
    pub fn run(mut self, paths: &[PathBuf]) -> Result<DumpReport, DumpError> {
        let targets = expand(paths)?;
        let logs: HashSet<&Path> = targets
            .iter()
            .filter(|target| target.kind.is_log())
            .map(|target| target.path.as_path())
            .collect();
        for target in &targets {
            let log_too = logs.contains(&*target.path.with_extension("log"));
            let vanished = match self.target(target, log_too) {
                Err(DumpError::Read { error, .. }) => {
                    // A running broker deletes segments.
                    let gone = error.kind() == io::ErrorKind::NotFound;
                    if !gone {
                        let what = format!("it cannot be read: {error}; check the disk");
                        self.damage(&target.path, &[("what", Value::Owned(what))])?;
                    }
                    gone
                }
                outcome => {
                    outcome?;
                    false
                }
            };
            if vanished {
                self.note(&target.path, "it was deleted meanwhile".to_owned())?;
            }
        }
        Ok(self.report)
    }

    fn target(&mut self, target: &Target, log_too: bool) -> Result<(), DumpError> {
        let path = &target.path;
        let log = |base, next_base, cut, indexes, print| LogFile {
            path: path.clone(),
            base,
            next_base,
            cut,
            indexes,
            print,
        };
        match target.kind {
            FileKind::Log(base) => {
                let next = self.segment_after(path, base);
                let file = log(Some(base), next, false, self.options.verify, true);
                log_file::dump(self, &file)
            }
            FileKind::Cut(_) => log_file::dump(self, &log(None, None, true, false, true)),
            FileKind::ForeignLog => log_file::dump(self, &log(None, None, false, false, true)),
            FileKind::Index(base) | FileKind::TimeIndex(base) => {
                match target.kind {
                    FileKind::Index(_) => small_files::index(self, path, base)?,
                    _ => small_files::time_index(self, path, base)?,
                }
                // A log that is dumped too is compared with its indexes there.
                if !self.options.verify || log_too {
                    return Ok(());
                }
                let log_path = path.with_extension("log");
                if !log_path.exists() {
                    let what = "there is no .log beside it to compare it with".to_owned();
                    return self.note(path, what);
                }
                let next_base = self.segment_after(path, base);
                let file = LogFile {
                    path: log_path,
                    base: Some(base),
                    next_base,
                    cut: false,
                    indexes: true,
                    print: false,
                };
                log_file::dump(self, &file)
            }
            other => small_files::dump(self, path, other),
        }
    }

    /// Where the segment after this one begins.
    fn segment_after(&mut self, path: &Path, base: Offset) -> Option<Offset> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let bases = self.folders.entry(folder.to_owned()).or_insert_with(|| segments_of(folder));
        bases.get(bases.partition_point(|&other| other <= base)).copied()
    }

    /// Says that a file begins.
    pub(super) fn begin(&mut self, path: &Path, len: u64) -> Result<(), DumpError> {
        self.report.files += 1;
        let bytes = i64::try_from(len).unwrap_or(i64::MAX);
        self.emit(Kind::File, path, &[("bytes", Value::Int(bytes))])
    }

    /// Says that something is damaged.
    pub(super) fn damage(&mut self, path: &Path, fields: &[Field<'_>]) -> Result<(), DumpError> {
        self.report.damages += 1;
        self.emit(Kind::Damage, path, fields)
    }

    /// Says something worth knowing.
    pub(super) fn note(&mut self, path: &Path, what: String) -> Result<(), DumpError> {
        self.emit(Kind::Note, path, &[("what", Value::Owned(what))])
    }

    /// The same with fields of its own.
    pub(super) fn note_fields(
        &mut self,
        path: &Path,
        fields: &[Field<'_>],
    ) -> Result<(), DumpError> {
        self.emit(Kind::Note, path, fields)
    }

    /// Ends a file.
    pub(super) fn summary(&mut self, path: &Path, fields: &[Field<'_>]) -> Result<(), DumpError> {
        self.emit(Kind::Summary, path, fields)
    }

    /// An entry of an index or a checkpoint.
    pub(super) fn entry(&mut self, fields: &[Field<'_>]) -> Result<(), DumpError> {
        if !self.sink.wants(Kind::Entry) {
            return Ok(());
        }
        self.sink.item(Kind::Entry, fields).map_err(DumpError::Output)
    }

    fn emit(&mut self, kind: Kind, path: &Path, fields: &[Field<'_>]) -> Result<(), DumpError> {
        if !self.sink.wants(kind) {
            return Ok(());
        }
        let mut all = vec![("file", Value::Owned(path.display().to_string()))];
        all.extend_from_slice(fields);
        self.sink.item(kind, &all).map_err(DumpError::Output)
    }
}

/// The base offsets of a folder's segments, in order.
pub(super) fn segments_of(folder: &Path) -> Vec<Offset> {
    let mut bases: Vec<_> = names_in(folder)
        .unwrap_or_default()
        .iter()
        .filter_map(|(name, _)| match FileKind::of(name) {
            Some(FileKind::Log(base)) => Some(base),
            _ => None,
        })
        .collect();
    bases.sort_unstable();
    bases
}

/// Names in a folder, and whether they are folders.
pub(super) fn names_in(folder: &Path) -> io::Result<Vec<(String, bool)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A name that is not text is none of a log's.
        let Ok(name) = entry.file_name().into_string() else { continue };
        names.push((name, entry.file_type()?.is_dir()));
    }
    names.sort_unstable();
    Ok(names)
}

/// The files behind the paths: a folder's own, and those of the partitions in it.
fn expand(paths: &[PathBuf]) -> Result<Vec<Target>, DumpError> {
    let mut targets = Vec::new();
    for path in paths {
        let read = |error| DumpError::Read { path: path.clone(), error };
        let not_a_log = |what| DumpError::NotALog { path: path.clone(), what };
        let meta = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_a_log("there is no such file"));
            }
            meta => meta.map_err(read)?,
        };
        if meta.is_dir() {
            let before = targets.len();
            add_folder(path, &mut targets).map_err(read)?;
            if targets.len() == before {
                return Err(not_a_log("there is no file of a log in this folder"));
            }
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(kind) = FileKind::of(name) else {
            return Err(not_a_log("a file of this name is none of a log's"));
        };
        targets.push(Target { path: path.clone(), kind });
    }
    Ok(targets)
}

fn add_folder(folder: &Path, targets: &mut Vec<Target>) -> io::Result<()> {
    let names = names_in(folder)?;
    add_files(folder, &names, targets);
    for (name, _) in names.iter().filter(|(_, is_dir)| *is_dir) {
        let below = folder.join(name);
        let files = names_in(&below)?;
        if files.iter().any(|(name, _)| matches!(FileKind::of(name), Some(FileKind::Log(_)))) {
            add_files(&below, &files, targets);
        }
    }
    Ok(())
}

fn add_files(folder: &Path, names: &[(String, bool)], targets: &mut Vec<Target>) {
    let files = names.iter().filter(|(_, is_dir)| !is_dir);
    let mut found: Vec<_> = files
        .filter_map(|(name, _)| Some(Target { path: folder.join(name), kind: FileKind::of(name)? }))
        .filter(|target| target.kind != FileKind::ForeignLog)
        .collect();
    found.sort_by_key(|target| target.kind.rank());
    targets.append(&mut found);
}
