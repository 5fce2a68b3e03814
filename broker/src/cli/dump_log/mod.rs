//! `broker dump-log`: prints, verifies and repairs the files of partitions, without a broker.
//!
//! What is found comes from `storage::dump` as items of named fields; here they become lines
//! (`text`, `json`), counts and an exit code.

mod args;
mod json;
mod printer;
mod progress;
mod text;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) use args::DumpLogOptions;
use printer::{Format, Printer};

use crate::storage::dump::{DumpError, DumpOptions, Dumper, RepairError, repair};

/// Damage was found.
const DAMAGED: u8 = 1;
/// The command line names nothing that can be done.
const USAGE: u8 = 2;
/// Something could not be read or written.
const FAILED: u8 = 3;

/// Runs the command; the exit code says whether there is damage.
pub(super) fn dump_log(options: &DumpLogOptions) -> ExitCode {
    let paths = options.paths();
    let stdout = io::stdout();
    // A bar among lines would be torn: it is for when the lines go elsewhere or are few.
    let quiet = options.summary || options.repair || !stdout.is_terminal();
    let total = Dumper::size_of(&paths).unwrap_or_default();
    let progress = progress::bar(total, quiet && io::stderr().is_terminal());
    let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let format = match options.json() {
        true => Format::Json,
        false => Format::Text { color },
    };
    let mut printer = Printer::new(stdout.lock(), format, progress, options.summary);
    let outcome = match &options.output {
        Some(output) if options.repair => repaired(&paths, output, &mut printer),
        _ => dumped(options, &paths, &mut printer),
    };
    match outcome {
        Ok(damages) => ExitCode::from(if damages > 0 { DAMAGED } else { 0 }),
        // `| head` has seen enough.
        Err(failure) if failure.closed => {
            ExitCode::from(if printer.damages() > 0 { DAMAGED } else { 0 })
        }
        Err(failure) => {
            drop(printer);
            eprintln!("error: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Why the command ended early.
struct Failure {
    code: u8,
    text: String,
    /// Who read the output went away.
    closed: bool,
}

impl Failure {
    fn output(error: &io::Error, text: String) -> Self {
        Self { code: FAILED, text, closed: error.kind() == io::ErrorKind::BrokenPipe }
    }
}

impl From<DumpError> for Failure {
    fn from(error: DumpError) -> Self {
        let text = error.to_string();
        match error {
            DumpError::NotALog { .. } => Self { code: USAGE, text, closed: false },
            DumpError::Read { .. } => Self { code: FAILED, text, closed: false },
            DumpError::Output(error) => Self::output(&error, text),
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        let text = error.to_string();
        let code = match error {
            RepairError::Report(error) => return Self::output(&error, text),
            RepairError::Output { .. } | RepairError::NotAPartition { .. } => USAGE,
            RepairError::GapTooLarge { .. } | RepairError::Io { .. } => FAILED,
        };
        Self { code, text, closed: false }
    }
}

fn dumped(
    options: &DumpLogOptions,
    paths: &[PathBuf],
    printer: &mut Printer<'_>,
) -> Result<u64, Failure> {
    let dump = DumpOptions {
        deep: options.deep || options.print_data,
        print_data: options.print_data,
        verify: !options.no_verify,
        index_entries: !options.verify_index && !options.summary,
        allow_gaps: options.allow_gaps,
    };
    let report = Dumper::new(dump, printer).run(paths)?;
    printer.end(&report).map_err(DumpError::Output)?;
    Ok(report.damages)
}

fn repaired(
    paths: &[PathBuf],
    output: &std::path::Path,
    printer: &mut Printer<'_>,
) -> Result<u64, Failure> {
    let report = repair(paths, output, printer)?;
    printer.flush().map_err(RepairError::Report)?;
    Ok(report.left_out)
}
