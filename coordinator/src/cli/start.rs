//! From the command line to an exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use tracing_subscriber::EnvFilter;

use super::args::{Cli, Command, ConfigAction};
use super::failure::Failure;
use super::{brokers, configs, elect, groups, process, reassign, settings, spelling, topics};

/// Runs the executable.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let cli = Cli::parse_from(spelling::put_in_order(words));
    let runs = matches!(cli.command, Command::Run(_) | Command::Registry(_));
    log_to_stderr(if runs { "info" } else { "error" });
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("coordinator: {}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "coordinator", &mut script);
            super::output::write(&script)
        }
        Command::Config(config) => {
            let ConfigAction::Show(args) = config.action;
            let settings = process::settings(&args)?;
            super::output::write(settings::show(&settings).as_bytes())
        }
        Command::Run(args) => block_on(process::run(args)),
        Command::Registry(args) => block_on(process::registry(args)),
        Command::Topics(args) => block_on(topics::run(args)),
        Command::Brokers(args) => block_on(brokers::run(args)),
        Command::Reassign(args) => block_on(reassign::run(args)),
        Command::Elect(args) => block_on(elect::run(args)),
        Command::Groups(args) => block_on(groups::run(args)),
        Command::Configs(args) => block_on(configs::run(args)),
    }
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start: {error}")))?;
    runtime.block_on(work)
}

/// `OTTLA_LOG` (or `RUST_LOG`) chooses what is logged, for example `info,coordinator=debug`.
fn log_to_stderr(default: &str) {
    let chosen = ["OTTLA_LOG", "RUST_LOG"].iter().find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::new(chosen.as_deref().unwrap_or(default));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_env_filter(filter)
        .init();
}
