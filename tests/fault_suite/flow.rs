//! Steady synchronizations: what users do while faults come and go.

use std::sync::Arc;
use std::time::Duration;

use linxo_kafka_bridge::simulator::{Running, Status, Sync};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Events that may wait at the source, so that an outage does not make more than can be caught up with.
const WAITING: u64 = 4_000;

const ENDINGS: [Status; 6] = [
    Status::Success,
    Status::PartialSuccess,
    Status::AuthFailed,
    Status::TokenExpired,
    Status::UserActionRequired,
    Status::ChallengeRequired,
];

/// Events for everybody, in bursts and whole synchronizations, until ended.
pub struct Flow {
    end: watch::Sender<bool>,
    making: JoinHandle<u64>,
}

impl Flow {
    /// Begins; `pause` is how long there is nothing at most between two bursts.
    pub fn start(simulator: Arc<Running>, users: Vec<String>, seed: u64, pause: Duration) -> Self {
        let (end, mut ended) = watch::channel(false);
        let making = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut made = simulator.stats().made;
            loop {
                let millis = random.random_range(1..=pause.as_millis().max(1));
                let wait = Duration::from_millis(u64::try_from(millis).unwrap());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = ended.wait_for(|ended| *ended) => return made,
                }
                if simulator.stats().waiting < WAITING {
                    let user = &users[random.random_range(0..users.len())];
                    made += burst(&simulator, user, &mut random);
                }
            }
        });
        Self { end, making }
    }

    /// Ends; how many events there are when those under way are made.
    pub async fn end(self) -> u64 {
        self.end.send_replace(true);
        self.making.await.unwrap()
    }
}

fn burst(simulator: &Running, user: &str, random: &mut StdRng) -> u64 {
    if random.random_bool(0.7) {
        let count = random.random_range(1..=6);
        simulator.push_events(user, None, count).unwrap();
        return count as u64;
    }
    let sync = Sync {
        extras: random.random_bool(0.3),
        over_ms: random.random_range(0..1_500),
        ..Sync::ending(ENDINGS[random.random_range(0..ENDINGS.len())])
    };
    simulator.start_sync(user, &sync).unwrap() as u64
}
