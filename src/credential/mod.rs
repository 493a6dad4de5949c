//! What a user shows to the source, and how it is sealed before it reaches Kafka or a disk.
//!
//! Promises:
//! - no error, `Debug` or `Display` shows a token, a key or what was sealed;
//! - a credential leaves this room sealed or as a [`Secret`], in no other form;
//! - keys that are there are never drawn again.
//!
//! Knows nothing of: where sealed bytes are kept, and how a credential becomes a request.

mod files;
mod key_ring;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use files::{FileFault, create_secrets};
pub use key_ring::{KeyFault, KeyRing, SEAL_OVERHEAD_BYTES, SealError, SealedCredential};

use crate::ids::Timestamp;
use crate::secret::Secret;

/// What a user shows to the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A token that the integrator obtained and renews.
    AccessToken {
        /// The bearer token.
        access_token: Secret,
        /// When the source will refuse it; `None` when the integrator did not say.
        expires_at: Option<Timestamp>,
    },
    /// The user's name and password at the source, with which the bridge asks for tokens.
    Password {
        /// The name.
        username: Secret,
        /// The password.
        password: Secret,
    },
    /// The bridge's own client credentials; the user is named in a header or a query parameter.
    Client,
}

/// How a credential looks inside the seal. Fields may be added, as optional ones.
#[derive(Default, Serialize, Deserialize)]
struct Plain<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    access_token: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    username: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    password: Option<Cow<'a, str>>,
}

impl Credential {
    fn to_plain(&self) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (plain, length) = match self {
            Self::AccessToken { access_token, expires_at } => {
                let token = access_token.expose();
                let plain = Plain {
                    kind: Cow::Borrowed("access_token"),
                    access_token: Some(Cow::Borrowed(token)),
                    expires_at: expires_at.map(|moment| moment.0),
                    ..Plain::default()
                };
                (plain, token.len())
            }
            Self::Password { username, password } => {
                let (username, password) = (username.expose(), password.expose());
                let plain = Plain {
                    kind: Cow::Borrowed("password"),
                    username: Some(Cow::Borrowed(username)),
                    password: Some(Cow::Borrowed(password)),
                    ..Plain::default()
                };
                (plain, username.len() + password.len())
            }
            Self::Client => (Plain { kind: Cow::Borrowed("client"), ..Plain::default() }, 0),
        };
        // Room for all of it at once (an escaped character takes six): a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_mul(6) + 128));
        serde_json::to_writer(&mut *bytes, &plain).map_err(|_| SealError::TooLong)?;
        Ok(bytes)
    }

    fn from_plain(bytes: &[u8]) -> Result<Self, SealError> {
        let plain: Plain<'_> = serde_json::from_slice(bytes).map_err(|_| SealError::Damaged)?;
        let secret = |text: Cow<'_, str>| Secret::from(text.into_owned());
        match (plain.kind.as_ref(), plain.access_token, plain.username, plain.password) {
            ("access_token", Some(token), None, None) => Ok(Self::AccessToken {
                access_token: secret(token),
                expires_at: plain.expires_at.map(Timestamp),
            }),
            ("password", None, Some(username), Some(password)) => {
                Ok(Self::Password { username: secret(username), password: secret(password) })
            }
            ("client", None, None, None) => Ok(Self::Client),
            _ => Err(SealError::Unserved),
        }
    }
}
