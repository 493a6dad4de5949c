//! Writes all subscriptions, as the admin API shows them.
//!
//! Promises:
//! - in the order of the user ids' bytes, each user once;
//! - what is not all of them is said not to be, and ends with exit code 1;
//! - no credential, as the API shows none: only its kind.
//!
//! A user who is subscribed or removed meanwhile may be there or not.
//!
//! Knows nothing of: HTTP.

use std::io::{BufWriter, Write};
use std::pin::pin;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Interval;

use super::Reach;
use super::teller::Teller;
use crate::admin;
use crate::config::Config;
use crate::door::{self, Door, NotServed, Page};

/// What an export is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportOptions {
    #[command(flatten)]
    reach: Reach,
}

/// A line: what of a subscription outlives a moment.
#[derive(Debug, Deserialize, Serialize)]
struct Exported {
    user_id: String,
    subscription_id: String,
    queue_id: String,
    generation: u32,
    partition: i32,
    credential: Kind,
    state: String,
    blocked_reason: Option<String>,
}

/// The kind of a credential.
#[derive(Debug, Deserialize, Serialize)]
struct Kind {
    r#type: String,
}

/// Why an export is not whole.
#[derive(Debug, thiserror::Error)]
enum Incomplete {
    #[error("{0}")]
    NotServed(#[from] NotServed),
    #[error(
        "a subscription after user {after:?} cannot be read; is the bridge of another version?"
    )]
    Unreadable { after: String },
    #[error("the page after user {after:?} does not go on from there")]
    OutOfOrder { after: String },
    #[error("stdout: {0}")]
    Output(#[from] std::io::Error),
}

/// Exports to stdout, and tells how it went on stderr; exit code 1 unless everything was written.
pub async fn export(config: Config, options: ExportOptions) -> ExitCode {
    let mut teller = Teller::new();
    let doors = match options.reach.doors(&config) {
        Ok(doors) => doors,
        Err(why) => {
            teller.say(&why);
            return ExitCode::FAILURE;
        }
    };
    let ticks = teller.ticks();
    let mut export = Export { doors, options, ticks, teller, written: 0, last: String::new() };
    let ended = export.write_all(&mut BufWriter::new(std::io::stdout())).await;
    let Export { mut teller, written, .. } = export;
    match ended {
        Ok(()) => {
            teller.say(&format!(
                "export: {written} subscriptions. No credentials are among them, as the admin API \
                 shows none: this is no backup of those"
            ));
            ExitCode::SUCCESS
        }
        Err(why) => {
            teller.say(&format!("export INCOMPLETE, {written} subscriptions were written: {why}"));
            ExitCode::FAILURE
        }
    }
}

struct Export {
    doors: Vec<Door>,
    options: ExportOptions,
    ticks: Interval,
    teller: Teller,
    written: u64,
    /// The user written last.
    last: String,
}

impl Export {
    async fn write_all(&mut self, output: &mut impl Write) -> Result<(), Incomplete> {
        let mut after = None;
        loop {
            let page = self.page(after.as_deref()).await?;
            if page.subscriptions.is_empty() && page.next.is_some() {
                return Err(Incomplete::OutOfOrder { after: self.last.clone() });
            }
            for subscription in page.subscriptions {
                self.write(subscription, output)?;
            }
            output.flush()?;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn page(&mut self, after: Option<&str>) -> Result<Page, NotServed> {
        let ask = async |door: Door| door.page(after, admin::MAX_PAGE).await;
        let mut asking = pin!(door::persist(&self.doors, 0, self.options.reach.patience, ask));
        loop {
            tokio::select! {
                page = &mut asking => return page,
                _ = self.ticks.tick() => {
                    self.teller.progress(&format!("exporting: {} subscriptions", self.written));
                }
            }
        }
    }

    fn write(
        &mut self,
        subscription: Map<String, Value>,
        output: &mut impl Write,
    ) -> Result<(), Incomplete> {
        let exported: Exported = serde_json::from_value(Value::Object(subscription))
            .map_err(|_| Incomplete::Unreadable { after: self.last.clone() })?;
        // no id is empty, so the first is above the one before it
        if exported.user_id <= self.last {
            return Err(Incomplete::OutOfOrder { after: self.last.clone() });
        }
        let mut line = serde_json::to_vec(&exported).map_err(std::io::Error::from)?;
        line.push(b'\n');
        output.write_all(&line)?;
        self.written += 1;
        self.last = exported.user_id;
        Ok(())
    }
}
