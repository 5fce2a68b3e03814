//! Asking whichever broker answers: one after another, beside one another where the first is slow.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::task::JoinSet;
use tonic::Code;

use super::cluster::Cluster;
use super::connection::Connection;
use super::error::ClientError;
use super::metadata::Metadata;
use crate::grpc::MESSAGE_LEN_MAX;
use crate::v1;
use crate::v1::log_client::LogClient;

/// What a refresh asks for.
#[derive(Clone)]
enum Wanted {
    Topics(Vec<String>),
    AllTopics,
}

impl Cluster {
    /// Asks a broker for its view of these topics (none: of the brokers only) and of the live
    /// brokers. To be called at once when an answer shows that what is known is wrong. Calls that
    /// come together are served by one request; an answer asked for before the call never counts.
    pub async fn refresh(&self, topics: &[&str]) -> Result<Arc<Metadata>, ClientError> {
        self.refresh_wanted(Wanted::Topics(topics.iter().map(|&name| name.into()).collect())).await
    }

    /// The same for all topics of the cluster; those that are gone are forgotten.
    pub async fn refresh_all(&self) -> Result<Arc<Metadata>, ClientError> {
        self.refresh_wanted(Wanted::AllTopics).await
    }

    /// A connection to whichever broker can be reached: open ones first, then the brokers known,
    /// then the bootstrap addresses. For administration and group work, which any broker forwards.
    pub async fn any_connection(&self) -> Result<Connection, ClientError> {
        self.ask_any(|connection| async { Ok(connection) }).await
    }

    /// Asks whichever broker answers first: the next one is asked when one fails, and beside it when it
    /// has not answered within [`stagger`](super::ClusterOptions::stagger). For requests that may be
    /// answered twice. The others are given up once there is an answer.
    pub async fn ask_any<T, F>(
        &self,
        ask: impl Fn(Connection) -> F + Clone + Send + Sync + 'static,
    ) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>> + Send,
    {
        self.race(self.candidates(), move |cluster, address| {
            let ask = ask.clone();
            async move { ask(cluster.inner.pool.connect(&address).await?).await }
        })
        .await
    }

    /// Asks these addresses in their order, see [`Cluster::ask_any`].
    pub(super) async fn race<T, F>(
        &self,
        addresses: Vec<String>,
        ask: impl Fn(Self, String) -> F,
    ) -> Result<T, ClientError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let pool = &self.inner.pool;
        let mut left = addresses.into_iter();
        let (mut under_way, mut tried) = (Vec::new(), Vec::new());
        // Dropped, it ends what is still under way.
        let mut asked = JoinSet::new();
        loop {
            if let Some(address) = left.next() {
                let answer = ask(self.clone(), address.clone());
                under_way.push(address.clone());
                asked.spawn(async move { (answer.await, address) });
            } else if asked.is_empty() {
                return Err(no_broker(tried));
            }
            let answer = if left.len() == 0 {
                asked.join_next().await
            } else {
                match tokio::time::timeout(self.inner.options.stagger, asked.join_next()).await {
                    Ok(answer) => answer,
                    Err(_) => continue,
                }
            };
            let Some(Ok((answer, address))) = answer else { continue };
            under_way.retain(|other| *other != address);
            match answer {
                Ok(answer) => {
                    pool.clear(&address);
                    under_way.iter().for_each(|slower| pool.suspect(slower));
                    return Ok(answer);
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "a broker gave no answer");
                    tried.push(error);
                }
            }
        }
    }

    /// Every address known once, the best first: open, then closed, last those that were silent or have
    /// to wait for their backoff; brokers in random order so that clients spread.
    pub(super) fn candidates(&self) -> Vec<String> {
        let pool = &self.inner.pool;
        let mut brokers: Vec<String> =
            self.metadata().brokers.values().map(|node| node.address.clone()).collect();
        fastrand::shuffle(&mut brokers);
        let bootstrap = self.inner.options.bootstrap.iter().cloned();
        let mut addresses: Vec<String> = Vec::new();
        for address in pool.open_addresses().into_iter().chain(brokers).chain(bootstrap) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.sort_by_cached_key(|address| pool.is_last_resort(address));
        addresses
    }

    async fn refresh_wanted(&self, wanted: Wanted) -> Result<Arc<Metadata>, ClientError> {
        let since = Instant::now();
        let _refreshing = self.inner.refreshing.lock().await;
        if let Wanted::Topics(topics) = &wanted
            && !topics.is_empty()
            && self.metadata().is_fresh(topics, since)
        {
            return Ok(self.metadata());
        }
        let all = matches!(wanted, Wanted::AllTopics);
        let ask = |cluster: Self, address: String| {
            let wanted = wanted.clone();
            async move { cluster.ask_metadata(&address, wanted).await }
        };
        let (answer, asked) = self.race(self.candidates(), ask).await?;
        self.inner.counts.refreshes.fetch_add(1, Ordering::Relaxed);
        self.apply(answer, asked, all);
        Ok(self.metadata())
    }

    /// Asks one broker.
    async fn ask_metadata(
        &self,
        address: &str,
        wanted: Wanted,
    ) -> Result<(v1::MetadataResponse, Instant), ClientError> {
        let pool = &self.inner.pool;
        let connection = pool.connect(address).await?;
        let (topics, all_topics) = match wanted {
            Wanted::Topics(names) => (names, false),
            Wanted::AllTopics => (Vec::new(), true),
        };
        let allow_auto_create = self.inner.options.allow_auto_create;
        let request =
            v1::MetadataRequest { topics, all_topics, allow_auto_create, keep_alive_ms: 0 };
        let asked = Instant::now();
        let mut client =
            LogClient::new(connection.clone()).max_decoding_message_size(MESSAGE_LEN_MAX);
        let after = self.inner.options.request_timeout;
        match tokio::time::timeout(after, client.metadata(request)).await {
            Ok(Ok(answer)) => Ok((answer.into_inner(), asked)),
            Ok(Err(status)) => {
                if status.code() == Code::Unavailable {
                    pool.broken(&connection);
                }
                Err(ClientError::Refused { address: address.into(), status })
            }
            Err(_) => {
                pool.broken(&connection);
                let what = "a metadata request";
                Err(ClientError::TimedOut { address: address.into(), what, after })
            }
        }
    }
}

fn no_broker(tried: Vec<ClientError>) -> ClientError {
    // One cause is best told as itself, and a wrong address is no matter of time.
    match tried.len() {
        0 => ClientError::NoBroker { tried: vec!["no bootstrap server is configured".into()] },
        1 => tried.into_iter().next().unwrap_or(ClientError::NoBroker { tried: Vec::new() }),
        _ => ClientError::NoBroker { tried: tried.iter().map(ToString::to_string).collect() },
    }
}
