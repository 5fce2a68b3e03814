//! The embedded registry against a real ZooKeeper server: the same random operations by raw wire
//! protocol on both, and every reply, error code, Stat and watch event compared.
//!
//! `OTTLA_DIFFERENTIAL_SEED=N` runs that seed alone, `OTTLA_DIFFERENTIAL_SECONDS=N` looks for
//! differences with new seeds for so long.

mod compare;
mod operation;
mod raw;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coordinator::embedded::{EmbeddedOptions, Server};
use integration_tests::zookeeper::Ensemble;

use compare::Twins;
use operation::{Generator, Operation, Shape, Step};
use raw::{Body, Event, Raw, Reply};

/// Connections, each with a session, that take turns.
const CONNECTIONS: usize = 3;
const STEPS: usize = 600;
const EXISTS: i32 = 3;
const CLOSE_SESSION: i32 = -11;
/// What every run must have seen succeed, and fail with.
const OPERATIONS: [i32; 19] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 22, 101, 103, 104, 105, 106, 107];
const CODES: [i32; 9] = [-121, -114, -111, -110, -108, -103, -101, -8, -5];
const WRITES: [i32; 6] = [1, 2, 5, 7, 14, 15];

/// The embedded server on a thread of its own.
struct Embedded {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Embedded {
    fn start(dir: &Path) -> Result<Self> {
        let options = EmbeddedOptions::new(dir, SocketAddr::from(([127, 0, 0, 1], 0)));
        let server = Server::bind(options)?;
        let address = server.local_addr();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let serve = server.run(async {
                let _ = stopped.await;
            });
            runtime.expect("a runtime").block_on(serve).expect("the embedded server");
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The same connection to both servers.
struct Pair {
    real: Raw,
    ours: Raw,
}

impl Pair {
    /// A request to both at once, and what each replies.
    fn call(&mut self, op: i32, real: &Body, ours: &Body) -> Result<(Reply, Reply)> {
        self.real.send(op, real)?;
        self.ours.send(op, ours)?;
        let real = self.real.receive().context("the real server")?;
        Ok((real, self.ours.receive().context("our server")?))
    }
}

/// Operation and code, and how often.
type Seen = BTreeMap<(i32, i32), u32>;

struct Run {
    real: SocketAddr,
    ours: SocketAddr,
    pairs: Vec<Pair>,
    twins: Twins,
    /// How often each operation ended with each code: a run must not be an idle one.
    seen: Seen,
    events: usize,
}

impl Run {
    fn start(real: SocketAddr, ours: SocketAddr) -> Result<Self> {
        let mut run = Self {
            real,
            ours,
            pairs: Vec::new(),
            twins: Twins::default(),
            seen: BTreeMap::new(),
            events: 0,
        };
        run.twins.check_zxid(0, 0)?;
        for _ in 0..CONNECTIONS {
            let pair = run.connect()?;
            run.pairs.push(pair);
        }
        Ok(run)
    }

    fn connect(&mut self) -> Result<Pair> {
        let pair = Pair { real: Raw::connect(self.real)?, ours: Raw::connect(self.ours)? };
        ensure!(pair.real.timeout_ms == pair.ours.timeout_ms, "timeouts granted differ");
        self.twins.add_session(pair.real.session, pair.ours.session);
        Ok(pair)
    }

    fn step(&mut self, at: usize, step: &Step) -> Result<()> {
        match step {
            Step::Call(operation) => self.call(at, operation)?,
            Step::Reconnect => {
                let Pair { real, ours } = &mut self.pairs[at];
                let next =
                    Pair { real: real.reconnect(self.real)?, ours: ours.reconnect(self.ours)? };
                real.wait_closed().context("the real server keeps the old connection")?;
                ours.wait_closed().context("our server keeps the old connection")?;
                self.pairs[at] = next;
            }
            Step::CloseSession => {
                let pair = &mut self.pairs[at];
                let none = Body::default();
                let (real, ours) = pair.call(CLOSE_SESSION, &none, &none)?;
                ensure!(real.code == ours.code, "code {} but {}", real.code, ours.code);
                same_events(&real.events, &ours.events, true)?;
                pair.real.wait_closed()?;
                pair.ours.wait_closed()?;
                self.pairs[at] = self.connect()?;
            }
        }
        // A session's ephemerals go in no order that could be relied on.
        let sorted = matches!(step, Step::CloseSession);
        (0..self.pairs.len()).try_for_each(|other| self.collect_events(other, sorted))
    }

    fn call(&mut self, at: usize, operation: &Operation) -> Result<()> {
        let (real_body, our_body) = match operation.since {
            None => (operation.body.clone(), operation.body.clone()),
            Some(n) => {
                let (real, ours) = self.twins.zxid_pair(n);
                let with = |zxid| Body::default().long(zxid).append(&operation.body);
                (with(real), with(ours))
            }
        };
        let (real, ours) = self.pairs[at].call(operation.op, &real_body, &our_body)?;
        same_events(&real.events, &ours.events, false)?;
        ensure!(real.code == ours.code, "code {} but {}", real.code, ours.code);
        *self.seen.entry((operation.op, real.code)).or_default() += 1;
        self.events += real.events.len();
        if real.code != 0 {
            ensure!(real.body.is_empty() && ours.body.is_empty(), "an error with a body");
            return Ok(());
        }
        self.twins.check_bodies(operation.shape, &real.body, &ours.body)?;
        let failed_multi = operation.op == 14 && real.body.starts_with(&[0xff; 4]);
        if WRITES.contains(&operation.op) && !failed_multi {
            self.twins.check_zxid(real.zxid, ours.zxid).context("the header")?;
        }
        Ok(())
    }

    /// What a connection was told since it was last looked at: a read comes after all of it.
    fn collect_events(&mut self, at: usize, sorted: bool) -> Result<()> {
        let body = Body::default().string("/").flag(false);
        let (real, ours) = self.pairs[at].call(EXISTS, &body, &body)?;
        same_events(&real.events, &ours.events, sorted)?;
        self.events += real.events.len();
        self.twins.check_bodies(Shape::Stat, &real.body, &ours.body)
    }
}

fn same_events(real: &[Event], ours: &[Event], sorted: bool) -> Result<()> {
    let order = |events: &[Event]| {
        let mut events = events.to_vec();
        if sorted {
            events.sort();
        }
        events
    };
    ensure!(order(real) == order(ours), "events {real:?}\nbut {ours:?}");
    Ok(())
}

/// What was seen, and how many events.
fn run_seed(seed: u64, real: SocketAddr, ours: SocketAddr) -> Result<(Seen, usize)> {
    let mut run = Run::start(real, ours)?;
    let prefix = format!("/seed-{seed}");
    let mut generator = Generator::new(seed, prefix.clone());
    let mut trace: Vec<String> = Vec::new();
    run.step(0, &Step::Call(generator.first()))?;
    for step in 0..STEPS {
        let at = generator.pick(CONNECTIONS);
        let what = generator.step();
        let described = match &what {
            Step::Call(call) => format!("{step}: connection {at}: op {} {}", call.op, call.text),
            other => format!("{step}: connection {at}: {other:?}"),
        };
        let of_interest = trace.len().saturating_sub(30);
        run.step(at, &what).with_context(|| {
            format!("seed {seed}, after\n{}\nat {described}", trace[of_interest..].join("\n"))
        })?;
        trace.push(described);
    }
    // Or the sessions would expire in the middle of a later seed, not at the same moment.
    for at in 0..CONNECTIONS {
        run.step(at, &Step::CloseSession)?;
    }
    Ok((run.seen, run.events))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn the_embedded_registry_does_what_a_real_server_does() -> Result<()> {
    let dir = integration_tests::scratch("differential")?;
    let ensemble = Ensemble::start(dir.path(), 1)?;
    let real: SocketAddr = ensemble.connect().parse()?;
    let embedded = Embedded::start(&dir.path().join("embedded"))?;
    if let Some(seed) = number("OTTLA_DIFFERENTIAL_SEED") {
        return run_seed(seed, real, embedded.address).map(drop);
    }
    // The same seeds every time, as many as fit; asked to search for longer, new ones.
    let search = number("OTTLA_DIFFERENTIAL_SECONDS");
    let first = if search.is_some() { fastrand::u64(1_000..1_000_000_000) } else { 1 };
    let (seconds, started) = (search.unwrap_or(10), Instant::now());
    println!("first seed {first}");
    let (mut seeds, mut seen, mut events) = (0, Seen::new(), 0);
    while seeds < 3 || started.elapsed() < Duration::from_secs(seconds) {
        let (one, told) = run_seed(first + seeds, real, embedded.address)?;
        seeds += 1;
        events += told;
        for (what, count) in one {
            *seen.entry(what).or_default() += count;
        }
    }
    println!("{seeds} seeds of {STEPS} operations and {events} events agree: {seen:?}");
    for op in OPERATIONS {
        ensure!(seen.contains_key(&(op, 0)), "operation {op} never succeeded: the run was idle");
    }
    for code in CODES {
        ensure!(seen.keys().any(|seen| seen.1 == code), "code {code} was never seen");
    }
    ensure!(events > 50, "only {events} events");
    Ok(())
}
