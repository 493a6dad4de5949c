//! A bridge as a process, a simulated source in this process, and a corner of the shared Kafka.
//!
//! A [`Stage`] is one test's world: its topics have a prefix of their own, its group too. The
//! bridge is the real program, started and ended as an operator would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linxo_kafka_bridge::simulator::{Options, Running, Simulator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::decode::{Decoded, decoded};
use super::{Kafka, http, oracle, read_topic, unique};

/// How long anything may take before a test gives up; no test waits for it in the good case.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const TOKEN: &str = "admin-token-of-the-tests";

/// One test's world.
pub struct Stage {
    pub kafka: &'static Kafka,
    pub simulator: Arc<Running>,
    pub prefix: String,
    pub folder: TempDir,
    settings: Vec<(String, String)>,
    sabotage: String,
    launcher: Vec<String>,
}

impl Stage {
    /// A world with topics made, and nobody subscribed.
    pub async fn new(name: &str) -> Self {
        Self::with(name, Options::default(), &[]).await
    }

    /// The same with options of the source and settings of the bridge (`section.key`, TOML value).
    pub async fn with(name: &str, options: Options, settings: &[(&str, &str)]) -> Self {
        let stage = Self::bare(name, options, settings).await;
        let made = stage.run(&["topics", "create"]).await;
        assert!(made.status.success(), "topics create: {}", String::from_utf8_lossy(&made.stderr));
        stage
    }

    /// The same without topics.
    pub async fn bare(name: &str, options: Options, settings: &[(&str, &str)]) -> Self {
        Self::on(Kafka::shared().await, name, options, settings).await
    }

    /// The same on a broker of one's own, for a test that stops or pauses it.
    pub async fn on(
        kafka: &'static Kafka,
        name: &str,
        options: Options,
        settings: &[(&str, &str)],
    ) -> Self {
        http();
        let simulator = Arc::new(Simulator::start(options.clone()).await.unwrap());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        std::fs::write(
            folder.path().join("keys"),
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("client-secret"), &options.client_secret).unwrap();
        let path = |file: &str| format!("{:?}", folder.path().join(file).to_str().unwrap());
        let prefix = format!("{}.", unique(name));
        let mut all: Vec<(String, String)> = Vec::new();
        for (key, value) in [
            ("linxo.api_url", format!("{:?}", simulator.url())),
            ("linxo.auth_url", format!("{:?}", simulator.auth_url())),
            ("linxo.client_id", format!("{:?}", options.client_id)),
            ("linxo.client_secret_file", path("client-secret")),
            ("linxo.request_timeout", "\"5s\"".into()),
            ("linxo.max_requests_per_second", "0".into()),
            ("polling.active", "\"100ms\"".into()),
            ("polling.active_for", "\"5s\"".into()),
            ("polling.keep_alive", "\"20s\"".into()),
            ("kafka.bootstrap_servers", format!("{:?}", kafka.entrance())),
            ("kafka.group", format!("\"{prefix}group\"")),
            ("kafka.session_timeout", "\"6s\"".into()),
            ("topics.prefix", format!("{prefix:?}")),
            ("topics.partitions", "4".into()),
            ("topics.event_partitions", "4".into()),
            ("topics.replication", kafka.brokers().len().to_string()),
            ("journal.directory", path("journal")),
            ("credentials.key_file", path("keys")),
            ("credentials.retry", "\"1s\"".into()),
            ("admin.listen", "\"127.0.0.1:0\"".into()),
            ("admin.token_file", path("token")),
            ("service.log", "\"info,librdkafka=off\"".into()),
        ] {
            all.push((key.into(), value));
        }
        let (sabotage, launcher) = (String::new(), Vec::new());
        let mut stage =
            Self { kafka, simulator, prefix, folder, settings: all, sabotage, launcher };
        for (key, value) in settings {
            stage.set(key, value);
        }
        stage
    }

