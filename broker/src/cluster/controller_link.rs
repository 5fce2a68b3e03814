//! The way to the active controller: Admin calls are forwarded to it as they lie, and this broker
//! tells it what it has to tell.
//!
//! Where it is, the controller's own updates tell, then its node in the registry, then a standby's
//! refusal. Runs on the control thread.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinator::controller::CONTROLLER_HEADER;
use coordinator::zk::{Session, election};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use proto::client::{Connection, ResponseBody, SocketOptions};
use proto::v1::admin_client::AdminClient;
use proto::v1::controller_client::ControllerClient;
use proto::{grpc, v1};
use tokio::runtime::Handle;
use tonic::Status;
use tower_service::Service;

use super::metadata::MetadataCache;

/// After this a call is refused with what was met.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer of the controller to a request of a client's.
const ANSWER_MAX: usize = 64 << 20;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Forwards to whoever is the controller.
pub struct ControllerLink {
    session: Session,
    metadata: Arc<MetadataCache>,
    control: Handle,
    connection: Mutex<Option<Connection>>,
}

/// One Admin call, kept whole so that it can be sent again: request ids make that safe.
#[derive(Clone)]
pub struct AdminCall {
    /// The method's path.
    pub path: http::uri::PathAndQuery,
    /// The caller's headers.
    pub headers: http::HeaderMap,
    /// The framed message.
    pub body: Bytes,
}

impl ControllerLink {
    /// A link; `control` is the runtime that the session lives on.
    pub fn new(session: Session, metadata: Arc<MetadataCache>, control: Handle) -> Arc<Self> {
        Arc::new(Self { session, metadata, control, connection: Mutex::new(None) })
    }

    /// Sends a call to the controller and returns its answer, whatever that says. May be called
    /// from any thread.
    pub async fn forward(
        self: &Arc<Self>,
        call: AdminCall,
    ) -> Result<http::Response<ResponseBody>, Status> {
        let link = Arc::clone(self);
        let forwarding = self.control.spawn(async move { link.try_for_a_while(call).await });
        forwarding.await.unwrap_or_else(|error| {
            Err(Status::internal(format!("forwarding to the controller failed: {error}")))
        })
    }

