//! The ways out of a worker: the source, the journal, the budget, the keys.
//!
//! Promises: a credential is open only in the hands of who makes a request with it.
//!
//! Knows nothing of: steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::step::HeldCredential;
use crate::admin::Unserved;
use crate::budget::Budget;
use crate::credential::{Credential, KeyRing};
use crate::ids::UserId;
use crate::journal::{Change, Journal, RowOf, Unsettled};
use crate::kafka::Reach;
use crate::linxo::{Bearer, Refusal, Refused, Room, Source};
use crate::metrics::Metrics;
use crate::publisher::Control;
use crate::pulse::Pulse;
use crate::schedule::Pace;

/// How long the publisher is waited for. Without its word a suspicion just stays one.
const LOOK: Duration = Duration::from_secs(2);

/// What workers share: the ways out of the process, and how to behave.
pub struct Outside {
    /// The source.
    pub source: Source,
    /// Memory for answers in flight.
    pub room: Room,
    /// Where answers are kept.
    pub journal: Journal,
    /// Who may ask when.
    pub budget: Budget,
    /// Opens and seals credentials.
    pub keys: Arc<KeyRing>,
    /// Whether a question removes what it is answered with.
    pub is_handed_out_once: bool,
    /// Knows how far each queue has been published.
    pub publisher: mpsc::Sender<Control>,
    /// The intervals.
    pub pace: Pace,
    /// Whether Kafka answers.
    pub reach: Reach,
    /// Every number we show.
    pub metrics: Arc<Metrics>,
    /// That workers make progress.
    pub pulse: Arc<Pulse>,
    /// From when all wheels count their ticks: what is due in one tick wakes the process once,
    /// whoever's queue it is.
    pub started: Instant,
    /// This instance, as the admin API shows it.
    pub instance_id: String,
}

impl Outside {
    /// Opens a credential; when no key opens it, it is as good as refused until it is put anew.
    pub(super) fn open(
        &self,
        user: &UserId,
        credential: &HeldCredential,
    ) -> Result<Credential, Refused> {
        match credential {
            HeldCredential::Client => Ok(Credential::Client),
            HeldCredential::AccessToken(sealed) | HeldCredential::Password(sealed) => {
                let sealed = self.keys.open(user, sealed);
                sealed.map_err(|error| Refused { what: Refusal::Sealed, how: error.to_string() })
            }
        }
    }

    pub(super) fn seal(&self, user: &UserId, credential: &Credential) -> Result<Vec<u8>, Unserved> {
        self.keys
            .seal(user, credential)
            .map(|sealed| sealed.as_bytes().to_vec())
            .map_err(|error| Unserved::InvalidCredential { what: error.to_string() })
    }

    /// Has a change kept; false when it is not known to be, as the bridge stops.
    pub(super) async fn keep(&self, of: RowOf, change: Change) -> bool {
        let user = of.user.clone();
        match self.journal.keep(of, change).await {
            Ok(()) | Err(Unsettled::NotOwned) => true,
            Err(Unsettled::Stopped) => {
                tracing::warn!(%user, "an answer was not known to be kept when the bridge stopped");
                false
            }
        }
    }

    /// The id that the next event of a user's queue must have, if that can be known.
    pub(super) async fn expected_id(&self, of: &RowOf) -> Option<u64> {
        let (expected, told) = oneshot::channel();
        let look = Control::Look { partition: of.partition, user: of.user.clone(), expected };
        let looking = async {
            self.publisher.send(look).await.ok()?;
            told.await.ok()?
        };
        timeout(LOOK, looking).await.ok()?
    }
}

pub(super) fn bearer(credential: &Credential) -> Bearer<'_> {
    match credential {
        Credential::AccessToken { access_token, expires_at } => {
            Bearer::Token { access_token: access_token.expose(), expires_at: *expires_at }
        }
        Credential::Password { username, password } => {
            Bearer::Password { username: username.expose(), password: password.expose() }
        }
        Credential::Client => Bearer::Client,
    }
}
