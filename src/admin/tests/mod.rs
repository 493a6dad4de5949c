//! The admin API over loopback, with a bridge that answers as it is told.

mod calls;
mod description;
mod fleet;
mod refusals;

use std::sync::Mutex;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::ids::{JournalId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::metrics::{PollOutcome, QueueCondition};

const TOKEN: &str = "the-admin-token";
const SECRET: &str = "hush-hush-hush";

/// What the fake was asked, and what it answers.
#[derive(Default)]
struct Told {
    unserved: Option<Unserved>,
    existed: bool,
    users: Vec<String>,
    queues: Vec<Option<QueueId>>,
    subscriptions: Vec<&'static str>,
    partitions: Vec<i32>,
    others: Vec<String>,
    liveness: Option<Liveness>,
    readiness: Option<Readiness>,
    is_stuck: bool,
    filter: String,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Told>>);

impl Fake {
    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.0.lock().unwrap());
    }

    fn users(&self) -> Vec<String> {
        self.0.lock().unwrap().users.clone()
    }

    async fn outcome<T>(&self, user: UserId, done: T) -> Result<T, Unserved> {
        let (unserved, is_stuck) = {
            let mut told = self.0.lock().unwrap();
            told.users.push(user.as_str().to_owned());
            (told.unserved.clone(), told.is_stuck)
        };
        if is_stuck {
            std::future::pending::<()>().await;
        }
        unserved.map_or(Ok(done), Err)
    }
}

fn view(user: &str) -> SubscriptionView {
    SubscriptionView {
        user_id: UserId::from(user),
        subscription_id: SubscriptionId::from("s-1"),
        queue_id: QueueId::from("q-1"),
        generation: 3,
        partition: 7,
        owner: "bridge-0".to_owned(),
        state: QueueCondition::Blocked,
        blocked_reason: Some("linxo answered 401".to_owned()),
        last_answer: Some(LastAnswer {
            at: Timestamp(1_800_000_000_250),
            outcome: PollOutcome::EmptyList,
        }),
        headroom: Some(Duration::from_millis(61_900)),
        next_due: Some(Timestamp(1_800_000_300_000)),
        credential: CredentialKind::AccessToken,
    }
}

impl Bridge for Fake {
    async fn put(&self, user: UserId, request: PutRequest) -> Result<PutDone, Unserved> {
        let existed = {
            let mut told = self.0.lock().unwrap();
            told.queues.push(request.queue_id.clone());
            told.existed
        };
        let done = PutDone {
            existed,
            subscription_id: SubscriptionId::from("s-1"),
            queue_id: QueueId::from("q-1"),
            partition: 7,
        };
        self.outcome(user, done).await
    }

    async fn show(&self, user: UserId) -> Result<SubscriptionView, Unserved> {
        let view = view(user.as_str());
        self.outcome(user, view).await
    }

    async fn remove(&self, user: UserId) -> Result<(), Unserved> {
        self.outcome(user, ()).await
    }

    async fn hint(&self, user: UserId) -> Result<(), Unserved> {
        self.outcome(user, ()).await
    }

    async fn page(&self, after: Option<UserId>, limit: usize) -> Result<Page, Unserved> {
        let told = self.0.lock().unwrap();
        let after = after.map_or(String::new(), |after| after.as_str().to_owned());
        let above: Vec<_> =
            told.subscriptions.iter().filter(|user| **user > after.as_str()).collect();
        Ok(Page {
            subscriptions: above.iter().take(limit).map(|user| view(user)).collect(),
            has_more: above.len() > limit,
            partitions: told.partitions.clone(),
            partitions_total: 2,
        })
    }

    async fn instances(&self) -> Vec<InstanceView> {
        let told = self.0.lock().unwrap();
        let instance = |url: &str, is_self| InstanceView {
            instance_id: "bridge-0".to_owned(),
            journal_id: JournalId::from("j-1"),
            url: url.to_owned(),
            partitions: vec![0],
            marked_at: Some(Timestamp(1_800_000_000_000)),
            asked_until: None,
            published_until: None,
            is_alive: true,
            is_self,
        };
        let others = told.others.iter().map(|url| instance(url, false));
        others.chain([instance("http://127.0.0.1:1", true)]).collect()
    }

    fn liveness(&self) -> Liveness {
        self.0.lock().unwrap().liveness.clone().unwrap_or(Liveness::Alive)
    }

    fn readiness(&self) -> Readiness {
        self.0.lock().unwrap().readiness.clone().unwrap_or(Readiness::Ready)
    }

    async fn metrics_text(&self) -> String {
        "up 1\n".to_owned()
    }

    fn log_filter(&self) -> String {
        self.0.lock().unwrap().filter.clone()
    }

    fn change_log_filter(&self, filter: &str) -> Result<(), String> {
        if filter == "inof" {
            return Err("give a level".to_owned());
        }
        self.tell(|told| told.filter = filter.to_owned());
        Ok(())
    }
}

/// An admin API on loopback that stops with the test.
struct Served {
    fake: Fake,
    base: String,
    client: Client,
    _stop: oneshot::Sender<()>,
}

async fn serve(token: Option<&str>) -> Served {
    // Another test of this process may have been first.
    rustls::crypto::ring::default_provider().install_default().ok();
    let fake = Fake::default();
    fake.tell(|told| told.partitions = vec![0, 1]);
    let admin = Admin::bind(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        token.map(AdminToken::new),
        fake.clone(),
    )
    .await
    .unwrap();
    let base = format!("http://{}", admin.local_addr());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(admin.serve(async move { stopped.await.unwrap_or_default() }));
    Served { fake, base, client: Client::builder().no_proxy().build().unwrap(), _stop: stop }
}

impl Served {
    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(TOKEN)
    }

    fn put(&self, path: &str) -> RequestBuilder {
        self.call(Method::PUT, path).json(&token_body())
    }
}

fn token_body() -> Value {
    json!({"credential": {"type": "access_token", "access_token": SECRET}})
}

async fn problem(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert_eq!(answer.headers()["content-type"], "application/problem+json", "{status}");
    let text = answer.text().await.unwrap();
    assert!(!text.contains("hush"), "a secret is repeated in {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status.as_u16());
    assert!(!body["title"].as_str().unwrap().is_empty());
    assert!(!body["detail"].as_str().unwrap().is_empty());
    (status, body)
}

fn kind(name: &str) -> Value {
    json!(format!("urn:linxo-bridge:problem:{name}"))
}
