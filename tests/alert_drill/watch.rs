//! A real Prometheus and a real Alertmanager, and whom it calls.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::scale;
use crate::support::server::Server;
use crate::support::{PATIENCE, free_ports, http, prometheus, source_file};

/// Who was told of which alerts that fire, by receiver.
type Told = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// What watches.
pub(crate) struct Watch {
    /// Prometheus' address.
    pub(crate) prometheus: String,
    alertmanager: String,
    told: Told,
    _servers: [Server; 2],
}

impl Watch {
    /// Watches these bridges, and a load run at this address when there is one. `is_scaled`: with all times a sixth.
    pub(crate) async fn start(bridges: &[String], load: Option<&str>, is_scaled: bool) -> Self {
        let told = Told::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhook = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/{receiver}", post(hear)).with_state(Arc::clone(&told));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let [at, alertmanager_at] = free_ports().map(|port| format!("127.0.0.1:{port}"));
        let read = |path: &str| std::fs::read_to_string(source_file(path)).unwrap();
        let routes = scale::routes(&read("deploy/alertmanager/alertmanager.yml"), &webhook);
        let mut alertmanager = Server::in_new_folder("alertmanager");
        let folder = alertmanager.folder().to_owned();
        std::fs::write(folder.join("alertmanager.yml"), routes).unwrap();
        let mut command = Command::new(prometheus::alertmanager());
        command.arg(format!("--config.file={}/alertmanager.yml", folder.display()));
        command.arg(format!("--storage.path={}/data", folder.display()));
        command.arg(format!("--web.listen-address={alertmanager_at}"));
        command.arg("--cluster.listen-address=");
        alertmanager.run(command);

        let rules = read("deploy/prometheus/alerts.yml");
        let rules = if is_scaled { scale::rules(&rules) } else { rules };
        let mut config = read("deploy/prometheus/prometheus.yml")
            .replace("alertmanager:9093", &alertmanager_at)
            .replace("bridge-0:8080, bridge-1:8080", &bridges.join(", "))
            .replace("load:9100", load.unwrap_or("127.0.0.1:1"));
        for time in ["scrape_interval: 10s", "scrape_interval: 5s", "evaluation_interval: 10s"] {
            assert!(config.contains(time), "prometheus.yml no longer has {time}");
            config = config.replace(time, &format!("{}: 1s", time.split(':').next().unwrap()));
        }
        let mut server = Server::in_new_folder("prometheus");
        let folder = server.folder().to_owned();
        std::fs::write(folder.join("alerts.yml"), rules).unwrap();
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let [_, newest] = prometheus::both();
        let mut command = Command::new(newest.program("prometheus"));
        command.arg(format!("--config.file={}/prometheus.yml", folder.display()));
        command.arg(format!("--storage.tsdb.path={}/data", folder.display()));
        command.arg(format!("--web.listen-address={at}"));
        // what is sent before Alertmanager is known is lost, and sent again only after a minute
        command.arg("--rules.alert.resend-delay=5s");
        server.run(command);

        let watch = Self {
            prometheus: format!("http://{at}"),
            alertmanager: format!("http://{alertmanager_at}"),
            told,
            _servers: [server, alertmanager],
        };
        let deadline = Instant::now() + PATIENCE;
        for url in [&watch.prometheus, &watch.alertmanager] {
            let is_ready = async || {
                let answer = http().get(format!("{url}/-/ready")).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            };
            while !is_ready().await {
                assert!(Instant::now() < deadline, "{url} is not ready:\n{}", watch.log());
                sleep(Duration::from_millis(100)).await;
            }
        }
        while watch.all_firing().await.is_empty() {
            assert!(Instant::now() < deadline, "no rule is judged:\n{}", watch.log());
            sleep(Duration::from_millis(100)).await;
        }
        watch
    }

    pub(crate) fn log(&self) -> String {
        self._servers.each_ref().map(Server::log).join("\n---\n")
    }

    /// An answer of Prometheus' API.
    pub(crate) async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = format!("{}/api/v1/{path}", self.prometheus);
        let answer = http().get(url).query(query).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{path} {query:?}: {answer}");
        answer["data"].clone()
    }

    /// Which alerts fire, but the dead man's switch.
    pub(crate) async fn firing(&self) -> BTreeSet<String> {
        let mut names = self.all_firing().await;
        assert!(names.remove("DeadMan"), "the dead man's switch does not fire:\n{}", self.log());
        names
    }

    async fn all_firing(&self) -> BTreeSet<String> {
        let data = self.ask("alerts", &[]).await;
        let alerts = data["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        let names = firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned());
        names.collect()
    }

    /// Who was told of what since the last look, but of the dead man's switch.
    pub(crate) fn told(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut told = std::mem::take(&mut *self.told.lock().unwrap());
        told.remove("dead-man");
        told
    }

    /// Whether somebody would notice if all this fell silent.
    pub(crate) fn is_alive(&self) -> bool {
        self.told.lock().unwrap().contains_key("dead-man")
    }
}

async fn hear(State(told): State<Told>, Path(receiver): Path<String>, Json(body): Json<Value>) {
    let firing = body["alerts"].as_array().unwrap().iter().filter(|it| it["status"] == "firing");
    for alert in firing {
        let labels = &alert["labels"];
        let name = labels["alertname"].as_str().unwrap().to_owned();
        let mut told = told.lock().unwrap();
        told.entry(receiver.clone()).or_default().insert(name);
    }
}
