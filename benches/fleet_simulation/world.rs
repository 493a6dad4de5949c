//! The queues of a fleet, and whose they are.
//!
//! Promises: users, partitions and phases as the bridge has them; the same in every run.
//!
//! Knows nothing of: time, budgets.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use linxo_kafka_bridge::ids::UserId;
use linxo_kafka_bridge::kafka::partition_of;
use linxo_kafka_bridge::schedule::{Pace, phase_of};

pub(super) const PARTITIONS: usize = 1024;
/// Instances are simulated side by side.
const THREADS: usize = 2;

pub(super) const PACE: Pace = Pace {
    keep_alive: Duration::from_secs(300),
    active: Duration::from_secs(1),
    active_for: Duration::from_secs(120),
    queue_lifetime: Duration::from_secs(900),
    credential_retry: Duration::from_secs(300),
};

/// Everything that is watched.
pub(super) struct World {
    pub(super) queues: u32,
    pub(super) instances: usize,
    /// The phases of each partition's queues, in milliseconds.
    pub(super) partitions: Vec<Vec<u32>>,
}

impl World {
    pub(super) fn new(queues: u32, instances: usize) -> Self {
        assert!((2..=PARTITIONS).contains(&instances), "from 2 to {PARTITIONS} instances");
        let share = queues.div_ceil(THREADS as u32);
        let made: Vec<Vec<Vec<u32>>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u32)
                .map(|thread| {
                    let from = thread * share;
                    scope.spawn(move || made(from..queues.min(from + share)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut partitions = vec![Vec::new(); PARTITIONS];
        for of_thread in made {
            for (partition, phases) in partitions.iter_mut().zip(of_thread) {
                partition.extend(phases);
            }
        }
        Self { queues, instances, partitions }
    }

    /// The partitions of an instance.
    pub(super) fn owned_by(&self, instance: usize) -> Vec<usize> {
        (instance..PARTITIONS).step_by(self.instances).collect()
    }

    /// How many queues an instance has.
    pub(super) fn queues_of(&self, instance: usize) -> usize {
        self.owned_by(instance).into_iter().map(|partition| self.partitions[partition].len()).sum()
    }

    /// What the whole fleet needs, in questions a second.
    pub(super) fn required(&self) -> f64 {
        f64::from(self.queues) / PACE.keep_alive.as_secs_f64()
    }

    /// The instances that a scene is about: all of them, or some with the fullest and the emptiest
    /// among them.
    pub(super) fn some(&self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.instances).collect();
        all.sort_by_key(|instance| self.queues_of(*instance));
        let last = all.len() - 1;
        let mut some: Vec<usize> =
            (0..count).map(|place| all[place * last / (count - 1).max(1)]).collect();
        some.dedup();
        some
    }

    pub(super) fn described(&self) -> String {
        let sizes: Vec<usize> = self.partitions.iter().map(Vec::len).collect();
        let of_instances: Vec<usize> =
            (0..self.instances).map(|instance| self.queues_of(instance)).collect();
        let owned: Vec<usize> =
            (0..self.instances).map(|instance| self.owned_by(instance).len()).collect();
        // what a partition has beside what its share of the budget is made for
        let fullness = |instance: &usize| {
            self.queues_of(*instance) as f64 / owned[*instance] as f64 * PARTITIONS as f64
                / f64::from(self.queues)
        };
        let fullest = (0..self.instances).map(|instance| fullness(&instance)).fold(0.0, f64::max);
        format!(
            "{} queues, {} partitions of {} to {} queues, {} instances with {} to {} partitions and \
             {} to {} queues; the fullest has {:.2} % more queues than its share of the budget is for",
            self.queues,
            PARTITIONS,
            sizes.iter().min().unwrap(),
            sizes.iter().max().unwrap(),
            self.instances,
            owned.iter().min().unwrap(),
            owned.iter().max().unwrap(),
            of_instances.iter().min().unwrap(),
            of_instances.iter().max().unwrap(),
            100.0 * (fullest - 1.0)
        )
    }

    /// Does something for each of some instances, two at a time; what came of it, in their order.
    pub(super) fn each<T: Send>(
        &self,
        instances: &[usize],
        act: impl Fn(usize) -> T + Sync,
    ) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let mut done: Vec<(usize, T)> = thread::scope(|scope| {
            let work = || {
                let mut done = Vec::new();
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(instance) = instances.get(place) else { return done };
                    done.push((place, act(*instance)));
                }
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, done)| done).collect()
    }
}

/// Some users, by partition.
fn made(users: std::ops::Range<u32>) -> Vec<Vec<u32>> {
    let interval = PACE.keep_alive.as_millis() as u64;
    let mut partitions = vec![Vec::new(); PARTITIONS];
    let mut name = String::new();
    for user in users {
        name.clear();
        write!(name, "user-{user:08}").unwrap();
        let partition = partition_of(name.as_bytes(), PARTITIONS as i32);
        let phase = phase_of(&UserId::from(name.as_str())) % interval;
        partitions[partition as usize].push(phase as u32);
    }
    partitions
}
