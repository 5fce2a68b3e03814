//! `broker config show`.

use std::io::Write;

use super::args::{ConfigCommand, ConfigOptions};
use crate::config;

pub(super) fn config(options: &ConfigOptions) -> anyhow::Result<()> {
    let ConfigCommand::Show(options) = &options.command;
    let text = config::show(&options.values()?);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
