//! Instances beside the first: they come, go, freeze, are cut off and lost with their disks.

use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use super::{LOOK, REST, USERS, World, now};
use crate::support::Bridge;
use crate::support::proxy::Way;

impl World {
    /// Starts another instance of the group, or one of its journals again, and waits until it is ready.
    pub async fn join(&mut self, number: usize) {
        self.join_all(&[number]).await;
    }

    /// Starts another instance; it may not be ready.
    pub async fn launch_other(&mut self, number: usize) {
        self.launch_as(number, &format!("bridge-{number}")).await;
    }

    /// Starts another instance under an id that may be somebody else's; it may not be ready.
    pub async fn launch_as(&mut self, number: usize, id: &str) {
        let folder = |name: &str| format!("{:?}", self.stage.folder.path().join(name));
        let (own, other) = (folder("journal"), folder(&format!("journal-{number}")));
        self.stage.set("journal.directory", &other);
        self.stage.set("kafka.instance_id", &format!("{id:?}"));
        let instance = self.stage.start().await;
        self.stage.set("journal.directory", &own);
        self.stage.unset("kafka.instance_id");
        self.others.insert(number, instance);
    }

    /// Starts other instances at once, and waits until all are ready.
    pub async fn join_all(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.launch_other(*number).await;
        }
        for number in numbers {
            self.other(*number).ready().await;
        }
    }

    /// Starts another instance that reaches Kafka by a way of its own ([`World::set_side`]).
    pub async fn join_aside(&mut self, number: usize) {
        self.launch_aside(number).await;
        self.other(number).ready().await;
    }

    /// The same, and it may not be ready.
    pub async fn launch_aside(&mut self, number: usize) {
        let (usual, aside) = (self.kafka.entrance().to_owned(), self.kafka.side_entrance());
        self.stage.set("kafka.bootstrap_servers", &format!("{aside:?}"));
        self.launch_other(number).await;
        self.stage.set("kafka.bootstrap_servers", &format!("{usual:?}"));
    }

    /// What becomes of what goes by the side entrances.
    pub fn set_side(&self, way: Way) {
        for broker in self.kafka.brokers() {
            broker.side().set(way);
        }
    }

    /// Waits until another instance has stopped itself (`freeze:` in `Stage::sabotage`).
    pub async fn other_is_frozen(&mut self, number: usize) {
        self.excuse("another one frozen", now(), USERS as u64);
        let stat = format!("/proc/{}/stat", self.other(number).pid());
        let deadline = Instant::now() + REST;
        // the state follows the name in brackets
        while !fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(Instant::now() < deadline, "it did not freeze");
            tokio::time::sleep(LOOK / 10).await;
        }
    }

    /// Another instance, which runs.
    pub fn other(&self, number: usize) -> &Bridge {
        self.others.get(&number).expect("the instance runs")
    }

    /// SIGTERM to another instance.
    pub async fn leave(&mut self, number: usize) {
        let instance = self.take_other(number);
        let before = instance.log().len();
        let (status, log) = instance.stop_telling().await;
        self.told.push_str(&log[before..]);
        assert!(status.success(), "instance {number} stopped with {status}");
    }

    /// SIGKILL to another instance. The questions that were under way may cost a gap each.
    pub async fn kill_other(&mut self, number: usize) {
        let from = now();
        self.take_other(number).kill().await;
        self.excuse("another one killed", from, USERS as u64);
    }

    /// SIGKILL to another instance, whose disk is gone with it: each user may have a gap for that.
    pub async fn destroy_other(&mut self, number: usize) {
        self.kill_other(number).await;
        fs::remove_dir_all(self.stage.folder.path().join(format!("journal-{number}"))).unwrap();
        self.excuse("a journal is gone", now(), USERS as u64);
    }

    /// SIGSTOP to another instance for so long.
    pub async fn freeze_other(&mut self, number: usize, time: Duration) {
        self.stun_other(number).await;
        self.pause_for(time).await;
        self.other(number).resume().await;
    }

    /// Waits until every instance has a share of the partitions, and works on it.
    pub async fn shared_out(&self) {
        let deadline = Instant::now() + REST;
        for instance in self.running() {
            while instance.metric("linxo_bridge_partitions_owned").await < 1.0 {
                assert!(Instant::now() < deadline, "not shared out:\n{}", instance.log());
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// SIGSTOP to another instance.
    pub async fn stun_other(&mut self, number: usize) {
        self.excuse("another one frozen", now(), USERS as u64);
        self.other(number).pause().await;
    }

    pub(super) fn take_other(&mut self, number: usize) -> Bridge {
        let instance = self.others.remove(&number).expect("the instance runs");
        self.told.push_str(&instance.log());
        self.note(&format!("instance {number} ends"));
        instance
    }
}
