//! What a line asks for: a user's subscription.
//!
//! Promises:
//! - the credential reaches the door as it stands in the line, and is judged there;
//! - a fault says what is wrong and where, and repeats nothing of the line;
//! - what is told of a refusal holds nothing of the credential.
//!
//! Parsed by hand, because serde's messages repeat what they complain about.
//!
//! Knows nothing of: what a credential is; how it is put.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::door::Why;
use crate::secret::Secret;

/// Words that a credential may have in common with what is told of it.
const NO_SECRETS: [&str; 6] =
    ["type", "access_token", "expires_at", "username", "password", "client"];

/// Why a line asks for nothing that can be put.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Not JSON, or not only.
    #[error("is not JSON: fault at byte {0}")]
    NotJson(usize),
    /// JSON, but no object.
    #[error("must be an object with the fields user_id, credential and, if wished, queue_id")]
    NotAnObject,
    /// A field that a subscription must have.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something else.
    #[error("has a field that is none of user_id, credential and queue_id")]
    UnknownField,
    /// A number, perhaps.
    #[error("user_id must be a text")]
    UserNotText,
    /// No path names such a user.
    #[error("user_id must not be empty, \".\" or \"..\"")]
    UserWithoutPath,
}

/// A subscription to be put.
pub(super) struct Wish {
    /// Whose.
    pub(super) user: String,
    body: Secret,
}

impl Wish {
    /// Reads a line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Fault> {
        let mut fields: BTreeMap<String, &RawValue> =
            serde_json::from_slice(line).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => Fault::NotAnObject,
                serde_json::error::Category::Syntax
                | serde_json::error::Category::Eof
                | serde_json::error::Category::Io => Fault::NotJson(error.column()),
            })?;
        let mut take = |name| fields.remove(name).map(RawValue::get).filter(|raw| *raw != "null");
        let user = take("user_id").ok_or(Fault::Missing("user_id"))?;
        let credential = take("credential").ok_or(Fault::Missing("credential"))?;
        let queue = take("queue_id").map(|queue| format!(",\"queue_id\":{queue}"));
        if !fields.is_empty() {
            return Err(Fault::UnknownField);
        }
        let user: String = serde_json::from_str(user).map_err(|_| Fault::UserNotText)?;
        if matches!(user.as_str(), "" | "." | "..") {
            return Err(Fault::UserWithoutPath);
        }
        let body = format!("{{\"credential\":{credential}{}}}", queue.unwrap_or_default());
        Ok(Self { user, body: Secret::from(body) })
    }

    /// The body of the call.
    pub(super) fn body(&self) -> &str {
        self.body.expose()
    }

    /// What may be told of a refusal: all of it, unless something of the credential stands there; then
    /// its kind alone. Bridges repeat no value, but may name a field, and who knows what is in between.
    pub(super) fn tellable(&self, why: &Why) -> String {
        let mut secrets = Vec::new();
        let body: Value = serde_json::from_str(self.body()).unwrap_or_default();
        gather(&body["credential"], &mut secrets);
        let kind = match why.status {
            Some(status) => format!("{status}: {}", why.title),
            None => why.title.clone(),
        };
        [why.to_string(), kind]
            .into_iter()
            .find(|told| !secrets.iter().any(|secret| told.contains(secret)))
            .unwrap_or_else(|| "not served; the reason repeats the credential".to_owned())
    }
}

/// Every text of a credential, names of unknown fields too.
fn gather(value: &Value, secrets: &mut Vec<String>) {
    let mut add = |text: &str| {
        if !text.is_empty() && !NO_SECRETS.contains(&text) {
            secrets.push(text.to_owned());
        }
    };
    match value {
        Value::String(text) => add(text),
        Value::Number(number) => add(&number.to_string()),
        Value::Array(values) => values.iter().for_each(|value| gather(value, secrets)),
        Value::Object(fields) => {
            fields.keys().for_each(|name| add(name));
            fields.values().for_each(|value| gather(value, secrets));
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> Fault {
        match Wish::parse(line.as_bytes()) {
            Err(fault) => fault,
            Ok(wish) => panic!("{line} asks for {}", wish.user),
        }
    }

    #[test]
    fn a_line_becomes_a_user_and_the_body_of_a_call_as_it_stands() {
        let line = r#" {"credential": {"type":"client", "x":1.50 }, "user_id":"a\/b \u00e9"} "#;
        let wish = Wish::parse(line.as_bytes()).unwrap();
        assert_eq!(wish.user, "a/b é");
        assert_eq!(wish.body(), r#"{"credential":{"type":"client", "x":1.50 }}"#);

        let line = r#"{"user_id":"u","credential":{},"queue_id":"q\"1"}"#;
        let wish = Wish::parse(line.as_bytes()).unwrap();
        assert_eq!(wish.body(), r#"{"credential":{},"queue_id":"q\"1"}"#);
        let line = r#"{"user_id":"u","credential":{},"queue_id":null}"#;
        assert_eq!(Wish::parse(line.as_bytes()).unwrap().body(), r#"{"credential":{}}"#);
    }

    #[test]
    fn what_is_wrong_with_a_line_is_told_without_the_line() {
        for (line, expected) in [
            (r#"{"user_id":"u""#, Fault::NotJson(14)),
            (r#"{"user_id":"u","credential":{"type":"client"}} hush"#, Fault::NotJson(48)),
            ("hush", Fault::NotJson(1)),
            (r#"["hush"]"#, Fault::NotAnObject),
            (r#""hush""#, Fault::NotAnObject),
            (r#"{"credential":{"type":"hush"}}"#, Fault::Missing("user_id")),
            (r#"{"user_id":null,"credential":{}}"#, Fault::Missing("user_id")),
            (r#"{"user_id":"u"}"#, Fault::Missing("credential")),
            (r#"{"user_id":"u","credential":null}"#, Fault::Missing("credential")),
            (r#"{"user_id":"u","credential":{},"hush":1}"#, Fault::UnknownField),
            (r#"{"user_id":7,"credential":{}}"#, Fault::UserNotText),
            (r#"{"user_id":"","credential":{}}"#, Fault::UserWithoutPath),
            (r#"{"user_id":".","credential":{}}"#, Fault::UserWithoutPath),
            (r#"{"user_id":"..","credential":{}}"#, Fault::UserWithoutPath),
        ] {
            let found = fault(line);
            assert_eq!(found, expected, "{line}");
            assert!(!found.to_string().contains("hush"), "{found}");
        }
        let no_text = Wish::parse(b"{\"user_id\":\"\xff\",\"credential\":{}}");
        assert!(matches!(no_text, Err(Fault::NotJson(_) | Fault::UserNotText)));
    }

    #[test]
    fn a_refusal_is_told_unless_it_repeats_the_credential() {
        let line = r#"{"user_id":"u","credential":
            {"type":"password","username":"ann","password":"hush","more":{"odd":[4711]}}}"#;
        let wish = Wish::parse(line.replace('\n', " ").as_bytes()).unwrap();
        let told = |title: &str, detail: &str| {
            wish.tellable(&Why { status: Some(422), title: title.into(), detail: detail.into() })
        };
        assert_eq!(
            told("Wrong", "/credential/type is not a name"),
            "422: /credential/type is not a name"
        );
        for detail in ["no hush here", "ann is unknown", "4711", "/credential/odd", "at more"] {
            assert_eq!(told("Wrong", detail), "422: Wrong", "{detail}");
        }
        assert!(!told("hush", "hush").contains("hush"));
    }
}
