//! A world to be asked in tests, without HTTP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::asking::Caller;
use super::ledger::{Extract, Ledger, Outcome};
use super::options::Options;
use super::reply::Reply;
use super::world::World;

/// A world and a client token.
pub(super) struct Desk {
    pub(super) world: World,
    pub(super) token: String,
}

impl Desk {
    pub(super) fn new(options: Options) -> Self {
        let mut world = World::new(Arc::new(options));
        let token = world.issue_for(None, None).unwrap().0;
        Self { world, token }
    }

    pub(super) fn subscribe(&mut self, user: &str) -> String {
        let token = self.token.clone();
        let reply = self.world.subscribe(&caller(&token, user));
        let Reply::Created { queue, .. } = reply else { panic!("{reply:?}") };
        queue
    }

    pub(super) fn ledger(&mut self) -> Ledger {
        self.world.ledger(&Extract::default())
    }

    pub(super) fn ask(&mut self, user: &str, queue: &str) -> Reply {
        let token = self.token.clone();
        self.world.ask(&caller(&token, user), queue)
    }

    pub(super) fn outcome(&mut self, user: &str, queue: &str) -> Outcome {
        self.ask(user, queue).outcome()
    }

    pub(super) fn event_ids(&mut self, user: &str, queue: &str) -> Vec<String> {
        let Reply::Events { texts, .. } = self.ask(user, queue) else { return Vec::new() };
        texts
            .iter()
            .map(|text| serde_json::from_str::<Value>(text).unwrap())
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub(super) fn caller<'a>(token: &'a str, user: &'a str) -> Caller<'a> {
    Caller { token: Some(token), user: Some(user.into()), agent: "test" }
}

/// One whose tokens outlive every test.
pub(super) fn desk() -> Desk {
    let hours = Duration::from_secs(24 * 3600);
    Desk::new(Options { token_lifetime: hours, ..Options::default() })
}
