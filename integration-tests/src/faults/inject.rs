//! Breaks something in a running cluster, and heals it.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::observer::Observer;
use super::schedule::{Fault, FaultKind, Target};
use crate::cluster::Cluster;
use crate::network::End;

/// What ends a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heal {
    StartBroker(i32),
    ContinueBroker(i32),
    StartCoordinator(usize),
    ContinueCoordinator(usize),
    StartRegistry(usize),
    ContinueRegistry(usize),
    Network,
}

/// A fault that lasts.
#[derive(Debug)]
pub struct Broken {
    /// What was done to whom, for people.
    pub what: String,
    heals: Vec<Heal>,
}

/// Breaks what the fault says; whom it meets is looked up now.
pub fn inject(cluster: &mut Cluster, observer: &Observer, fault: Fault) -> Result<Broken> {
    let mut injector = Injector { cluster, observer, heals: Vec::new() };
    let what = injector.inject(fault).with_context(|| format!("{fault:?}"))?;
    Ok(Broken { what, heals: injector.heals })
}

impl Broken {
    /// Ends the fault; returns when processes that were started are ready.
    pub fn heal(self, cluster: &mut Cluster) -> Result<()> {
        for heal in &self.heals {
            match *heal {
                Heal::StartBroker(id) => cluster.start_broker(id),
                Heal::ContinueBroker(id) => cluster.broker_process(id)?.signal(Signal::SIGCONT),
                Heal::StartCoordinator(index) => cluster.restart_coordinator(index),
                Heal::ContinueCoordinator(index) => {
                    cluster.coordinators()[index].signal(Signal::SIGCONT)
                }
                Heal::StartRegistry(node) => cluster.registry.ensemble()?.restart(node),
                Heal::ContinueRegistry(node) => cluster.registry.ensemble()?.resume(node),
                Heal::Network => {
                    cluster.network()?.heal();
                    Ok(())
                }
            }
            .with_context(|| format!("{}: {heal:?}", self.what))?;
        }
        Ok(())
    }
}

struct Injector<'a> {
    cluster: &'a mut Cluster,
    observer: &'a Observer,
    heals: Vec<Heal>,
}

impl Injector<'_> {
    fn inject(&mut self, fault: Fault) -> Result<String> {
        match fault.kind {
            FaultKind::KillBroker
            | FaultKind::RestartBroker
            | FaultKind::PauseBroker
            | FaultKind::KillTwoBrokers
            | FaultKind::KillBrokerAndController => self.broker_fault(fault),
            FaultKind::KillCoordinator | FaultKind::PauseCoordinator => {
                let index = self.coordinator(fault.target);
                let coordinator = &mut self.cluster.coordinators()[index];
                if fault.kind == FaultKind::KillCoordinator {
                    coordinator.kill()?;
                    self.heals.push(Heal::StartCoordinator(index));
                    return Ok(format!("kill -9 of coordinator {index}"));
                }
                coordinator.signal(Signal::SIGSTOP)?;
                self.heals.push(Heal::ContinueCoordinator(index));
                Ok(format!("SIGSTOP of coordinator {index}"))
            }
            FaultKind::KillRegistry | FaultKind::PauseRegistry => {
                let ensemble = self.cluster.registry.ensemble()?;
                let nodes = ensemble.connect().split(',').count() as u32;
                let node = match fault.target {
                    Target::Leader(_) => ensemble.leader()?,
                    Target::Number(number) => (number % nodes + 1) as usize,
                    Target::GroupCoordinator => 1,
                };
                if fault.kind == FaultKind::KillRegistry {
                    ensemble.kill(node)?;
                    self.heals.push(Heal::StartRegistry(node));
                    return Ok(format!("kill -9 of registry {node}"));
                }
                ensemble.pause(node)?;
                self.heals.push(Heal::ContinueRegistry(node));
                Ok(format!("SIGSTOP of registry {node}"))
            }
            FaultKind::CutWhole
            | FaultKind::CutOutgoing
            | FaultKind::CutIncoming
            | FaultKind::CutFromRegistry
            | FaultKind::CutFromBrokers
            | FaultKind::CutFromClients => self.cut(fault),
        }
    }

    fn broker_fault(&mut self, fault: Fault) -> Result<String> {
        let id = self.broker(fault.target);
        match fault.kind {
            FaultKind::PauseBroker => {
                self.cluster.broker_process(id)?.signal(Signal::SIGSTOP)?;
                self.heals.push(Heal::ContinueBroker(id));
                return Ok(format!("SIGSTOP of broker {id}"));
            }
            FaultKind::RestartBroker => {
                self.cluster.stop_broker(id)?;
                self.heals.push(Heal::StartBroker(id));
                return Ok(format!("SIGTERM to broker {id}"));
            }
            _ => {}
        }
        self.cluster.kill_broker(id)?;
        self.heals.push(Heal::StartBroker(id));
        let mut what = format!("kill -9 of broker {id}");
        if fault.kind == FaultKind::KillTwoBrokers {
            let other = id % self.cluster.broker_count() + 1;
            self.cluster.kill_broker(other)?;
            self.heals.push(Heal::StartBroker(other));
            what += &format!(" and of broker {other}");
        }
        if fault.kind == FaultKind::KillBrokerAndController {
            let index = self.coordinator(Target::Leader(0));
            self.cluster.coordinators()[index].kill()?;
            self.heals.push(Heal::StartCoordinator(index));
            what += &format!(" and of coordinator {index}");
        }
        Ok(what)
    }

    fn cut(&mut self, fault: Fault) -> Result<String> {
        let id = self.broker(fault.target);
        let broker = End::Broker(id);
        let others: Vec<End> =
            (1..=self.cluster.broker_count()).filter(|o| *o != id).map(End::Broker).collect();
        let coordinators = 0..self.cluster.coordinators().len();
        let nodes = self.cluster.registry.connect().split(',').count();
        let registry: Vec<End> =
            (1..=nodes).map(End::Registry).chain(coordinators.map(End::Coordinator)).collect();
        let everybody = || [&others[..], &registry, &[End::Clients]].concat();
        let (ends, outgoing, incoming) = match fault.kind {
            FaultKind::CutOutgoing => (everybody(), true, false),
            FaultKind::CutIncoming => (everybody(), false, true),
            FaultKind::CutFromRegistry => (registry, true, true),
            FaultKind::CutFromBrokers => (others, true, true),
            FaultKind::CutFromClients => (vec![End::Clients], true, true),
            _ => (everybody(), true, true),
        };
        let network = self.cluster.network()?;
        for end in ends {
            if outgoing {
                network.cut(broker, end);
            }
            if incoming {
                network.cut(end, broker);
            }
        }
        self.heals.push(Heal::Network);
        Ok(format!("{} of broker {id}", fault.kind.name()))
    }

    fn broker(&self, target: Target) -> i32 {
        let (led, number) = match target {
            Target::Leader(partition) => (self.observer.leader(partition), partition),
            Target::Number(number) => (None, number),
            Target::GroupCoordinator => (self.observer.group_coordinator(), 0),
        };
        led.unwrap_or(number as i32 % self.cluster.broker_count() + 1)
    }

    fn coordinator(&mut self, target: Target) -> usize {
        let number = match target {
            Target::Leader(_) => {
                let address = self.observer.controller();
                let index = address.and_then(|address| self.cluster.coordinator_at(&address));
                return index.unwrap_or(0);
            }
            Target::Number(number) => number as usize,
            Target::GroupCoordinator => 0,
        };
        number % self.cluster.coordinators().len()
    }
}
