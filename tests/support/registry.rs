//! A real Schema Registry (Apicurio), on a free port of the loopback.
//!
//! It keeps everything in memory: a [`Registry::restart`] forgets every schema, and ids start anew.

use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::cache;
use super::server::{Server, free_ports};

const BOOT: Duration = Duration::from_secs(60);

/// A registry; gone when dropped, or when the test process ends.
pub struct Registry {
    port: u16,
    url: String,
    server: Mutex<Server>,
}

impl Registry {
    /// The registry that all tests of a file share; keep them apart by subject.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Registry> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A registry of one's own, for a test that stops it. It compares nothing (level NONE, Apicurio's default).
    pub async fn start() -> Self {
        // Somebody else may take the port between our look and the registry's: then with another.
        for _ in 0..2 {
            if let Ok(registry) = Self::boot().await {
                return registry;
            }
        }
        Self::boot().await.unwrap_or_else(|log| panic!("the registry does not start:\n{log}"))
    }

    /// The base of its Confluent-compatible API, with a path and without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens, for a proxy before it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the global level: `NONE`, `FULL_TRANSITIVE`, ...
    pub async fn set_compatibility(&self, level: &str) {
        let body = json!({ "compatibility": level });
        let answer = http().put(format!("{}/config", self.url)).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Sets the level of one subject, so that a test may leave the shared registry's own alone.
    pub async fn set_subject_compatibility(&self, subject: &str, level: &str) {
        let (url, body) =
            (format!("{}/config/{subject}", self.url), json!({ "compatibility": level }));
        let answer = http().put(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// Registers a schema as a stranger would; status and body of the answer.
    pub async fn register(&self, subject: &str, schema: &str) -> (u16, Value) {
        let url = format!("{}/subjects/{subject}/versions", self.url);
        let body = json!({ "schema": schema });
        let answer = http().post(url).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// SIGKILL. The port is kept for [`Self::restart`], what was registered is not.
    pub fn stop(&self) {
        self.server().kill();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn pause(&self) {
        self.server().signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server().signal("CONT");
    }

    /// Starts it empty on the same port, after SIGKILL if it runs, and waits till it answers.
    pub async fn restart(&self) {
        {
            let mut server = self.server();
            server.kill();
            server.run(command(self.port));
        }
        self.wait().await.unwrap_or_else(|log| panic!("the registry does not come back:\n{log}"));
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    async fn boot() -> Result<Self, String> {
        let [port] = free_ports();
        let mut server = Server::in_new_folder("linxo-registry-");
        server.run(command(port));
        let url = format!("http://127.0.0.1:{port}/apis/ccompat/v7");
        let registry = Self { port, url, server: Mutex::new(server) };
        registry.wait().await?;
        Ok(registry)
    }

    /// Waits till it answers; the error is its log.
    async fn wait(&self) -> Result<(), String> {
        let (http, url) = (http(), format!("{}/subjects", self.url));
        let deadline = Instant::now() + BOOT;
        let mut looks = interval(Duration::from_millis(50));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let mut server = self.server();
            if server.has_ended() || Instant::now() >= deadline {
                return Err(server.log());
            }
        }
    }
}

/// A client for plain HTTP, and for HTTPS with the provider of the programs.
///
/// One for all: making one reads the system's certificates, which takes as long as many calls. It
/// keeps no connections, as those would outlive the runtime of the test that opened them.
pub fn http() -> reqwest::Client {
    static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
        // Refused when a test of this file has set it already: the same one.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder().pool_max_idle_per_host(0);
        client.timeout(Duration::from_secs(10)).build().unwrap()
    });
    HTTP.clone()
}

fn command(port: u16) -> Command {
    let registry = cache::registry();
    let mut command = Command::new("java");
    // Flags as in scripts/setup.sh, or the class archive is not used.
    command
        .arg(format!("-XX:SharedArchiveFile={}", registry.join("registry.jsa").display()))
        .args(["-Xshare:auto", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg("-Dquarkus.http.host=127.0.0.1")
        .arg(format!("-Dquarkus.http.port={port}"))
        .arg("-jar")
        .arg(registry.join("apicurio-registry-app-2.6.13.Final-runner.jar"));
    command
}
