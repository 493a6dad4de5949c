//! What a caller puts: a credential, and perhaps a queue to adopt; the filter of log lines.
//!
//! Promises:
//! - every field is checked, an unknown one is refused, and a refusal names the field only;
//! - secrets are wiped when dropped, and `Debug` shows none.
//!
//! Parsed by hand, because serde's messages repeat the values they complain about.
//!
//! Knows nothing of: HTTP; how a credential is sealed or used.

use std::fmt;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::problem::{Kind, Problem};
use crate::ids::{QueueId, Timestamp};

const MAX_TOKEN_BYTES: usize = 16 * 1024;
const MAX_LOGIN_BYTES: usize = 4 * 1024;
const MAX_QUEUE_ID_BYTES: usize = 1024;
const MAX_FILTER_BYTES: usize = 1024;

/// The body of a PUT.
#[derive(Debug)]
pub struct PutRequest {
    /// How the bridge is to ask for the user.
    pub credential: CredentialRequest,
    /// A queue that was made elsewhere, to be asked from now on.
    pub queue_id: Option<QueueId>,
}

/// A credential as a caller gives it.
pub enum CredentialRequest {
    /// A token that the integrator got for the user.
    AccessToken {
        /// The token: visible ASCII, as it stands in a header.
        access_token: Zeroizing<String>,
        /// When it runs out, if the caller knows.
        expires_at: Option<Timestamp>,
    },
    /// The user's name and password at the source.
    Password {
        /// The name.
        username: Zeroizing<String>,
        /// The password.
        password: Zeroizing<String>,
    },
    /// The bridge's own client credentials.
    Client,
}

impl fmt::Debug for CredentialRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessToken { access_token: _, expires_at } => formatter
                .debug_struct("AccessToken")
                .field("expires_at", expires_at)
                .finish_non_exhaustive(),
            Self::Password { .. } => formatter.write_str("Password(redacted)"),
            Self::Client => formatter.write_str("Client"),
        }
    }
}

impl PutRequest {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut fields = Fields::of(json(body)?, "")?;
        let credential =
            fields.take("credential").ok_or_else(|| fields.fault("credential", "is missing"))?;
        let queue_id = fields.text("queue_id", MAX_QUEUE_ID_BYTES)?;
        fields.end()?;
        let credential = CredentialRequest::parse(Fields::of(credential, "/credential")?)?;
        Ok(Self { credential, queue_id: queue_id.map(QueueId::from) })
    }
}

/// The body of a PUT of the log's filter.
pub(super) fn log_filter(body: &[u8]) -> Result<String, Problem> {
    let mut fields = Fields::of(json(body)?, "")?;
    let filter = fields.text("filter", MAX_FILTER_BYTES)?;
    fields.end()?;
    filter.ok_or_else(|| fields.fault("filter", "is missing"))
}

fn json(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Problem::new(Kind::BadJson, format!("the body is not JSON: fault at {place}"))
    })
}

impl CredentialRequest {
    fn parse(mut fields: Fields) -> Result<Self, Problem> {
        const KINDS: &str = "must be \"access_token\", \"password\" or \"client\"";
        let kind = fields.text("type", 64)?.ok_or_else(|| fields.fault("type", KINDS))?;
        match kind.as_str() {
            "access_token" => {
                let access_token = fields.secret("access_token", MAX_TOKEN_BYTES)?;
                if !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    let fault = "must be visible ASCII, as it is sent in a header";
                    return Err(fields.fault("access_token", fault));
                }
                let expires_at = fields.moment("expires_at")?;
                fields.end()?;
                Ok(Self::AccessToken { access_token, expires_at })
            }
            "client" => {
                fields.end()?;
                Ok(Self::Client)
            }
            "password" => {
                let username = fields.secret("username", MAX_LOGIN_BYTES)?;
                let password = fields.secret("password", MAX_LOGIN_BYTES)?;
                fields.end()?;
                Ok(Self::Password { username, password })
            }
            _ => Err(fields.fault("type", KINDS)),
        }
    }
}

/// The fields of an object that are not yet looked at.
struct Fields {
    left: Map<String, Value>,
    /// The JSON pointer to the object.
    at: &'static str,
}

