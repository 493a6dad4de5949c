//! What a user shows to the source, and how it is sealed before it reaches Kafka or a disk.
//!
//! Promises:
//! - no error, `Debug` or `Display` shows a token, a key or what was sealed;
//! - a credential leaves this room sealed or as a [`Secret`], in no other form.
//!
//! Knows nothing of: where sealed bytes are kept, and how a credential becomes a request.

mod key_ring;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

pub use key_ring::{KeyFault, KeyRing, SEAL_OVERHEAD_BYTES, SealError, SealedCredential};

use crate::ids::Timestamp;
use crate::secret::Secret;

/// A moment before this (1973) given in milliseconds was surely meant in seconds.
const LEAST_MILLISECONDS: i64 = 100_000_000_000;

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
    /// The bridge's own client credentials; the user is named in a header or a query parameter.
    Client,
}

/// What is wrong with a credential given as JSON. Never holds a part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFault {
    /// Not an object, or without a `type`.
    #[error(
        "the credential must be an object whose `type` is the text \"access_token\" or \"client\""
    )]
    Shape,
    /// A `type` that nobody knows.
    #[error("the credential's `type` is not known; give \"access_token\" or \"client\"")]
    UnknownType,
    /// The resource-owner grant.
    #[error(
        "the password grant is not served by this version; obtain a token and give it as `type` \"access_token\""
    )]
    Password,
    /// No `access_token`, or one that cannot be sent.
    #[error(
        "the credential's `access_token` must be a text of visible ASCII characters, not empty"
    )]
    AccessToken,
    /// An `expires_at` that is no moment.
    #[error(
        "the credential's `expires_at` must be milliseconds since 1970 as a whole number, an RFC 3339 text, or null"
    )]
    ExpiresAt,
    /// An `expires_at` in seconds.
    #[error(
        "the credential's `expires_at` lies before 1974, it was probably given in seconds; give milliseconds since 1970"
    )]
    ExpiresAtInSeconds,
    /// A field beside those of its type.
    #[error(
        "the credential has a field that its `type` does not know; \"access_token\" knows `access_token` and `expires_at`, \"client\" none"
    )]
    UnknownField,
}

impl Credential {
    /// Reads the admin API's form. The texts it keeps are moved out of `value`, not copied.
    pub fn from_json(value: Value) -> Result<Self, CredentialFault> {
        let Value::Object(mut fields) = value else { return Err(CredentialFault::Shape) };
        let Some(Value::String(kind)) = fields.remove("type") else {
            return Err(CredentialFault::Shape);
        };
        let credential = match kind.as_str() {
            "access_token" => {
                let Some(Value::String(token)) = fields.remove("access_token") else {
                    return Err(CredentialFault::AccessToken);
                };
                let access_token = Secret::from(token);
                if !is_bearer(access_token.expose()) {
                    return Err(CredentialFault::AccessToken);
                }
                let expires_at = moment(fields.remove("expires_at"))?;
                Self::AccessToken { access_token, expires_at }
            }
            "client" => Self::Client,
            "password" => return Err(CredentialFault::Password),
            _ => return Err(CredentialFault::UnknownType),
        };
        if fields.is_empty() { Ok(credential) } else { Err(CredentialFault::UnknownField) }
    }
}

fn is_bearer(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn moment(value: Option<Value>) -> Result<Option<Timestamp>, CredentialFault> {
    let milliseconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().ok_or(CredentialFault::ExpiresAt)?,
        Some(Value::String(text)) => {
            let moment: jiff::Timestamp = text.parse().map_err(|_| CredentialFault::ExpiresAt)?;
            moment.as_millisecond()
        }
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            return Err(CredentialFault::ExpiresAt);
        }
    };
    if milliseconds < LEAST_MILLISECONDS {
        return Err(CredentialFault::ExpiresAtInSeconds);
    }
    Ok(Some(Timestamp(milliseconds)))
}

