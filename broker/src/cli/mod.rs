//! What a person meets: the subcommands of the executable.

mod args;
mod config;
mod dev;
mod dump_log;
mod run;

use std::io::Write;
use std::process::ExitCode;

pub use args::Args;
use args::Command;

/// Runs the command; what went wrong is for `main` to print.
pub fn execute(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Run(options) => run::run(&options)?,
        Command::Dev(options) => dev::dev(&options)?,
        Command::DumpLog(options) => return Ok(dump_log::dump_log(&options)),
        Command::Config(options) => config::config(&options)?,
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut <Args as clap::CommandFactory>::command(),
                "broker",
                &mut std::io::stdout(),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The one line on standard output that says the server serves.
fn print_ready(line: &serde_json::Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
