//! Keeping what nobody else may read out of records and dead letters.
//!
//! Promises:
//! - in JSON, every field with a redacted name is gone, at any depth, however its name is escaped;
//!   the rest stays byte for byte;
//! - in what is no JSON, the value after each redacted name is blanked, as far as it can be told;
//! - the depth of the input costs heap, never stack.
//!
//! Knows nothing of: events, schemas.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// What stands where a value was blanked in something that is no JSON.
const BLANK: &[u8] = b"***";

/// The names of the fields that are left out. Case does not matter.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    names: Box<[Box<str>]>,
}

impl Redaction {
    /// Leaves out the fields with these names; empty names are passed over.
    pub fn new<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Self {
        let mut kept: Vec<Box<str>> = names.into_iter().map(|name| name.as_ref().into()).collect();
        kept.retain(|name| !name.is_empty());
        Self { names: kept.into() }
    }

    /// Whether a field of this name is left out.
    pub fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|redacted| redacted.eq_ignore_ascii_case(name))
            || (!name.is_ascii() && self.names.iter().any(|redacted| same_letters(redacted, name)))
    }

    /// What was received, less the redacted fields: as JSON where it is JSON, else as best it can.
    pub fn redact<'a>(&self, received: &'a [u8]) -> Cow<'a, [u8]> {
        match std::str::from_utf8(received) {
            Ok(text) if is_json(text) => match self.strip(text) {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            _ => Cow::Owned(self.redact_bytes(received)),
        }
    }

    /// JSON text less the redacted fields. What turns out to be no JSON is blanked instead.
    pub fn redact_json<'a>(&self, raw: &'a str) -> Cow<'a, str> {
        if is_json(raw) {
            self.strip(raw)
        } else {
            Cow::Owned(String::from_utf8_lossy(&self.redact_bytes(raw.as_bytes())).into_owned())
        }
    }

    /// The same for text that is known to be JSON.
    pub(super) fn strip<'a>(&self, json: &'a str) -> Cow<'a, str> {
        // A value without a colon has no fields, and most values have none.
        if self.names.is_empty() || !json.as_bytes().contains(&b':') || !self.occurs_in(json) {
            return Cow::Borrowed(json);
        }
        Cow::Owned(Stripper { json, at: 0, kept: String::with_capacity(json.len()) }.run(self))
    }

    fn occurs_in(&self, json: &str) -> bool {
        let mut at = 0;
        while let Some(start) = json[at..].find('"').map(|found| at + found) {
            at = string_end(json.as_bytes(), start);
            let after = skip_space(json.as_bytes(), at);
            if json.as_bytes().get(after) == Some(&b':') && self.covers_quoted(&json[start..at]) {
                return true;
            }
        }
        false
    }

    fn covers_quoted(&self, quoted: &str) -> bool {
        let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or("");
        if !inner.contains('\\') {
            return self.covers(inner);
        }
        serde_json::from_str::<String>(quoted).is_ok_and(|name| self.covers(&name))
    }

    /// What is no JSON, with the values after redacted names blanked, as best it can.
    ///
    /// Meant for broken JSON, form fields, headers and XML; generous, since a blank too many costs
    /// nothing.
    pub fn redact_bytes(&self, received: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(received.len());
        let mut at = 0;
        while at < received.len() {
            let value = self.name_at(&received[at..]).and_then(|length| {
                let start = value_start(received, at + length)?;
                Some((start, value_end(received, start)))
            });
            match value {
                Some((start, end)) if end > start => {
                    kept.extend_from_slice(&received[at..start]);
                    kept.extend_from_slice(BLANK);
                    at = end;
                }
                _ => {
                    kept.push(received[at]);
                    at += 1;
                }
            }
        }
        kept
    }

    fn name_at(&self, received: &[u8]) -> Option<usize> {
        let lengths = self.names.iter().filter_map(|name| {
            let start = received.get(..name.len())?;
            start.eq_ignore_ascii_case(name.as_bytes()).then_some(name.len())
        });
        lengths.max()
    }
}

/// Copies JSON, leaving out redacted fields. Relies on the text being JSON.
struct Stripper<'a> {
    json: &'a str,
    at: usize,
    kept: String,
}