/// How a credential looks inside the seal. Fields may be added, as optional ones.
#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    access_token: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
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
                };
                (plain, token.len())
            }
            Self::Client => {
                (Plain { kind: Cow::Borrowed("client"), access_token: None, expires_at: None }, 0)
            }
        };
        // Room for all of it at once (an escaped character takes six): a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_mul(6) + 128));
        serde_json::to_writer(&mut *bytes, &plain).map_err(|_| SealError::TooLong)?;
        Ok(bytes)
    }

    fn from_plain(bytes: &[u8]) -> Result<Self, SealError> {
        let plain: Plain<'_> = serde_json::from_slice(bytes).map_err(|_| SealError::Damaged)?;
        match (plain.kind.as_ref(), plain.access_token) {
            ("access_token", Some(token)) => Ok(Self::AccessToken {
                access_token: Secret::from(token.into_owned()),
                expires_at: plain.expires_at.map(Timestamp),
            }),
            ("client", None) => Ok(Self::Client),
            _ => Err(SealError::Unserved),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_admin_form_is_read() {
        let read = |value| Credential::from_json(value).unwrap();
        let token_until = |expires_at| Credential::AccessToken {
            access_token: Secret::from("abc.def"),
            expires_at,
        };
        let until = Some(Timestamp(1_767_225_600_000));
        assert_eq!(
            read(json!({"type":"access_token","access_token":"abc.def"})),
            token_until(None)
        );
        assert_eq!(
            read(json!({"type":"access_token","access_token":"abc.def","expires_at":null})),
            token_until(None)
        );
        assert_eq!(
            read(
                json!({"type":"access_token","access_token":"abc.def","expires_at":1_767_225_600_000_i64})
            ),
            token_until(until)
        );
        assert_eq!(
            read(
                json!({"type":"access_token","access_token":"abc.def","expires_at":"2026-01-01T01:00:00+01:00"})
            ),
            token_until(until)
        );
        assert_eq!(read(json!({"type":"client"})), Credential::Client);
    }

    #[test]
    fn a_wrong_credential_is_refused_without_its_values_being_told() {
        let cases = [
            (json!("hush"), CredentialFault::Shape),
            (json!({"access_token":"hush"}), CredentialFault::Shape),
            (json!({"type":7,"access_token":"hush"}), CredentialFault::Shape),
            (json!({"type":"hush"}), CredentialFault::UnknownType),
            (
                json!({"type":"password","username":"u","password":"hush"}),
                CredentialFault::Password,
            ),
            (json!({"type":"access_token"}), CredentialFault::AccessToken),
            (json!({"type":"access_token","access_token":""}), CredentialFault::AccessToken),
            (
                json!({"type":"access_token","access_token":"hush\r\nx: y"}),
                CredentialFault::AccessToken,
            ),
            (json!({"type":"access_token","access_token":["hush"]}), CredentialFault::AccessToken),
            (
                json!({"type":"access_token","access_token":"t","expires_at":"hush"}),
                CredentialFault::ExpiresAt,
            ),
            (
                json!({"type":"access_token","access_token":"t","expires_at":1.5}),
                CredentialFault::ExpiresAt,
            ),
            (
                json!({"type":"access_token","access_token":"t","expires_at":1_767_225_600}),
                CredentialFault::ExpiresAtInSeconds,
            ),
            (
                json!({"type":"access_token","access_token":"t","hush":1}),
                CredentialFault::UnknownField,
            ),
            (json!({"type":"client","access_token":"hush"}), CredentialFault::UnknownField),
        ];
        for (value, expected) in cases {
            let fault = Credential::from_json(value).unwrap_err();
            assert_eq!(fault, expected);
            assert!(!format!("{fault} {fault:?}").contains("hush"), "{fault}");
        }
        assert_eq!(
            CredentialFault::Password.to_string().split(';').next(),
            Some("the password grant is not served by this version")
        );
    }
}
