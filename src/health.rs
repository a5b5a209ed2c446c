//! The gRPC health protocol, which Kubernetes probes natively.
//!
//! | service | serves |
//! | --- | --- |
//! | `readiness` | once a valid set stands |
//! | `liveness` | while no published SVID has expired |
//! | the empty name | when both do |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grpcio::{ChannelBuilder, Environment, Server, ServerBuilder, ServerCredentials};
use grpcio_health::proto::ServingStatus;
use grpcio_health::{HealthService, create_health};
use log::Level;

use crate::backoff::Backoff;

/// Between attempts to listen, while the port is taken.
const LISTEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// The server, and what it says.
pub struct Health {
    address: SocketAddr,
    environment: Arc<Environment>,
    service: HealthService,
    listening: Listening,
    backoff: Backoff,
    /// What was said last.
    told: Option<[Option<String>; 2]>,
}

enum Listening {
    Yes { _server: Server },
    Due(Instant),
}

const SERVICES: [&str; 2] = ["readiness", "liveness"];

impl Health {
    /// Does not listen yet.
    pub fn new(address: SocketAddr, environment: Arc<Environment>) -> Self {
        let service = HealthService::default();
        let listening = Listening::Due(Instant::now());
        Self { address, environment, service, listening, backoff: LISTEN, told: None }
    }

    /// When there is something to try again.
    pub fn wake_at(&self) -> Option<Instant> {
        match self.listening {
            Listening::Yes { .. } => None,
            Listening::Due(at) => Some(at),
        }
    }

    /// Listens, when that is due. An address that cannot be listened on is an error in the log, and
    /// tried again.
    pub fn on_time(&mut self) {
        if !matches!(self.listening, Listening::Due(at) if at <= Instant::now()) {
            return;
        }
        self.listening = match self.listen() {
            Ok((server, port)) => {
                log::info!("serving health on {}", SocketAddr::new(self.address.ip(), port));
                Listening::Yes { _server: server }
            }
            Err(error) => {
                let delay = self.backoff.advance();
                log::error!(
                    "cannot serve health on {} (is the port taken, or the address another machine's?): {error}; trying again in {delay:?}",
                    self.address
                );
                Listening::Due(Instant::now() + delay)
            }
        };
    }

    fn listen(&self) -> grpcio::Result<(Server, u16)> {
        // Two helpers must not share a port, and each answer half of the probes.
        let arguments = ChannelBuilder::new(self.environment.clone()).reuse_port(false).build_args();
        let mut server = ServerBuilder::new(self.environment.clone())
            .channel_args(arguments)
            .register_service(create_health(self.service.clone()))
            .build()?;
        let port = server.add_listening_port(self.address.to_string(), ServerCredentials::insecure())?;
        server.start();
        Ok((server, port))
    }

    /// Says what is wrong with readiness and liveness, or nothing.
    pub fn update(&mut self, faults: [Option<String>; 2]) {
        let status = |is_well| if is_well { ServingStatus::Serving } else { ServingStatus::NotServing };
        if self.told.as_ref() == Some(&faults) {
            return;
        }
        // At the start, it is no cause for worry that nothing is there yet.
        let is_worrying = self.told.is_some() || faults[1].is_some();
        let level = if is_worrying { Level::Warn } else { Level::Info };
        let told = self.told.replace(faults.clone()).unwrap_or_default();
        for ((service, fault), told) in SERVICES.iter().zip(&faults).zip(&told) {
            self.service.set_serving_status(service, status(fault.is_none()));
            match (fault, told) {
                (Some(fault), told) if told.as_ref() != Some(fault) => {
                    log::log!(level, "health: {service} is NOT_SERVING: {fault}");
                }
                (None, Some(_)) => log::info!("health: {service} is SERVING"),
                _ => {}
            }
        }
        self.service.set_serving_status("", status(faults.iter().all(Option::is_none)));
    }
}