impl Fields {
    fn of(value: Value, at: &'static str) -> Result<Self, Problem> {
        if let Value::Object(left) = value {
            return Ok(Self { left, at });
        }
        let what = if at.is_empty() { "the body" } else { at };
        Err(Problem::new(Kind::InvalidRequest, format!("{what} must be an object")).at(at))
    }

    fn fault(&self, name: &str, fault: &str) -> Problem {
        // A pointer's own escapes; cut, because a caller may send any text as a name.
        let name: String = name.chars().take(64).collect();
        let pointer = format!("{}/{}", self.at, name.replace('~', "~0").replace('/', "~1"));
        Problem::new(Kind::InvalidRequest, format!("{pointer} {fault}")).at(pointer)
    }

    /// A field's value; null is as good as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str, max_bytes: usize) -> Result<Option<String>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Err(self.fault(name, "is empty")),
            Some(Value::String(text)) if text.len() > max_bytes => {
                Err(self.fault(name, &format!("is longer than {max_bytes} bytes")))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.fault(name, "must be a text")),
        }
    }

    /// A text that must be there and is wiped when dropped.
    fn secret(&mut self, name: &str, max_bytes: usize) -> Result<Zeroizing<String>, Problem> {
        let text = self.text(name, max_bytes)?.map(Zeroizing::new);
        text.ok_or_else(|| self.fault(name, "is missing"))
    }

    /// A moment in milliseconds since 1970, or as RFC 3339 text.
    fn moment(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let moment = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => {
                text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let fault = "must be milliseconds since 1970 or an RFC 3339 text";
        moment
            .filter(|millis| jiff::Timestamp::from_millisecond(*millis).is_ok())
            .map(|millis| Some(Timestamp(millis)))
            .ok_or_else(|| self.fault(name, fault))
    }

    /// Refuses what is left.
    fn end(&self) -> Result<(), Problem> {
        match self.left.keys().next() {
            Some(name) => Err(self.fault(name, "is not a field known here")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(body: &str) -> (String, Option<Timestamp>) {
        let credential = PutRequest::parse(body.as_bytes()).unwrap().credential;
        let CredentialRequest::AccessToken { access_token, expires_at } = credential else {
            panic!("{credential:?}");
        };
        (access_token.to_string(), expires_at)
    }

    #[test]
    fn an_expiry_is_milliseconds_or_text_or_absent() {
        let with = |expiry: &str| {
            token_of(&format!(
                r#"{{"credential":{{"type":"access_token","access_token":"t"{expiry}}}}}"#
            ))
        };
        let at = Some(Timestamp(1_800_000_000_250));
        assert_eq!(with(r#","expires_at":1800000000250"#), ("t".to_owned(), at));
        assert_eq!(with(r#","expires_at":"2027-01-15T09:00:00.250+01:00""#).1, at);
        assert_eq!(with(r#","expires_at":null"#).1, None);
        assert_eq!(with("").1, None);
    }

    #[test]
    fn a_client_credential_and_a_queue_to_adopt_are_understood() {
        let body = br#"{"credential":{"type":"client"},"queue_id":"q/1"}"#;
        let request = PutRequest::parse(body).unwrap();
        assert_eq!(request.queue_id, Some(QueueId::from("q/1")));
        assert!(matches!(request.credential, CredentialRequest::Client));
    }

    #[test]
    fn a_name_and_password_are_any_text() {
        let body = r#"{"credential":{"type":"password","username":"ann@é","password":" \n"}}"#;
        let credential = PutRequest::parse(body.as_bytes()).unwrap().credential;
        let CredentialRequest::Password { username, password } = credential else {
            panic!("{credential:?}");
        };
        assert_eq!((username.as_str(), password.as_str()), ("ann@é", " \n"));
    }

    #[test]
    fn debug_shows_no_token() {
        for credential in [
            r#"{"type":"access_token","access_token":"hush-hush"}"#,
            r#"{"type":"password","username":"hush-name","password":"hush-hush"}"#,
        ] {
            let body = format!(r#"{{"credential":{credential}}}"#);
            let request = PutRequest::parse(body.as_bytes()).unwrap();
            assert!(!format!("{request:?}").contains("hush"));
        }
    }
}