/// An object or array that is open.
struct Open {
    is_object: bool,
    /// Length of what was kept when its last kept member ended, to take back a comma too many.
    complete: usize,
}

impl Stripper<'_> {
    fn run(mut self, redaction: &Redaction) -> String {
        let mut open: Vec<Open> = Vec::new();
        let mut at_key = false;
        while let Some(&byte) = self.json.as_bytes().get(self.at) {
            match byte {
                b'{' | b'[' => {
                    self.copy_to(self.at + 1);
                    at_key = byte == b'{';
                    open.push(Open { is_object: at_key, complete: self.kept.len() });
                }
                b'}' | b']' => {
                    self.copy_to(self.at + 1);
                    open.pop();
                    at_key = false;
                    self.complete(&mut open);
                }
                b',' => {
                    self.copy_to(self.at + 1);
                    at_key = open.last().is_some_and(|inner| inner.is_object);
                }
                b'"' => {
                    let end = string_end(self.json.as_bytes(), self.at);
                    if at_key && redaction.covers_quoted(&self.json[self.at..end]) {
                        self.leave_out(end, &open);
                        continue;
                    }
                    self.copy_to(end);
                    if !at_key {
                        self.complete(&mut open);
                    }
                }
                b':' => {
                    self.copy_to(self.at + 1);
                    at_key = false;
                }
                b' ' | b'\t' | b'\r' | b'\n' => self.copy_to(self.at + 1),
                _ => {
                    self.copy_to(scalar_end(self.json.as_bytes(), self.at));
                    self.complete(&mut open);
                }
            }
        }
        self.kept
    }

    fn copy_to(&mut self, end: usize) {
        self.kept.push_str(&self.json[self.at..end]);
        self.at = end;
    }

    fn complete(&self, open: &mut [Open]) {
        if let Some(inner) = open.last_mut() {
            inner.complete = self.kept.len();
        }
    }

    /// Passes over a member whose key ends at `key_end`, and over the comma that goes with it.
    fn leave_out(&mut self, key_end: usize, open: &[Open]) {
        let bytes = self.json.as_bytes();
        let value = skip_space(bytes, skip_space(bytes, key_end) + 1);
        let after = skip_space(bytes, json_value_end(bytes, value));
        if bytes.get(after) == Some(&b',') {
            self.at = skip_space(bytes, after + 1);
        } else {
            self.at = after;
            self.kept.truncate(open.last().map_or(0, |inner| inner.complete));
        }
    }
}

fn same_letters(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// Where the string that opens at `start` ends, behind its closing quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == b'\\' {
            at += 1;
        } else if byte == quote {
            return at;
        }
    }
    bytes.len()
}

fn scalar_end(bytes: &[u8], start: usize) -> usize {
    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
    bytes[start..].iter().position(ends).map_or(bytes.len(), |length| start + length)
}

fn json_value_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start) {
        Some(b'"') => string_end(bytes, start),
        Some(b'{' | b'[') => nested_end(bytes, start),
        _ => scalar_end(bytes, start),
    }
}

/// Where the brackets that open at `start` are balanced, or the end.
fn nested_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// Where the value begins that belongs to a name which ends at `at`, if a separator follows it.
fn value_start(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    while matches!(bytes.get(at), Some(b'\\' | b'"' | b'\'')) {
        at += 1;
    }
    at = skip_space(bytes, at);
    match bytes.get(at)? {
        b':' | b'=' | b'>' => Some(skip_space(bytes, at + 1)),
        _ => None,
    }
}

