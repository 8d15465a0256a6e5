//! What requests come in by: HTTP, open from the start on, and gRPC, open once models are there.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::config::Config;
use super::connections::{Port, answer, answer_locally};
use super::http::{self, Pages};
use super::journal::Journal;
use super::leaving::Servers;
use super::limits::Limits;
use super::listen::listen;
use super::tls::Tls;
use crate::api::{Health, InFlight, Options, Phase, RequestLog, Rest, Services, router};
use crate::error::Result;
use crate::model::Manager;

/// What every door is made with.
pub(super) struct Doors<'a> {
    config: &'a Config,
    pages: &'a Arc<Pages>,
    journal: &'a Arc<Journal>,
    log: Option<&'a Arc<RequestLog>>,
    limits: Arc<Limits>,
}

/// A door that is open.
pub(super) struct Door {
    /// `None`: it is none of TCP's.
    pub(super) port: Option<u16>,
    /// Requests being answered.
    pub(super) in_flight: Arc<InFlight>,
    /// What answers them.
    pub(super) servers: Servers,
}

impl<'a> Doors<'a> {
    /// As the configuration has them; calls are told to `journal` and written down in `log`.
    pub(super) fn new(
        config: &'a Config,
        pages: &'a Arc<Pages>,
        journal: &'a Arc<Journal>,
        log: Option<&'a Arc<RequestLog>>,
    ) -> Self {
        Self { config, pages, journal, log, limits: Arc::new(config.limits.clone()) }
    }

    /// Opens the HTTP port, if there is to be one. The REST API behind it has no models yet.
    ///
    /// # Errors
    /// What keeps it from being opened.
    pub(super) fn http(&self) -> Result<(Arc<Rest>, Door)> {
        let config = self.config;
        let in_flight = InFlight::new(config.rest_requests_max, "rest_api_num_threads");
        let rest = Rest::new(
            Arc::clone(&self.pages.budget),
            Arc::clone(&in_flight),
            Arc::clone(&config.admin.access),
            Arc::clone(self.journal) as _,
            config.rest,
            self.log.cloned(),
        );
        let (stop, stopping) = watch::channel(false);
        let (mut servers, opened) = (JoinSet::new(), self.listen(config.http_port)?);
        let port = opened.as_ref().map(|(_, port)| *port);
        if let Some((listener, _)) = opened {
            let path = config.metrics_path.as_deref();
            let app = http::router(Arc::clone(self.pages), path, config.faults, &rest);
            servers.spawn(answer(listener, app, self.port("http", config.identities.http.clone()), stopping));
        }
        Ok((rest, Door { port, in_flight, servers: (stop, servers) }))
    }

    /// Opens the gRPC port and the socket, those that there are to be, to the models of `manager`.
    ///
    /// # Errors
    /// What keeps them from being opened.
    pub(super) fn grpc(&self, manager: &Arc<Manager>, phases: watch::Receiver<Phase>) -> Result<Door> {
        let config = self.config;
        let opened = self.listen(config.port)?;
        let in_flight = InFlight::new(config.grpc_requests_max, "grpc_max_threads");
        let app = router(Services {
            manager: Arc::clone(manager),
            budget: Arc::clone(&self.pages.budget),
            in_flight: Arc::clone(&in_flight),
            options: Options {
                tensor_content: config.tensor_content,
                check_method: config.check_method,
                max_message_bytes: config.max_message_bytes,
                receive_timeout: config.receive_timeout,
            },
            observer: Arc::clone(self.journal) as _,
            admin: config.admin.clone(),
            health: Health { board: manager.watch(), phase: phases },
            log: self.log.cloned(),
        })?;
        let (stop, stopping) = watch::channel(false);
        let (mut servers, port) = (JoinSet::new(), opened.as_ref().map(|(_, port)| *port));
        if let Some((listener, _)) = opened {
            let port = self.port("grpc", config.identities.grpc.clone());
            servers.spawn(answer(listener, app.clone(), port, stopping.clone()));
        }
        if let Some(path) = &config.socket {
            servers.spawn(answer_locally(path, app, self.port("socket", None), stopping)?);
        }
        Ok(Door { port, in_flight, servers: (stop, servers) })
    }

    fn port(&self, name: &'static str, tls: Option<Arc<Tls>>) -> Port {
        Port {
            name,
            limits: Arc::clone(&self.limits),
            tls,
            budget: Arc::clone(&self.pages.budget),
            connection_fraction: self.config.connection_fraction,
            metrics: Arc::clone(&self.pages.metrics),
        }
    }

    /// Listens at a port, and gives which: 0 is any.
    fn listen(&self, port: Option<u16>) -> Result<Option<(TcpListener, u16)>> {
        let Some(port) = port else { return Ok(None) };
        let listener = listen(&self.config.host, port)?;
        let port = listener.local_addr()?.port();
        Ok(Some((listener, port)))
    }
}
