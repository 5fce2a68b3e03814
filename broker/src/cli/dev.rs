//! `broker dev`: registry, controller and broker in one process, each on a thread of its own. They
//! talk over sockets exactly as they do apart; nothing reaches round the protocol.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use coordinator::controller::{Controller, ControllerOptions};
use coordinator::embedded::{EmbeddedOptions, Server};
use coordinator::zk::SessionOptions;
use tokio::sync::watch;

use super::args::DevOptions;
use super::run;
use crate::broker::Broker;

/// After a kill -9 the next run's controller waits this long for the dead one's session to end.
const CONTROLLER_SESSION: Duration = Duration::from_secs(2);
/// The chroot of the cluster in the registry.
const CHROOT: &str = "/ottla";

pub(super) fn dev(options: &DevOptions) -> anyhow::Result<()> {
    run::raise_file_limit();
    let listen = resolve(&options.listen_zookeeper)?;
    let registry = Companion::start("registry", registry(options, listen))?;
    let zookeeper = format!("{}{CHROOT}", registry.address);
    let config = run::settings(&options.values(&zookeeper)?);
    let controller = Companion::start("controller", controller(options, &zookeeper))?;

    let (id, external) = (config.id.0, config.zookeeper.connect.clone());
    let outcome = run::control_runtime()?.block_on(async {
        let stop = run::stop_signal()?;
        tokio::pin!(stop);
        let broker = tokio::select! {
            started = Broker::start(config) => started?,
            () = &mut stop => return Ok(()),
        };
        let addresses = broker.addresses();
        super::print_ready(&serde_json::json!({
            "ready": true,
            "id": id,
            "grpc": addresses.grpc.to_string(),
            "kafka": addresses.kafka_texts(),
            "http": addresses.http.to_string(),
            "zookeeper": external,
            "controller": controller.address,
        }))?;
        Ok(broker.run(stop).await?)
    });
    // The registry last: the others take themselves out of it.
    controller.stop()?;
    registry.stop()?;
    outcome
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let resolved = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    resolved.with_context(|| format!("--listen-zookeeper {address}: HOST:PORT is expected"))
}

/// A server on a thread of its own.
struct Companion {
    address: String,
    stop: watch::Sender<bool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

type Started = mpsc::Sender<String>;

impl Companion {
    /// Starts the thread and waits until `serve` has told its address.
    fn start<F, Fut>(name: &'static str, serve: F) -> anyhow::Result<Self>
    where
        F: FnOnce(Started, watch::Receiver<bool>) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let (stop, stopping) = watch::channel(false);
        let (started, address) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run::control_runtime()?.block_on(serve(started, stopping)))?;
        match address.recv() {
            Ok(address) => Ok(Self { address, stop, thread }),
            Err(_) => {
                join(name, thread)?;
                Err(anyhow!("the {name} ended before it served"))
            }
        }
    }

    fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        join("companion", self.thread)
    }
}

fn join(name: &str, thread: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    thread.join().map_err(|_| anyhow!("the {name} panicked"))?
}

fn registry(
    options: &DevOptions,
    listen: SocketAddr,
) -> impl FnOnce(Started, watch::Receiver<bool>) -> ServeFuture + Send + 'static {
    let data = options.data.join("registry");
    move |started, mut stop| {
        Box::pin(async move {
            let server = Server::bind(EmbeddedOptions::new(data, listen))?;
            let _ = started.send(server.local_addr().to_string());
            let stopped = async move {
                let _ = stop.wait_for(|&stop| stop).await;
            };
            Ok(server.run(stopped).await?)
        })
    }
}

type ServeFuture = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

fn controller(
    options: &DevOptions,
    zookeeper: &str,
) -> impl FnOnce(Started, watch::Receiver<bool>) -> ServeFuture + Send + 'static {
    let (listen, zookeeper) = (options.listen_controller.clone(), zookeeper.to_owned());
    move |started, mut stop| {
        Box::pin(async move {
            let session = SessionOptions::new(zookeeper.parse()?).with_timeout(CONTROLLER_SESSION);
            let mut options = ControllerOptions::new(session);
            options.listen = listen;
            let controller = Controller::start(options).await?;
            let _ = started.send(controller.address().to_owned());
            let stopped = async move {
                let _ = stop.wait_for(|&stop| stop).await;
            };
            controller.run(stopped).await;
            Ok(())
        })
    }
}
