//! What a registry answered, and how it is shown.
//!
//! Promises:
//! - what is shown is one line of some hundred bytes, whatever was answered.
//!
//! Knows nothing of: HTTP, subjects.

use serde::Deserialize;
use serde_json::Value;

/// The longest answer that is shown, in bytes.
const LONGEST_SHOWN: usize = 400;

/// A status and the body that came with it.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

#[derive(Default, Deserialize)]
struct Fields {
    id: Option<u32>,
    schema: Option<String>,
    error_code: Option<u32>,
    message: Option<String>,
    is_compatible: Option<bool>,
    #[serde(default)]
    messages: Vec<Value>,
}

impl Answered {
    pub(super) fn id(&self) -> Option<u32> {
        self.fields().id
    }

    pub(super) fn schema(&self) -> Option<String> {
        self.fields().schema
    }

    pub(super) fn code(&self) -> Option<u32> {
        self.fields().error_code
    }

    pub(super) fn is_compatible(&self) -> Option<bool> {
        self.fields().is_compatible
    }

    /// Whether a registry says that it does not know the subject (40401), the version (40402) or the
    /// schema (40403). Any web server says 404.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.code(), Some(40401..=40403))
    }

    /// The status and what was said with it.
    pub(super) fn shown(&self) -> String {
        let said = match self.fields().message {
            Some(message) => shown(message.as_bytes()),
            None => shown(&self.body),
        };
        if said.is_empty() { self.status.to_string() } else { format!("{}: {said}", self.status) }
    }

    /// Why two schemas do not go together, as far as the registry tells.
    pub(super) fn messages(&self) -> String {
        let texts: Vec<_> = self
            .fields()
            .messages
            .iter()
            .map(|message| message.as_str().map_or_else(|| message.to_string(), str::to_owned))
            .collect();
        if texts.is_empty() { self.shown() } else { shown(texts.join("; ").as_bytes()) }
    }

    /// For an answer that a registry does not give, or gives when in trouble.
    pub(super) fn unexpected(&self) -> String {
        if self.status >= 500 || matches!(self.status, 408 | 429) {
            format!("the registry answered {}", self.shown())
        } else {
            format!(
                "not the answer of a schema registry ({}); see whether schema_registry.url has the \
                 right path, such as /apis/ccompat/v7",
                self.shown()
            )
        }
    }

    fn fields(&self) -> Fields {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// As one line of bounded length.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST_SHOWN)]);
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let mut line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if line.len() > LONGEST_SHOWN {
        let ends = line.char_indices().map(|(at, _)| at);
        let end = ends.take_while(|at| *at <= LONGEST_SHOWN).last();
        line.truncate(end.unwrap_or(0));
        line.push_str("...");
    }
    line
}