    /// Changes a setting (`section.key`, TOML value) for programs started from now on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(name, _)| name != key);
        self.settings.push((key.into(), value.into()));
    }

    /// What bridges started from now on are to break (`src/sabotage.rs`); empty for nothing.
    pub fn sabotage(&mut self, orders: &str) {
        orders.clone_into(&mut self.sabotage);
    }

    /// Programs started from now on are started through this one, which becomes them in the end; empty for none.
    pub fn launch_through(&mut self, words: &[&str]) {
        self.launcher = words.iter().map(|word| (*word).to_owned()).collect();
    }

    fn program(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_linxo-bridge");
        match self.launcher.split_first() {
            Some((launcher, words)) => {
                let mut command = Command::new(launcher);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Takes a setting back.
    pub fn unset(&mut self, key: &str) {
        self.settings.retain(|(name, _)| name != key);
    }

    /// The name of a topic.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The configuration as a file.
    pub fn config(&self) -> PathBuf {
        let path = self.folder.path().join("bridge.toml");
        let text: Vec<String> =
            self.settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        std::fs::write(&path, text.concat()).unwrap();
        path
    }

    /// Runs a command of the program to its end.
    pub async fn run(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = self.program();
        command.arg("--config").arg(self.config()).args(arguments).stdin(Stdio::null());
        command.kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("in time").unwrap()
    }

    /// A bridge that serves and is ready.
    pub async fn bridge(&self) -> Bridge {
        let bridge = self.start().await;
        bridge.ready().await;
        bridge
    }

    /// A bridge whose door is open; it may not be ready.
    pub async fn start(&self) -> Bridge {
        let mut child = self
            .program()
            .arg("--config")
            .arg(self.config())
            .arg("serve")
            // what it might leave where it runs is to be found
            .current_dir(self.folder.path())
            .env("LINXO_BRIDGE_SABOTAGE", &self.sabotage)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (opened, door) = tokio::sync::oneshot::channel();
        let written = Arc::clone(&log);
        let reading = tokio::spawn(async move {
            let mut opened = Some(opened);
            while let Ok(Some(line)) = lines.next_line().await {
                if opened.is_some()
                    && let Some(address) = listens(&line)
                    && let Some(opened) = opened.take()
                {
                    opened.send(address).ok();
                }
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = tokio::time::timeout(PATIENCE, door).await;
        let Ok(Ok(address)) = address else {
            panic!("the door did not open:\n{}", log.lock().unwrap());
        };
        Bridge { child, url: format!("http://{address}"), log, reading }
    }

    /// What is in a topic now, decoded, in the order of partition and offset.
    pub async fn read(&self, topic: &str) -> Vec<Decoded> {
        let records = read_topic(self.kafka.bootstrap_servers(), &self.topic(topic)).await;
        records.into_iter().map(decoded).collect()
    }

    /// Reads a topic until it is as wished.
    pub async fn until(&self, topic: &str, wish: impl Fn(&[Decoded]) -> bool) -> Vec<Decoded> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let records = self.read(topic).await;
            if wish(&records) {
                return records;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{topic} did not come to what was expected, it has {} records: {records:#?}",
                records.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Reads `linxo.events` until every one of these keys is there.
    pub async fn until_published(&self, keys: &[String]) -> Vec<Decoded> {
        self.until("linxo.events", |events| {
            let published = oracle::published(events);
            keys.iter().all(|key| published.contains(key))
        })
        .await
    }

    /// How many events the source has handed out whole.
    pub fn handed_out(&self) -> usize {
        usize::try_from(self.simulator.stats().handed_out).unwrap()
    }

    /// Waits until the source has nothing left to hand out, and everything it handed out is in
    /// `linxo.events`.
    pub async fn drained(&self) -> Vec<Decoded> {
        self.drained_less(0).await
    }

    /// The same when as many of them are no events but dead letters.
    pub async fn drained_less(&self, dead_letters: usize) -> Vec<Decoded> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self
            .simulator
            .ledger(None)
            .events
            .iter()
            .any(|event| event.fate == linxo_kafka_bridge::simulator::Fate::Waiting)
        {
            assert!(tokio::time::Instant::now() < deadline, "events still wait at the source");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let handed_out = self.handed_out() - dead_letters;
        self.until("linxo.events", |records| {
            let from_queues = records.iter().filter(|record| record.value["origin"] == "QUEUE");
            from_queues.count() >= handed_out
        })
        .await
    }
}

/// A running bridge.
pub struct Bridge {
    child: Child,
    /// The base of its admin API.
    pub url: String,
    log: Arc<Mutex<String>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Bridge {
    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get("/readyz").await;
            if status == 200 {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "not ready: {body}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// A call of the admin API; the body is JSON, or text where the answer is none.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut request = http().request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.timeout(PATIENCE).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// GET.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, None).await
    }

    /// Subscribes a user with the bridge's own client credentials.
    pub async fn put(&self, user: &str) -> Value {
        let body = json!({"credential": {"type": "client"}});
        let (status, answer) = self.call("PUT", &path_of(user), Some(body)).await;
        assert!(status == 200 || status == 201, "PUT {user}: {status} {answer}\n{}", self.log());
        answer
    }

    /// Shows a subscription.
    pub async fn show(&self, user: &str) -> Value {
        let (status, answer) = self.get(&path_of(user)).await;
        assert_eq!(status, 200, "GET {user}: {answer}");
        answer
    }

    /// Shows a subscription until it is as wished.
    pub async fn show_until(&self, user: &str, wish: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let view = self.show(user).await;
            if wish(&view) {
                return view;
            }
            let is_late = tokio::time::Instant::now() >= deadline;
            assert!(!is_late, "{user} did not become as expected: {view}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The value of a metric with these labels as they stand in the text; 0 when it is not there.
    pub async fn metric(&self, name_and_labels: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let text = text.as_str().unwrap_or_default().to_owned();
        let line = text.lines().find_map(|line| {
            line.strip_prefix(name_and_labels)?.strip_prefix(' ').map(str::to_owned)
        });
        line.unwrap_or_else(|| panic!("no metric {name_and_labels}")).parse().unwrap()
    }

    /// SIGTERM; waits for the end.
    pub async fn stop(self) -> ExitStatus {
        self.stop_telling().await.0
    }

    /// The same, and all that it has logged.
    pub async fn stop_telling(mut self) -> (ExitStatus, String) {
        self.signal("TERM").await;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("did not stop:\n{}", self.log())).unwrap();
        (status, self.log())
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGSTOP: its connections stay, it does nothing.
    pub async fn pause(&self) {
        self.signal("STOP").await;
    }

    /// SIGCONT.
    pub async fn resume(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().await;
        assert!(sent.unwrap().success(), "signal {name} did not reach the bridge");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("did not end:\n{}", self.log())).unwrap();
        // its last words may still be on their way
        (&mut self.reading).await.unwrap();
        status
    }
}

/// Where the door is, when a log line says so, be it text or JSON.
fn listens(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("admin api listens")?;
    after
        .split(|c: char| !c.is_ascii_digit() && !".:".contains(c))
        .find_map(|word| word.parse().ok())
}

/// The path of a user's subscription.
pub fn path_of(user: &str) -> String {
    let segment = percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC);
    format!("/v1/subscriptions/{segment}")
}
