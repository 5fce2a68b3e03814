//! The `consumer` command line.
//!
//! `args` (what can be said) → `settings` (file, environment, flags) → `start` (which partitions,
//! from where) → `run` (the loop, signals, exit code). Records are laid out by `format` or `json`
//! into one buffer and go out through `output`; `report` counts them. Everything about reading is
//! in the library.

mod args;
mod format;
mod json;
mod output;
mod report;
mod run;
mod settings;
mod start;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command, ConfigCommand};

/// What the arguments ask for; errors go to standard error.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    init_logs(args.read.verbose, args.read.quiet);
    let outcome = match &args.command {
        Some(Command::Completions { shell }) => {
            let (mut command, out) = (Args::command(), &mut std::io::stdout());
            clap_complete::generate(*shell, &mut command, "consumer", out);
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Config { command: ConfigCommand::Show(show) }) => {
            settings::show(&show.settings).map(|()| ExitCode::SUCCESS)
        }
        None => run::run(&args.read),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("consumer: {error:#}");
        ExitCode::FAILURE
    })
}

fn init_logs(verbose: u8, quiet: bool) {
    let level = match verbose {
        0 if quiet => "error",
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("OTTLA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(!is_plain && std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
