//! `broker run`: one broker of a cluster.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::args::RunOptions;
use crate::broker::Broker;
use crate::config::{BrokerConfig, Values};

/// Threads for work that blocks on the disk at start and in administration.
const BLOCKING_THREADS: usize = 4;

pub(super) fn run(options: &RunOptions) -> anyhow::Result<()> {
    raise_file_limit();
    let config = settings(&options.values()?);
    control_runtime()?.block_on(async {
        let stop = stop_signal()?;
        tokio::pin!(stop);
        let (id, zookeeper) = (config.id.0, config.zookeeper.connect.clone());
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
            "zookeeper": zookeeper,
        }))?;
        Ok(broker.run(stop).await?)
    })
}

/// Typed settings, with the defaults that follow from this machine.
pub(super) fn settings(values: &Values) -> BrokerConfig {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    BrokerConfig::new(values, memory_bytes(), cores)
}

/// The runtime of the control thread: session, controller link, HTTP.
pub(super) fn control_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("the system gives no event queue (epoll); raise the limit on open files")
}

/// Segments and connections take descriptors: all that the system allows are asked for.
pub(super) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        tracing::warn!(soft, hard, "cannot raise the limit on open files");
    }
}

/// Done at the first SIGTERM or SIGINT. Must be called inside a runtime.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Memory of this machine, or of this container if that is less.
fn memory_bytes() -> u64 {
    const FALLBACK: u64 = 2 << 30;
    let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::_PHYS_PAGES).ok().flatten();
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let machine = match (pages, size) {
        (Some(pages), Some(size)) => (pages as u64).saturating_mul(size as u64),
        _ => FALLBACK,
    };
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let container = container.and_then(|text| text.trim().parse::<u64>().ok());
    container.map_or(machine, |limit| limit.min(machine))
}
