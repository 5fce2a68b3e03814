//! The `producer` command line.
//!
//! `args` (what can be said) → `settings` (file, environment, flags) → `run` (threads, signals, exit
//! code). Lines come from `input` or `follow` through a `line_buffer`, become records in `record_rule`,
//! and are counted in `report`. Everything about sending is in the library.

mod args;
mod follow;
mod input;
mod line_buffer;
mod record_rule;
mod report;
mod run;
mod settings;
mod sink;
mod topic;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command, ConfigCommand};

/// What the arguments ask for; errors go to standard error.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    init_logs(args.send.verbose);
    let outcome = match &args.command {
        Some(Command::Completions { shell }) => {
            clap_complete::generate(
                *shell,
                &mut Args::command(),
                "producer",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Config { command: ConfigCommand::Show(show) }) => {
            settings::show(&show.settings).map(|()| ExitCode::SUCCESS)
        }
        None => run::run(&args.send),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("producer: {error:#}");
        ExitCode::FAILURE
    })
}

fn init_logs(verbose: u8) {
    let level = match verbose {
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
