//! A simulated source in a process of its own, so that its CPU is not that of whoever measures; and what a process uses.

use std::process::Stdio;

use linxo_kafka_bridge::simulator::Options;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::http;

/// A source that listens; it ends when dropped.
pub struct SourceProcess {
    pub child: Child,
    /// Before `/v2.1`, `/auth` and `/control`.
    pub base: String,
}

impl SourceProcess {
    /// Starts one with these arguments beside the defaults.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_linxo-simulator"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let base = line.strip_prefix("listening on ").unwrap().trim().to_owned();
        // it has more to say, and ends when nobody listens
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, base }
    }

    /// A token of the client that the defaults know, which may ask for everybody.
    pub async fn client_token(&self) -> String {
        let options = Options::default();
        let form = json!({
            "grant_type": "client_credentials",
            "client_id": options.client_id,
            "client_secret": options.client_secret,
        });
        let request = http().post(format!("{}/auth/token", self.base)).json(&form);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

/// CPU seconds and resident bytes of a process.
pub fn usage(pid: u32) -> (f64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (seconds(&fields), fields[21].parse::<u64>().unwrap() * 4096)
}

/// CPU seconds, user's and system's, of what follows the name in a `stat` of the system.
pub fn seconds(fields: &[&str]) -> f64 {
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
