//! The Controller service: what brokers tell the active controller. Beside Admin, by the same rules.

use proto::v1::{self, controller_server::Controller};
use tonic::{Request, Response, Status};

use super::event::Event;
use super::service::AdminService;

#[tonic::async_trait]
impl Controller for AdminService {
    async fn controlled_shutdown(
        &self,
        request: Request<v1::ControlledShutdownRequest>,
    ) -> Result<Response<v1::ControlledShutdownResponse>, Status> {
        let request = request.into_inner();
        self.ask(1, |reply| Event::ControlledShutdown(request, reply)).await
    }

    async fn states_changed(
        &self,
        request: Request<v1::StatesChangedRequest>,
    ) -> Result<Response<v1::StatesChangedResponse>, Status> {
        let request = request.into_inner();
        let items = request.changed.iter().map(|topic| 1 + topic.partitions.len()).sum();
        self.ask(items, |reply| Event::StatesChanged(request, reply)).await
    }
}