    /// Has the controller answer one request of its Admin service. May be called from any thread.
    pub async fn admin<Q, A>(self: &Arc<Self>, method: &str, request: &Q) -> Result<A, Status>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let body = grpc::encode_message(request)
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let path = format!("/ottla.v1.Admin/{method}").parse();
        let path = path.map_err(|_| Status::internal("the method has no path"))?;
        let mut headers = http::HeaderMap::new();
        let is_grpc = http::HeaderValue::from_static("application/grpc");
        headers.insert(http::header::CONTENT_TYPE, is_grpc);
        headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
        let response = self.forward(AdminCall { path, headers, body }).await?;
        let refused = |headers: &http::HeaderMap| {
            Status::from_header_map(headers).filter(|status| status.code() != tonic::Code::Ok)
        };
        if let Some(status) = refused(response.headers()) {
            return Err(status);
        }
        let body = http_body_util::Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| Status::unavailable(error.to_string()))?;
        if let Some(status) = body.trailers().and_then(refused) {
            return Err(status);
        }
        let mut assembler = grpc::Assembler::new(ANSWER_MAX);
        assembler.push(body.to_bytes());
        let answer = assembler.pop().map_err(|error| Status::internal(error.to_string()))?;
        let answer = answer.ok_or_else(|| Status::internal("the controller said nothing"))?;
        answer.decode().map_err(|error| Status::internal(error.to_string()))
    }

    async fn try_for_a_while(
        &self,
        call: AdminCall,
    ) -> Result<http::Response<ResponseBody>, Status> {
        let mut met = "no controller is registered".to_owned();
        let mut hint = None;
        let trying = async {
            loop {
                match self.attempt(&call, hint.take()).await {
                    Ok(response) => match elsewhere(&response) {
                        None => return response,
                        Some(address) => {
                            met = format!("the coordinator asked stands by for {address}");
                            hint = Some(address);
                        }
                    },
                    Err(error) => met = error,
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, trying).await;
        outcome.map_err(|_| {
            Status::unavailable(format!(
                "no controller answered within {} s ({met}): start a coordinator (`coordinator run`) \
                 or look at its log; produce and fetch do not need it",
                PATIENCE.as_secs()
            ))
        })
    }

    async fn attempt(
        &self,
        call: &AdminCall,
        hint: Option<String>,
    ) -> Result<http::Response<ResponseBody>, String> {
        let mut connection = self.connect(hint).await?;
        let mut request = http::Request::new(tonic::body::Body::new(Full::new(call.body.clone())));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from(call.path.clone());
        for (name, value) in &call.headers {
            if !is_of_the_connection(name) {
                request.headers_mut().append(name, value.clone());
            }
        }
        match connection.call(request).await {
            Ok(response) => Ok(response),
            Err(status) => {
                self.connection.lock().take();
                Err(status.message().to_owned())
            }
        }
    }

    /// The present connection, or a new one: to the hint, to whom the registry names, or to whom
    /// the last update came from.
    async fn connect(&self, hint: Option<String>) -> Result<Connection, String> {
        let present = self.connection.lock().clone();
        if let Some(present) = present
            && !present.is_closed()
            && hint.as_ref().is_none_or(|hint| present.address() == hint)
        {
            return Ok(present);
        }
        let address = match hint {
            Some(hint) => hint,
            None => self.find().await?,
        };
        let connected = Connection::connect(&address, &SocketOptions::default()).await;
        let connection = connected.map_err(|error| error.to_string())?;
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    async fn find(&self) -> Result<String, String> {
        if let Some(live) = self.session.connected() {
            let found = election::read(&live.client).await.map_err(|error| error.to_string())?;
            let found = found.ok_or("no coordinator is active")?;
            return Ok(found.address);
        }
        let known = self.metadata.image().controller.clone();
        known.map(|address| address.to_string()).ok_or_else(|| "ZooKeeper is away".to_owned())
    }

    /// Tells that states were written; one attempt.
    pub(super) async fn states_changed(
        &self,
        request: v1::StatesChangedRequest,
    ) -> Result<(), String> {
        let answer = self
            .call(async |connection| {
                ControllerClient::new(connection).states_changed(request.clone()).await
            })
            .await?;
        answer.error.map_or(Ok(()), |error| Err(error.message))
    }

    /// Asks to take leadership away from this broker; what it still leads. One attempt.
    pub(super) async fn controlled_shutdown(
        &self,
        request: v1::ControlledShutdownRequest,
    ) -> Result<Vec<v1::TopicPartitions>, String> {
        let answer = self
            .call(async |connection| {
                ControllerClient::new(connection).controlled_shutdown(request.clone()).await
            })
            .await?;
        answer.error.map_or(Ok(answer.remaining), |error| Err(error.message))
    }

    /// Calls the controller; where a standby refuses and names it, that one.
    async fn call<T>(
        &self,
        attempt: impl AsyncFn(Connection) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, String> {
        let mut hint = None;
        loop {
            let is_first = hint.is_none();
            let connection = self.connect(hint.take()).await?;
            let status = match attempt(connection).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            self.connection.lock().take();
            let named = status.metadata().get(CONTROLLER_HEADER);
            hint = named.and_then(|named| named.to_str().ok().map(str::to_owned));
            if hint.is_none() || !is_first {
                return Err(status.message().to_owned());
            }
        }
    }

    /// Creates a topic with the cluster's defaults, for a client that may ask for that by asking
    /// for its metadata.
    pub async fn create_topic(self: &Arc<Self>, name: &str) -> Result<(), Status> {
        self.create(v1::NewTopic { name: name.to_owned(), ..Default::default() }).await
    }

    /// Begins to create a topic that this broker needs itself, and calls `done` at the end.
    pub fn begin_to_create(self: &Arc<Self>, topic: v1::NewTopic, done: Box<dyn FnOnce() + Send>) {
        let link = Arc::clone(self);
        self.control.spawn(async move {
            let name = topic.name.clone();
            if let Err(status) = link.create(topic).await {
                tracing::warn!(topic = name, cause = status.message(), "topic not created");
            }
            done();
        });
    }

    async fn create(self: &Arc<Self>, topic: v1::NewTopic) -> Result<(), Status> {
        let request = v1::CreateTopicsRequest {
            request_id: Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes()),
            topics: vec![topic],
            validate_only: false,
            if_not_exists: true,
        };
        let link = Arc::clone(self);
        let creating = self.control.spawn(async move {
            let connection = link.connect(None).await.map_err(Status::unavailable)?;
            let answer = AdminClient::new(connection).create_topics(request).await?;
            Ok::<_, Status>(answer.into_inner())
        });
        let answer = tokio::time::timeout(PATIENCE, creating)
            .await
            .map_err(|_| Status::unavailable("no controller answered in time"))?
            .map_err(|error| Status::internal(error.to_string()))??;
        match answer.results.into_iter().find_map(|result| result.error) {
            Some(error) => Err(Status::failed_precondition(error.message)),
            None => Ok(()),
        }
    }
}

/// Headers that belong to one hop, and those that the connection sets itself.
fn is_of_the_connection(name: &http::HeaderName) -> bool {
    use http::header;
    [header::CONNECTION, header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .contains(name)
}

/// The active controller, where a standby refused and named it.
fn elsewhere(response: &http::Response<ResponseBody>) -> Option<String> {
    let address = response.headers().get(CONTROLLER_HEADER)?.to_str().ok()?;
    Some(address.to_owned())
}
