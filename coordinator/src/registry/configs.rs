//! `/config/{topics,brokers,clients}/<name>`: overrides of configuration keys.

use std::collections::BTreeMap;

use zookeeper_client::Client;

use super::RegistryError;
use super::node::{self, Versioned};
use crate::zk::paths;
use crate::zk::payload::Overrides;

mod keys;

pub use keys::{CORDONED_ALL, CORDONED_KEY};
pub use keys::{InvalidOverride, Key, Takes, find, keys, validate};

/// Whose configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A topic's.
    Topic,
    /// A broker's, by its id.
    Broker,
    /// A client's, by its client id.
    Client,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Topic, Self::Broker, Self::Client];

    /// The name of its node: `topics`, `brokers` or `clients`.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Topic => "topics",
            Self::Broker => "brokers",
            Self::Client => "clients",
        }
    }

    /// `topic`, `broker` or `client`.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::Client => "client",
        }
    }
}

/// The overrides of one resource.
pub async fn read(
    client: &Client,
    kind: Kind,
    name: &str,
) -> Result<Option<Versioned<Overrides>>, RegistryError> {
    node::read(client, &paths::config(kind.plural(), name)).await
}

/// All resources of a kind that have overrides.
pub async fn list(
    client: &Client,
    kind: Kind,
) -> Result<BTreeMap<String, Overrides>, RegistryError> {
    let names = node::children(client, &paths::config_parent(kind.plural())).await?;
    let paths = names.iter().map(|name| paths::config(kind.plural(), name));
    let found = node::read_many::<Overrides>(client, paths).await?;
    let all = names.into_iter().zip(found);
    Ok(all.filter_map(|(name, found)| Some((name, found?.value))).collect())
}
