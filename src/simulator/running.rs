//! A simulator that runs, as whoever started it in their own process sees it.
//!
//! Promises:
//! - each method does what the call of the control API does;
//! - dropping it stops the simulator.
//!
//! Knows nothing of: HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::millis;
use super::connection::ConnectionPlan;
use super::fault::Order;
use super::ledger::{Extract, Ledger, Stats};
use super::making::UserPlan;
use super::script::Sync;
use super::traffic::Traffic;
use super::{Error, Expiry, Revocation, Shared};

/// How long a stop waits for connections to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A running simulator. Its methods do what the control API does; dropping it stops it.
pub struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    pub(super) control_address: SocketAddr,
    pub(super) stop: watch::Sender<bool>,
    pub(super) serving: JoinHandle<()>,
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

    /// The base of the control API's calls, reached also when the source is not.
    pub fn control_url(&self) -> String {
        format!("http://{}/control", self.control_address)
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

    /// Puts many users; those before one that is too many are put.
    pub fn put_users(&self, plans: &[UserPlan]) -> Result<(), Error> {
        self.shared.world().put_users(plans)
    }

    /// Gives a user, whose id is the username, another password than `password-of-` and the id.
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), Error> {
        self.shared.world().set_password(user, password)
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

    /// Lets queues die as if their time were over; answers how many.
    pub fn expire(&self, expiry: &Expiry) -> Result<usize, Error> {
        self.shared.world().expire(expiry)
    }

    /// Refuses connections for so long, and cuts those that are open. The control API's own port
    /// stays open.
    pub fn unreachable(&self, length: Duration) {
        self.shared.close(length);
    }

    /// Takes connections again, before the time is over.
    pub fn reachable(&self) {
        self.shared.open();
    }

    /// Starts synchronizations at a rate over all users, in place of those that start so.
    pub fn start_traffic(&self, traffic: Traffic) -> Result<(), Error> {
        self.shared.world().start_traffic(traffic)
    }

    /// Starts no more of them; those under way go on to their end.
    pub fn stop_traffic(&self) {
        self.shared.world().stop_traffic();
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

    /// Forgets every order for a fault, and takes connections again.
    pub fn heal(&self) {
        self.shared.heal();
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
