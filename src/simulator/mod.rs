//! A Linxo API that misbehaves on request and keeps a ledger of all it made and handed out.
//!
//! It stands for the source in tests, in the demo and in load runs. What is known of the source it
//! does as the source does; what is not known is an option. `fault.rs` says what each fault does,
//! `control.rs` lists the calls by which it is told.
//!
//! Promises:
//! - it shares no type with the bridge: they meet over HTTP only;
//! - the same seed makes the same ids, and the same faults for the same sequence of requests;
//! - delivery is "once": a question removes what it hands out;
//! - every event made is in the ledger once for each queue of its user that lived then, with what
//!   became of it; an event is "handed out" when its answer was given to the connection whole;
//! - it listens on loopback only.
//!
//! Knows nothing of: the bridge, Kafka.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderName;
use axum::serve::ListenerExt;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod api;
mod asking;
mod clock;
mod connection;
mod control;
mod fault;
mod ledger;
mod making;
mod names;
mod options;
mod queue;
mod reply;
mod report;
mod script;
mod send;
#[cfg(test)]
mod tests;
mod tokens;
mod world;

pub use connection::{ConnectionPlan, FAKE_SECRET};
pub use fault::{Fault, FaultName, Order, RequestKind};
pub use ledger::{
    DeathEntry, EventEntry, Extract, Fate, HandOut, Ledger, Outcome, QueueEntry, Stats, UserEntry,
};
pub use options::{EventIds, LocationForm, Options, Version};
pub use queue::DeathCause;
pub use script::{Mode, Status, Sync};

use clock::millis;
use world::World;

/// How long a stop waits for connections to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

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
    #[error("will not listen on {0}: the control api has no password, choose a loopback address")]
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

/// What every request needs.
pub(crate) struct Shared {
    world: Mutex<World>,
    options: Arc<Options>,
    /// Scheme, host, port and version's prefix.
    base: String,
    user_header: HeaderName,
    stopping: watch::Receiver<bool>,
}

impl Shared {
    /// The world, locked; what a panicking holder left behind is as good as any.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts simulators.
#[derive(Debug)]
pub struct Simulator;

impl Simulator {
    /// Binds and serves on the current runtime.
    pub async fn start(options: Options) -> Result<Running, Error> {
        if !options.listen.ip().is_loopback() {
            return Err(Error::NotLoopback(options.listen));
        }
        if !matches!(options.dead_status, 404 | 410) {
            return Err(Error::BadOption("dead_status must be 404 or 410".to_owned()));
        }
        let user_header = HeaderName::try_from(&options.user_header)
            .map_err(|_| Error::BadOption("user_header is no header name".to_owned()))?;
        let bind = |source| Error::Bind { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        // An answer is one small write: waiting for more of it would only cost time.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set nodelay");
            }
        });

        let (stop, stopping) = watch::channel(false);
        let prefix = options.version.prefix();
        let options = Arc::new(options);
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(options.clone())),
            options,
            base: format!("http://{address}{prefix}"),
            user_header,
            stopping: stopping.clone(),
        });
        let router = api::routes(prefix).merge(control::routes()).with_state(shared.clone());
        let mut told = stopping;
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            // An error says that the handle is gone: that too is a stop.
            drop(told.wait_for(|stop| *stop).await);
        });
        let serving = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "simulator stopped serving");
            }
        });
        tracing::info!(%address, "simulator listening");
        Ok(Running { shared, address, stop, serving })
    }
}

/// A running simulator. Its methods do what the control API does; dropping it stops it.
pub struct Running {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Running {
    /// The base of `/queues` and `/connections`, with the version's prefix.
    pub fn url(&self) -> String {
        self.shared.base.clone()
    }

    /// The base of `/token`.
    pub fn auth_url(&self) -> String {
        format!("http://{}/auth", self.address)
    }

    /// The base of the control API's calls.
    pub fn control_url(&self) -> String {
        format!("http://{}/control", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving: responses that hang or drip are cut, others end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(STOP_WITHIN, self.serving).await.is_err() {
            tracing::warn!("connections are still open");
        }
    }

    /// Gives a user these connections in place of all others; answers their ids.
    pub fn put_user(&self, user: &str, plans: &[ConnectionPlan]) -> Result<Vec<String>, Error> {
        self.shared.world().put_user(user, plans)
    }

    /// Kills the user's queues, revokes their tokens, forgets their connections.
    pub fn remove_user(&self, user: &str) -> Result<(), Error> {
        self.shared.world().remove_user(user)
    }

    /// A token of this user; without a lifetime the one of the options.
    pub fn issue_token(&self, user: &str, lifetime: Option<Duration>) -> Result<String, Error> {
        Ok(self.shared.world().issue_for(Some(user), lifetime.map(millis))?.0)
    }

    /// Revokes tokens; answers how many.
    pub fn revoke(&self, revocation: &Revocation) -> usize {
        self.shared.world().revoke(revocation)
    }

    /// Opens a queue as the widget does; answers its id.
    pub fn open_queue(&self, user: &str) -> Result<String, Error> {
        self.shared.world().open_queue_for(user)
    }

    /// The ids of the user's queues that live.
    pub fn live_queues(&self, user: &str) -> Vec<String> {
        self.shared.world().live_queues(user)
    }

    /// Kills a queue; did it live?
    pub fn kill_queue(&self, queue: &str) -> bool {
        self.shared.world().kill(queue)
    }

    /// Kills the user's queues; answers how many lived.
    pub fn kill_queues_of(&self, user: &str) -> usize {
        self.shared.world().kill_of(user)
    }

    /// Starts a synchronization; answers how many events it makes.
    pub fn start_sync(&self, user: &str, sync: &Sync) -> Result<usize, Error> {
        self.shared.world().start_sync(user, sync)
    }

    /// Injects an array element as it is; answers how many queues it went to.
    pub fn push(&self, user: &str, element: &str) -> Result<usize, Error> {
        self.shared.world().push(user, element)
    }

    /// Makes plain events of a connection (none: the first); answers how many queues they went to.
    pub fn push_events(
        &self,
        user: &str,
        connection: Option<&str>,
        count: usize,
    ) -> Result<usize, Error> {
        self.shared.world().push_events(user, connection, count)
    }

    /// Orders a fault.
    pub fn inflict(&self, order: Order) -> Result<(), Error> {
        self.shared.world().inflict(order)
    }

    /// Forgets every order for a fault.
    pub fn heal(&self) {
        self.shared.world().heal();
    }

    /// The totals.
    pub fn stats(&self) -> Stats {
        self.shared.world().stats()
    }

    /// The ledger, of everybody or of one user.
    pub fn ledger(&self, user: Option<&str>) -> Ledger {
        self.ledger_page(&Extract { user: user.map(str::to_owned), ..Extract::default() })
    }

    /// A part of the ledger: for runs with so many events that all of them at once are too many.
    pub fn ledger_page(&self, extract: &Extract) -> Ledger {
        self.shared.world().ledger(extract)
    }
}
