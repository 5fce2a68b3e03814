//! Whose library a process uses, and how it is started: `integration-tests/foreign/python/recorded` and
//! `integration-tests/foreign/java/recorded`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::recorder::client::Clients;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(in crate::recorder) enum Library {
    ConfluentKafka,
    KafkaPython,
    Java,
}

impl Library {
    /// The library of these clients; none of ours.
    pub(in crate::recorder) fn of(clients: Clients) -> Option<Self> {
        match clients {
            Clients::Ottla | Clients::OttlaByBroker => None,
            Clients::ConfluentKafka => Some(Self::ConfluentKafka),
            Clients::KafkaPython => Some(Self::KafkaPython),
            Clients::KafkaJava => Some(Self::Java),
        }
    }

    /// Starts a client in this role; options follow.
    pub(super) fn command(self, role: &str) -> Result<Command> {
        match self {
            Self::ConfluentKafka => python("confluent-kafka", role),
            Self::KafkaPython => python("kafka-python", role),
            Self::Java => java(role),
        }
    }
}

fn python(library: &str, role: &str) -> Result<Command> {
    let python = std::env::var_os("OTTLA_PYTHON").context(
        "OTTLA_PYTHON is not set: it names a Python interpreter with Kafka's clients, as \
         `integration-tests/foreign-clients install python` prints it",
    )?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/python/recorded");
    let mut command = Command::new(python);
    // Standard output is the history: nothing of it may stay in a buffer. The source tree stays as it is.
    command.args(["-u", "-B"]).arg(program).args([role, "--library", library]);
    Ok(command)
}

fn java(role: &str) -> Result<Command> {
    let folder = std::env::var_os("OTTLA_KAFKA").map(PathBuf::from).context(
        "OTTLA_KAFKA is not set: it names a folder with Apache Kafka's clients, as \
         `integration-tests/foreign-clients install java` prints it",
    )?;
    let path = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("java");
    // Several run on the cores that the cluster needs.
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]);
    command.args(["-cp", &format!("{}:{}", path("jars/*"), path("classes"))]);
    command.args(["recorded.Recorded", role]);
    Ok(command)
}
