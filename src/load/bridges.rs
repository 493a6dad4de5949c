//! Bridges as processes: started, killed, frozen, restarted.
//!
//! Promises:
//! - only processes that were started here are touched, each by its id;
//! - none outlives the run;
//! - a bridge keeps its address and its journal over a restart.
//!
//! Knows nothing of: when and why.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::LoadError;
use super::dice::Dice;
use super::schedule::Blow;
use crate::config::Config;
use crate::door::Door;
use crate::secret::Secret;

/// How long a bridge may take until it is ready.
const READY: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);
/// Lines of a log that are shown when a bridge does not start.
const LAST_LINES: usize = 15;

/// A bridge that was started here.
pub(super) struct Bridge {
    name: String,
    program: PathBuf,
    config: PathBuf,
    environment: Vec<(String, String)>,
    log: PathBuf,
    door: Door,
    grace: Duration,
    child: Option<Child>,
}

/// What is needed to start bridges.
pub(super) struct Recipe<'r> {
    /// The program.
    pub(super) program: &'r Path,
    /// Its configuration.
    pub(super) file: &'r Path,
    /// The same, read.
    pub(super) config: &'r Config,
    /// What counts over it for every bridge.
    pub(super) environment: &'r [(String, String)],
    /// Where logs go.
    pub(super) logs: &'r Path,
    /// How many.
    pub(super) count: u32,
    /// The client for their doors.
    pub(super) http: &'r reqwest::Client,
}

/// Starts bridges, and waits until each is ready.
pub(super) async fn start(recipe: &Recipe<'_>) -> Result<Vec<Arc<Mutex<Bridge>>>, LoadError> {
    let folder = |source| LoadError::File { path: recipe.logs.to_owned(), source };
    std::fs::create_dir_all(recipe.logs).map_err(folder)?;
    let mut bridges = Vec::new();
    for number in 0..recipe.count {
        let mut bridge = recipe.bridge(number);
        bridge.start()?;
        bridges.push(bridge);
    }
    for bridge in &mut bridges {
        bridge.until_ready().await?;
    }
    Ok(bridges.into_iter().map(|bridge| Arc::new(Mutex::new(bridge))).collect())
}

impl Recipe<'_> {
    fn bridge(&self, number: u32) -> Bridge {
        let config = self.config;
        let mut environment = self.environment.to_vec();
        let mut set = |key: &str, value: String| {
            environment.push((format!("LINXO_BRIDGE__{key}"), value));
        };
        let address = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{address}");
        set("ADMIN__LISTEN", address);
        set("ADMIN__ADVERTISED_URL", url.clone());
        if self.count > 1 {
            let journal = config.journal.directory.join(format!("bridge-{number}"));
            set("JOURNAL__DIRECTORY", journal.display().to_string());
            set("KAFKA__INSTANCE_ID", format!("{}-{number}", config.kafka.instance_id));
        }
        Bridge {
            name: format!("bridge-{number}"),
            program: self.program.to_owned(),
            config: self.file.to_owned(),
            environment,
            log: self.logs.join(format!("bridge-{number}.log")),
            door: Door::new(self.http, &url, config.admin.token.as_ref()),
            grace: config.service.grace,
            child: None,
        }
    }
}

/// A port that nobody listens on; not one of those that the system gives to outgoing connections.
fn free_port() -> u16 {
    let mut dice = Dice::new(u64::from(std::process::id()), &uuid::Uuid::new_v4().to_string());
    for _ in 0..1000 {
        let port = u16::try_from(15_000 + dice.below(17_000)).unwrap_or(15_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    0
}

impl Bridge {
    /// What it is called in reports.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its admin API.
    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    fn start(&mut self) -> Result<(), LoadError> {
        let file = |source| LoadError::File { path: self.log.clone(), source };
        let log = File::options().create(true).append(true).open(&self.log).map_err(file)?;
        let started = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .arg("serve")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        let program = |source| LoadError::File { path: self.program.clone(), source };
        self.child = Some(started.map_err(program)?);
        Ok(())
    }

    async fn until_ready(&mut self) -> Result<(), LoadError> {
        let deadline = Instant::now() + READY;
        loop {
            let Some(reason) = self.door.not_ready().await else { return Ok(()) };
            let reason = match self.ended() {
                Some(how) => how,
                None if Instant::now() >= deadline => reason,
                None => {
                    sleep(LOOK).await;
                    continue;
                }
            };
            let (name, log) = (self.name.clone(), self.last_lines());
            return Err(LoadError::NotReady { name, reason, log });
        }
    }

    /// How the process ended, when it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.as_mut()?.try_wait() {
            Ok(status) => status.map(|status| format!("it ended ({status})")),
            Err(error) => Some(format!("it cannot be looked after ({error})")),
        }
    }

    /// Strikes, waits, and brings it back.
    pub(super) async fn strike(&mut self, blow: Blow, lasts: Duration) -> Result<(), LoadError> {
        match blow {
            Blow::Kill => {
                if let Some(child) = &mut self.child {
                    // one that has ended already is as dead
                    child.kill().await.ok();
                }
            }
            Blow::Terminate => self.terminate().await?,
            Blow::Freeze => {
                self.signal("STOP").await?;
                sleep(lasts).await;
                self.signal("CONT").await?;
                return self.until_ready().await;
            }
        }
        sleep(lasts).await;
        self.restart().await
    }

    /// Starts it again after its end.
    pub(super) async fn restart(&mut self) -> Result<(), LoadError> {
        self.start()?;
        self.until_ready().await
    }

    /// SIGTERM; waits for the end.
    pub(super) async fn terminate(&mut self) -> Result<(), LoadError> {
        if self.child.is_none() || self.ended().is_some() {
            return Ok(());
        }
        self.signal("TERM").await?;
        let Some(child) = &mut self.child else { return Ok(()) };
        let patience = self.grace + Duration::from_secs(10);
        match tokio::time::timeout(patience, child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                child.kill().await.ok();
                let (name, log) = (self.name.clone(), self.last_lines());
                let reason = format!("it did not stop within {patience:?} and was killed");
                Err(LoadError::NotReady { name, reason, log })
            }
        }
    }

    async fn signal(&self, signal: &str) -> Result<(), LoadError> {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return Ok(()) };
        let program = |source| LoadError::File { path: PathBuf::from("kill"), source };
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
        sent.await.map_err(program)?;
        Ok(())
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

/// The token of the admin API from a file.
pub(super) fn token_of(path: &Path) -> Result<Secret, LoadError> {
    let file = |source| LoadError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(file)?;
    Ok(Secret::from(text.trim_end_matches(['\n', '\r'])))
}