fn value_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start) {
        Some(b'"' | b'\'') => string_end(bytes, start),
        Some(b'{' | b'[') => nested_end(bytes, start),
        // A quote that is itself escaped: JSON inside of a JSON string.
        Some(b'\\') => bytes[start + 1..]
            .iter()
            .skip(1)
            .position(|&byte| byte == b'"' || byte == b'\'')
            .map_or(bytes.len(), |length| start + length + 3),
        _ => {
            let ends =
                |byte: &u8| matches!(byte, b'&' | b',' | b';' | b'}' | b']' | b'<' | b'\r' | b'\n');
            bytes[start..].iter().position(ends).map_or(bytes.len(), |length| start + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn usual() -> Redaction {
        Redaction::new(["credentials", "password", "token"])
    }

    #[test]
    fn redacted_fields_are_gone_and_the_rest_stays_byte_for_byte() {
        for (raw, expected) in [
            (r#"{"a": 1, "password": "x", "b":2}"#, r#"{"a": 1, "b":2}"#),
            (r#"{"a": 1, "PassWord" : "x" }"#, r#"{"a": 1}"#),
            (r#"{ "password": "x"}"#, "{}"),
            (r#"{"password": "x","token":{"a":[1,{"b":"}"}]},"c":null}"#, r#"{"c":null}"#),
            (r#"{"a":1,"password": "x","token":[]}"#, r#"{"a":1}"#),
            (r#"{"a":{"b":[{"token":1},{"token":2,"c":3}]}}"#, r#"{"a":{"b":[{},{"c":3}]}}"#),
            (r#"{"p\u0061ssword":"x","a":"password"}"#, r#"{"a":"password"}"#),
            (
                r#"{"a":"\"password\": \\","token":true,"b":"\\\""}"#,
                r#"{"a":"\"password\": \\","b":"\\\""}"#,
            ),
            (r#"["password","token"]"#, r#"["password","token"]"#),
            (r#"{"a":["password"],"b":-1.5e3}"#, r#"{"a":["password"],"b":-1.5e3}"#),
            (r#"{"access_token":"x"}"#, r#"{"access_token":"x"}"#),
        ] {
            assert_eq!(usual().redact_json(raw), expected);
            assert_eq!(usual().redact(raw.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn what_is_no_json_has_its_values_blanked() {
        for (raw, expected) in [
            (r#"[{"id":"1","password" : "se\"cret","b":2"#, r#"[{"id":"1","password" : ***,"b":2"#),
            (r#"[{"credentials":[{"login":"x","pin":"1"#, r#"[{"credentials":***"#),
            (r#"{"token":"cut of"#, r#"{"token":***"#),
            ("user=1&Password=a b&x=2", "user=1&Password=***&x=2"),
            ("<password>secret</password>", "<password>***</password>"),
            ("access_token: abc\r\nx: y", "access_token: ***\r\nx: y"),
            (r#"{\"password\":\"secret\",\"b\":1"#, r#"{\"password\":***,\"b\":1"#),
            ("the password was wrong", "the password was wrong"),
        ] {
            assert_eq!(String::from_utf8_lossy(&usual().redact(raw.as_bytes())), expected);
        }
        let broken = [b"\xff{\"password\":\"".as_slice(), b"x\xfe\",1"].concat();
        assert_eq!(usual().redact(&broken).as_ref(), b"\xff{\"password\":***,1");
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}{{\"token\":1}}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(!usual().redact_json(&deep).contains("token"));
    }

    #[test]
    fn names_are_compared_without_case_in_any_alphabet() {
        let redaction = Redaction::new(["Clé", "pin", ""]);
        assert!(redaction.covers("CLÉ") && redaction.covers("PIN"));
        assert!(!redaction.covers("") && !redaction.covers("cle") && !redaction.covers("pins"));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\{}\\[\\],:é ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            let name = prop_oneof![
                Just("password".to_owned()),
                Just("Token".to_owned()),
                "[a-c\"\\\\:,}]{1,2}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn without(value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(without).collect(),
            Value::Object(members) => members
                .into_iter()
                .filter(|(name, _)| !usual().covers(name))
                .map(|(name, value)| (name, without(value)))
                .collect(),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
        }
    }

    proptest! {
        #[test]
        fn stripping_text_equals_stripping_the_parsed_value(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            let stripped: Value = serde_json::from_str(&usual().redact_json(&text)).unwrap();
            prop_assert_eq!(stripped, without(value));
        }

        #[test]
        fn no_bytes_make_it_stumble(bytes: Vec<u8>, cut in "[\\[{\"a:,]{0,8}(password|token)[\"\\\\:= {\\[x]{0,6}") {
            usual().redact(&bytes);
            usual().redact(cut.as_bytes());
        }
    }
}
