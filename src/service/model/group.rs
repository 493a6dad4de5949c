//! Steps of the group, of its member (`assignment/member.rs`) and of the fleet (`service/fleet`).
//!
//! Promises: the group is as unkind as it may be. It takes a partition from whoever is slow, and gives
//! it to anybody who asks.
//!
//! Knows nothing of: what workers and the publisher do meanwhile.

use super::world::{Doing, Holdings, Instance, Order, QueueState, USERS, World};
use super::{Guard, Model, cluster};

impl Instance {
    /// The partition is not ours any more. `ownership.rs::take_away`
    fn take_away(&mut self) {
        self.is_owned = false;
        self.is_stale = false;
        self.is_draining = false;
        self.is_loading = false;
        self.adopting = None;
        if let Some(holdings) = &mut self.holdings {
            holdings.is_of_grant = false;
        }
    }

    /// The worker ends; what it has under way goes on.
    fn end_worker(&mut self) {
        self.order = Order::None;
        self.epochs = [0; USERS];
        self.suspects = [0; USERS];
        self.under_way.iter_mut().for_each(|question| question.is_of_before = true);
    }
}

impl World {
    /// The group's generation rises: metadata of the one before is refused.
    fn regroup(&mut self) {
        for instance in &mut self.instances {
            instance.is_stale = instance.is_owned;
            if let Doing::Looked { is_stale } = &mut instance.doing {
                *is_stale = true;
            }
        }
    }

    /// The member lets go of the partition, and joins again without it.
    fn let_go(&mut self, who: usize) {
        self.instances[who].take_away();
        self.owner = self.owner.filter(|owner| *owner != who);
    }
}

impl Model {
    /// The member joins, and the group gives it the partition. `member.rs::assign`
    pub(super) fn granted(&self, world: &World, who: usize) -> Option<World> {
        let member = &world.instances[who];
        let is_free = world.owner.is_none_or(|owner| owner == who);
        let may = member.is_up() && !member.is_closed && !member.is_owned;
        world.step(may && is_free, |next| {
            next.owner = Some(who);
            next.regroup();
            let member = &mut next.instances[who];
            member.is_owned = true;
            member.is_sure = true;
            member.is_loading = true;
        })
    }

    /// The member joins, and the partition is another's. `member.rs::assign`, `fleet/mod.rs::let_go_of_lost`
    pub(super) fn granted_nothing(&self, world: &World, who: usize) -> Option<World> {
        let member = &world.instances[who];
        let is_taken = world.owner.is_some_and(|owner| owner != who);
        let may = member.is_up() && !member.is_owned && !member.is_sure && is_taken;
        world.step_of(who, may, |member| {
            member.is_sure = true;
            if !self.is_off(Guard::LetGoOfLost) {
                member.end_worker();
            }
        })
    }

    /// The member hears that it was thrown out. `ownership.rs::lose`, `fleet/mod.rs::obey`
    pub(super) fn lost(&self, world: &World, who: usize) -> Option<World> {
        let member = &world.instances[who];
        let is_gone = world.owner != Some(who);
        let may = member.is_up() && member.is_owned && !member.is_draining && is_gone;
        world.step_of(who, may, |member| {
            member.take_away();
            member.is_sure = member.is_closed;
            if member.order == Order::Work {
                member.order = Order::KeepAlive;
            }
        })
    }

    /// SIGTERM: the worker ends, and of what the group gave only what is held already is kept.
    /// `fleet/mod.rs::stop`, `ownership.rs::close`
    pub(super) fn stopped(&self, world: &World, who: usize) -> Option<World> {
        let member = &world.instances[who];
        world.step_of(who, member.is_up() && !member.is_closed, |member| {
            member.end_worker();
            if !member.is_held() {
                member.take_away();
            }
            member.is_loading = false;
            member.adopting = None;
            member.is_sure = true;
            member.is_closed = true;
        })
    }

    /// Everything is published and the process ends; its journal owes nobody anything.
    pub(super) fn ended(&self, world: &World, who: usize) -> Option<World> {
        let member = &world.instances[who];
        let is_idle = member.rows.is_empty() && member.doing == Doing::Idle;
        world.step_of(who, member.is_closed && is_idle && member.under_way.is_empty(), |member| {
            let (transaction, last_number) = (member.transaction.take(), member.last_number);
            *member = Instance { transaction, last_number, ..Instance::default() };
        })
    }

    /// Who keeps the partition joins the new generation.
    pub(super) fn joined_anew(&self, world: &World, who: usize) -> Option<World> {
        let member = &world.instances[who];
        let may = member.is_stale && !member.is_draining && world.owner == Some(who);
        world.step_of(who, may && member.is_up(), |member| member.is_stale = false)
    }

