//! Subscriptions in bulk, through the admin API: put from JSON lines, written as JSON lines.
//!
//! Promises:
//! - topics are never touched, only the admin API is called;
//! - a credential goes to the door and, where that is asked for, into the file of rejected lines that
//!   its owner alone may read; nothing of it is told;
//! - memory is bounded, whatever the number of lines, and so is the time without an answer;
//! - what is not whole ends with exit code 1.
//!
//! Knows nothing of: how a call is served; what a credential is.

mod export;
mod import;
mod lines;
mod rejected;
mod teller;
mod wish;

use std::time::Duration;

use url::Url;

pub use export::{ExportOptions, export};
pub use import::{ImportOptions, import};

use crate::config::{self, Config};
use crate::door::{self, Door};

/// How long a call may take: longer than a bridge gives itself for one.
const LONGEST_CALL: Duration = Duration::from_secs(35);
/// What patience may be.
const PATIENCE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Which bridges are called, and how patiently.
#[derive(Clone, Debug, clap::Args)]
pub struct Reach {
    /// The admin API of a bridge; may be given more than once, and then they are called in turns.
    /// Unless given, admin.advertised_url of the configuration, or else admin.listen
    #[arg(long, value_name = "URL", value_parser = base_url)]
    url: Vec<Url>,
    /// How long a call that is not served for the moment is tried again
    #[arg(long, default_value = "1m", value_name = "DURATION", value_parser = patience)]
    patience: Duration,
}

impl Reach {
    /// The doors to call.
    fn doors(&self, config: &Config) -> Result<Vec<Door>, String> {
        let http =
            door::client(LONGEST_CALL).map_err(|error| format!("no http client: {error}"))?;
        let configured = std::slice::from_ref(&config.admin.advertised_url);
        let urls = if self.url.is_empty() { configured } else { &self.url };
        let token = config.admin.token.as_ref();
        Ok(urls.iter().map(|url| Door::new(&http, url.as_str(), token)).collect())
    }
}

fn base_url(text: &str) -> Result<Url, String> {
    let wanted = "write a URL as http://127.0.0.1:8080, without user name, query and fragment";
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    url.ok_or_else(|| wanted.to_owned())
}

fn patience(text: &str) -> Result<Duration, String> {
    let wanted = "write a duration with its unit, from 1s to 24h";
    config::duration(text)
        .filter(|patience| PATIENCE.contains(patience))
        .ok_or_else(|| wanted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_named_by_a_plain_url() {
        for text in ["http://127.0.0.1:8080", "https://host.example/bridge/", "http://[::1]:1"] {
            assert!(base_url(text).is_ok(), "{text}");
        }
        for text in [
            "127.0.0.1:8080",
            "host.example",
            "ftp://host.example",
            "http://ann:hush@host.example",
            "http://host.example/?x",
            "http://host.example/#x",
        ] {
            let told = base_url(text).unwrap_err();
            assert!(!told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn patience_is_a_second_at_least_and_a_day_at_most() {
        assert_eq!(patience("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(patience("24h"), Ok(Duration::from_secs(86_400)));
        for text in ["0s", "999ms", "25h", "60", "long"] {
            assert!(patience(text).is_err(), "{text}");
        }
    }
}
