//! A Linxo API that misbehaves on request and keeps a ledger of all it made and handed out.
//!
//! It stands for the source in tests, in the demo and in load runs. What is known of the source it
//! does as the source does; what is not known is an option. `fault.rs` says what each fault does,
//! `control.rs` lists the calls by which it is told.
//!
//! Promises:
//! - it shares no type with the bridge: they meet over HTTP only;
//! - the same seed makes the same ids, and the same faults for the same sequence of requests;
//! - delivery is "once", a question removes what it hands out, or "repeatable", see [`Delivery`];
//! - every event made is in the ledger once for each queue of its user that lived then, with what
//!   became of it; an event is "handed out" when an answer with it was given to the connection
//!   whole;
//! - the control API is reached when the source is not;
//! - it listens on loopback only, unless it is told that any address will do.
//!
//! Knows nothing of: the bridge, Kafka.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderName;
use axum::http::header::{DATE, HeaderValue};
use axum::middleware::map_response;
use axum::response::Response;
use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;

mod api;
mod askers;
mod asking;
mod clock;
mod connection;
mod control;
#[cfg(test)]
mod desk;
mod fault;
mod ledger;
mod line;
mod making;
mod names;
mod options;
mod queue;
mod reply;
mod report;
mod running;
mod script;
mod send;
#[cfg(test)]
mod tests;
mod tokens;
mod traffic;
mod world;

pub use connection::{ConnectionPlan, FAKE_SECRET};
pub use fault::{Fault, FaultName, Order, RequestKind};
pub use ledger::{
    DeathEntry, EventEntry, Extract, Fate, HandOut, Ledger, Outage, Outcome, QueueEntry, Stats,
    UserEntry,
};
pub use making::UserPlan;
pub use options::{Delivery, EventIds, LocationForm, Options, Version};
pub use queue::DeathCause;
pub use running::Running;
pub use script::{Mode, Status, Sync};
pub use traffic::Traffic;

use line::{Cord, Door, Gate};
use world::World;

/// Why the simulator does not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or cannot be used.
    #[error("cannot listen on {address}, choose another port")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Whoever reaches the control API rules the simulator.
    #[error(
        "will not listen on {0}: the control api has no password, choose a loopback address, or \
         say that any address will do"
    )]
    NotLoopback(SocketAddr),
    /// An option has no meaning.
    #[error("{0}")]
    BadOption(String),
    /// An order for a fault has no meaning.
    #[error("this fault cannot be ordered: {0}")]
    BadOrder(String),
    /// The user has no such connection.
    #[error("connection {0} is unknown, put the user with it first")]
    NoConnection(String),
    /// There is no such user.
    #[error("user {0} is unknown")]
    NoUser(String),
    /// As many users or queues as are kept.
    #[error("no more users or queues are kept, raise max_users or max_queues")]
    Full,
}

/// Which tokens are revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// This one.
    Token(String),
    /// All of this user.
    User(String),
    /// All of the client.
    Clients,
}

/// Which queues die as if their time were over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expiry {
    /// This share of them, 0 to 1, drawn.
    pub share: f64,
    /// Only those of these users; none: of all.
    pub users: Option<Vec<String>>,
}

impl Default for Expiry {
    fn default() -> Self {
        Self { share: 1.0, users: None }
    }
}

/// What every request needs.
pub(crate) struct Shared {
    world: Mutex<World>,
    options: Arc<Options>,
    /// Scheme, host, port and version's prefix.
    base: String,
    user_header: HeaderName,
    gate: watch::Sender<Gate>,
    stopping: watch::Receiver<bool>,
}

impl Shared {
    /// The world, locked; what a panicking holder left behind is as good as any.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source cannot be reached for so long.
    fn close(&self, length: Duration) {
        // Under the lock, so that the ledger tells outages in the order in which they were.
        let mut world = self.world();
        world.begin_outage(length);
        self.gate.send_modify(|gate| gate.close(length));
    }

    /// The source can be reached.
    fn open(&self) {
        let mut world = self.world();
        world.end_outage();
        self.gate.send_modify(Gate::open);
    }

    fn heal(&self) {
        self.open();
        self.world().heal();
    }
}

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Binds and serves on the current runtime.
    pub async fn start(options: Options) -> Result<Running, Error> {
        for address in [options.listen, options.control_listen] {
            if !options.any_address && !address.ip().is_loopback() {
                return Err(Error::NotLoopback(address));
            }
        }
        if !matches!(options.dead_status, 404 | 410) {
            return Err(Error::BadOption("dead_status must be 404 or 410".to_owned()));
        }
        let user_header = HeaderName::try_from(&options.user_header)
            .map_err(|_| Error::BadOption("user_header is no header name".to_owned()))?;
        let (gate, gated) = watch::channel(Gate::default());
        let bind = |address| move |source| Error::Bind { address, source };
        let door = Door::bind(options.listen, gated).await.map_err(bind(options.listen))?;
        let control = TcpListener::bind(options.control_listen)
            .await
            .map_err(bind(options.control_listen))?;
        let control_address = control.local_addr().map_err(bind(options.control_listen))?;
        let control = control.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set nodelay");
            }
        });

        let address = door.address();
        let (stop, stopping) = watch::channel(false);
        let prefix = options.version.prefix();
        let skew = options.clock_skew_ms;
        let options = Arc::new(options);
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(options.clone())),
            options,
            base: format!("http://{address}{prefix}"),
            user_header,
            gate,
            stopping: stopping.clone(),
        });
        let source = api::routes(prefix);
        let source = match skew {
            0 => source,
            skew => source.layer(map_response(move |response| dated(response, skew))),
        };
        let source = source.merge(control::routes()).with_state(shared.clone());
        let source = axum::serve(door, source.into_make_service_with_connect_info::<Cord>())
            .with_graceful_shutdown(told(stopping.clone()));
        let control = axum::serve(control, control::routes().with_state(shared.clone()))
            .with_graceful_shutdown(told(stopping));
        let serving = tokio::spawn(async move {
            let (source, control) = tokio::join!(source, control);
            if let Err(error) = source.and(control) {
                tracing::error!(%error, "simulator stopped serving");
            }
        });
        tracing::info!(%address, control = %control_address, "simulator listening");
        Ok(Running { shared, address, control_address, stop, serving })
    }
}

/// Ends when the simulator is told to stop.
async fn told(mut stopping: watch::Receiver<bool>) {
    // An error says that the handle is gone: that too is a stop.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// A response with the date of a clock that is so many milliseconds ahead.
async fn dated(mut response: Response, skew: i64) -> Response {
    let shown = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(skew);
    let printed = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&shown);
    if let Ok(Ok(value)) = printed.map(HeaderValue::try_from) {
        response.headers_mut().insert(DATE, value);
    }
    response
}
