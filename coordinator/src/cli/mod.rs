//! The executable: the controller's process, the registry's process, the operator's tool.
//!
//! `args` is what a person may write, `spelling` what else is understood (`topics --list` for
//! `topics list`). `process` runs `run` and `registry`; the other subcommands ask the Admin service
//! through `admin` and print by `output`. `failure` is how they end.
//!
//! Standard output carries what was asked for and nothing else; logs and errors go to standard error.

mod admin;
mod args;
mod broker_groups;
mod brokers;
mod configs;
mod delete_records;
mod describe_topics;
mod drain;
mod elect;
mod failure;
mod groups;
mod output;
mod process;
mod reassign;
mod reset;
mod settings;
mod spelling;
mod start;
mod topics;

pub use process::check_config_file;
pub use start::main;
