//! The HTTP door: how an integrator says whose queues are drained, and an operator looks in.
//!
//! Promises:
//! - any instance takes any call: what another instance owns is forwarded to it, one hop, never more;
//! - every refusal is a problem document (RFC 9457) with a stable type, and names a field, never its
//!   value;
//! - without a token nothing under `/v1` is answered, unless only loopback is listened on;
//! - connections, calls under way, bodies and the time of a call are bounded; the probes and
//!   `/metrics` need no free call.
//!
//! Knows nothing of: Kafka, Linxo, the journal; what it needs of them is the trait [`Bridge`].

mod auth;
mod bridge;
mod healthcheck;
mod listener;
mod openapi;
mod peers;
mod problem;
mod request;
mod routes;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};

pub use self::auth::AdminToken;
pub use self::bridge::{
    Bridge, CredentialKind, InstanceView, LastAnswer, Liveness, Page, PutDone, Readiness,
    SubscriptionView, Unserved,
};
pub use self::healthcheck::ask_readyz;
use self::listener::BoundedListener;
use self::peers::Peers;
pub use self::request::{CredentialRequest, PutRequest};
pub use self::routes::{MAX_BODY_BYTES, MAX_PAGE};

/// Calls under `/v1` that are answered at once; above, 503.
const MAX_CALLS: usize = 1024;
/// The time a call may take, its body included; after that, 503.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long calls under way are waited for after the shutdown was asked for.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What every call shares.
struct Door<B> {
    bridge: B,
    token: Option<AdminToken>,
    calls: Semaphore,
    peers: Peers,
}

/// Why the admin API cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Whoever reaches it could rule the bridge.
    #[error(
        "admin.token_file is needed to listen on more than loopback; set it, or let admin.listen be 127.0.0.1"
    )]
    TokenMissing,
    /// There is no client for calls to other instances.
    #[error(
        "calls to other instances cannot be made: {0}; when certificates are missing install those of the \
         system (ca-certificates), or name a file with some in SSL_CERT_FILE"
    )]
    Client(String),
    /// The address.
    #[error("admin.listen = {listen}: {source}; give an address that is free")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The admin API, before it listens.
#[derive(Debug)]
pub struct Admin;

impl Admin {
    /// Starts to listen; calls are answered once [`BoundAdmin::serve`] runs. Needs the process's
    /// rustls crypto provider installed, because calls may be forwarded over TLS.
    ///
    /// Refuses to listen beyond loopback without a token.
    pub async fn bind<B: Bridge>(
        listen: SocketAddr,
        token: Option<AdminToken>,
        bridge: B,
    ) -> Result<BoundAdmin, AdminError> {
        if token.is_none() && !listen.ip().is_loopback() {
            return Err(AdminError::TokenMissing);
        }
        let peers = Peers::new()?;
        let refused = |source| AdminError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let local_addr = listener.local_addr().map_err(refused)?;
        let door = Arc::new(Door { bridge, token, calls: Semaphore::new(MAX_CALLS), peers });
        Ok(BoundAdmin { listener, local_addr, router: routes::router(door) })
    }
}

/// The admin API, listening.
#[derive(Debug)]
pub struct BoundAdmin {
    listener: TcpListener,
    local_addr: SocketAddr,
    router: Router,
}

impl BoundAdmin {
    /// Where it listens; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers calls until `shutdown` ends, then for at most ten seconds those under way.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (stopping, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            shutdown.await;
            drop(stopping);
        };
        let serving = axum::serve(BoundedListener::new(self.listener), self.router)
            .with_graceful_shutdown(shutdown);
        let too_slow = async move {
            // Ends when the sender is dropped.
            stopped.await.unwrap_or_default();
            tokio::time::sleep(STOP_WITHIN).await;
        };
        tokio::select! {
            served = serving => served,
            () = too_slow => Ok(()),
        }
    }
}