    /// Whether the group and a member agree that it owns the partition.
    fn is_settled(world: &World, who: usize) -> bool {
        let member = &world.instances[who];
        member.is_owned && !member.is_stale && !member.is_draining && world.owner == Some(who)
    }

    /// The group wants the partition back; the worker is told to stop, and what it has under way
    /// waited for. What is being read goes on, or what waits for it would not be published.
    /// `member.rs::revoke`, `fleet/mod.rs::let_go`
    pub(super) fn revoked(&self, world: &World, who: usize) -> Option<World> {
        world.step(Self::is_settled(world, who), |next| {
            let member = &mut next.instances[who];
            if member.order == Order::None {
                return next.let_go(who);
            }
            member.is_draining = true;
            if !self.is_off(Guard::StopFirst) {
                member.end_worker();
            }
        })
    }

    /// All that was under way is published, and the partition let go of. `fleet/mod.rs::let_go`
    pub(super) fn drained(&self, world: &World, who: usize) -> Option<World> {
        let member = &world.instances[who];
        let is_idle = member.rows.is_empty() && member.doing == Doing::Idle;
        let is_done = is_idle && (member.under_way.is_empty() || self.is_off(Guard::StopFirst));
        world.step(member.is_draining && is_done, |next| {
            next.let_go(who);
            next.instances[who].holdings = None;
        })
    }

    /// `service.drain` is over: the partition is let go of with things under way.
    pub(super) fn drained_in_part(&self, world: &World, who: usize) -> Option<World> {
        world.step(world.instances[who].is_draining, |next| next.let_go(who))
    }

    /// The session ends, as of a process that is frozen, cut off or dead.
    pub(super) fn session_ended(&self, world: &World, who: usize) -> Option<World> {
        world.step(world.owner == Some(who), |next| {
            next.owner = None;
            next.regroup();
        })
    }

    /// Somebody joins or leaves, and the owner keeps the partition.
    pub(super) fn regrouped(&self, world: &World, who: usize) -> Option<World> {
        world.step(Self::is_settled(world, who), World::regroup)
    }

    /// The partition is read to its end and its states handed to the publisher, which takes them
    /// between two attempts. `load.rs::load`, `fleet/loading.rs::adopt`, `run.rs::obey`
    pub(super) fn loaded(&self, world: &World, who: usize) -> Option<World> {
        let instance = &world.instances[who];
        let obeys = matches!(instance.doing, Doing::Idle | Doing::Reconnecting { .. });
        let is_alone = instance.order != Order::None || instance.under_way.is_empty();
        let may = obeys && (is_alone || self.is_off(Guard::OneWorker));
        world.step_of(who, instance.is_loading && may && self.can_read(&world.queues), |instance| {
            let states: [QueueState; USERS] = std::array::from_fn(|user| {
                let last = cluster::last_read(&world.queues, user);
                last.map_or(QueueState::FIRST, |last| last.value.taken_over(last.writer == who))
            });
            instance.is_loading = false;
            instance.holdings = Some(Holdings { is_of_grant: true, states });
            if let Doing::Reconnecting { is_reread, .. } = &mut instance.doing {
                *is_reread = true;
            }
            if instance.order == Order::None {
                instance.adopting = Some(instance.rows.len());
            } else {
                self.renew(instance, &states);
            }
        })
    }

    /// A worker kept on goes on under the new grant. Queues that somebody else wrote last are begun
    /// anew, as the topic has them. `command.rs::renew`
    fn renew(&self, instance: &mut Instance, states: &[QueueState; USERS]) {
        instance.order = Order::Work;
        instance.epochs = states.map(|state| state.owner_epoch);
        for (user, state) in states.iter().enumerate().filter(|(_, state)| state.rows_from > 0) {
            if self.is_off(Guard::Renewed) {
                instance.suspects[user] = 0;
                let left = instance.under_way.iter_mut().filter(|of| of.user == user);
                left.for_each(|question| question.is_of_before = true);
            }
            instance.suspects[user] |= state.suspicion;
        }
    }

    /// What the journal had is published: a worker is made. `fleet/loading.rs::set_to_work`
    pub(super) fn set_to_work(&self, world: &World, who: usize) -> Option<World> {
        let instance = &world.instances[who];
        let holdings = instance.holdings.as_ref().filter(|_| instance.is_held())?;
        let is_wanted = !instance.is_draining || self.is_off(Guard::NotRevoked);
        world.step_of(who, instance.adopting == Some(0) && is_wanted, |instance| {
            instance.adopting = None;
            instance.order = Order::Work;
            instance.epochs = holdings.states.map(|state| state.owner_epoch);
            instance.suspects = holdings.states.map(|state| state.suspicion);
        })
    }
}
