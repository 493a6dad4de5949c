//! Every name and every draw that the simulator makes up, from its seed.
//!
//! Promises:
//! - the same seed gives the same names in the same order;
//! - a queue id reads like a UUID, and its number is computed back from it: a million queues
//!   need no table of names;
//! - an id that was never made is not taken for one that was.
//!
//! Knows nothing of: what the names stand for.

/// Odd, so that multiplication by it can be undone modulo a power of two.
const SPREAD: u64 = 0x9e37_79b9_7f4b;
const LOW_48: u64 = (1 << 48) - 1;
const SPREAD_BACK: u64 = inverse(SPREAD);

/// The number that undoes a multiplication by `odd`, modulo 2^64 (Newton's iteration).
const fn inverse(odd: u64) -> u64 {
    let mut guess = odd;
    let mut round = 0;
    while round < 6 {
        guess = guess.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(guess)));
        round += 1;
    }
    guess
}

/// Mixes 64 bits (the finalizer of splitmix64).
const fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What is drawn for: draws for one never disturb those for another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lot {
    Fault,
    Expiry,
    Traffic,
    EventNumber,
}

/// Makes names and draws from one seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    seed: u64,
}

impl Names {
    /// Names of this seed.
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The id of the queue with this number.
    pub(super) fn queue(&self, number: u32) -> String {
        let node = (u64::from(number).wrapping_mul(SPREAD) ^ mix(self.seed ^ 0x0051)) & LOW_48;
        let high = mix(self.seed ^ node);
        let clock = (mix(high) & 0x3fff) | 0x8000;
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            clock,
            node
        )
    }

    /// The number of the queue with this id, when [`Names::queue`] could have made it.
    pub(super) fn queue_number(&self, id: &str) -> Option<u32> {
        let (_, node) = id.rsplit_once('-')?;
        let node = u64::from_str_radix(node, 16).ok()?;
        let number = (node ^ mix(self.seed ^ 0x0051)).wrapping_mul(SPREAD_BACK) & LOW_48;
        let number = u32::try_from(number).ok()?;
        (self.queue(number) == id).then_some(number)
    }

    /// The access token with this number.
    pub(super) fn token(&self, number: u64) -> String {
        let first = mix(self.seed ^ 0x0170 ^ number.rotate_left(17));
        format!("simulated-{first:016x}{:016x}", mix(first ^ self.seed))
    }

    /// The opaque event id with this number in the queue with that number.
    pub(super) fn opaque_event(&self, queue: u32, number: u32) -> String {
        let place = (u64::from(queue) << 32) | u64::from(number);
        format!("evt_{:016x}", mix(self.seed ^ 0x0e0e ^ mix(place)))
    }

    /// The draw with this number, from 0 (included) to 1 (excluded), whether a fault is met.
    pub(super) fn draw(&self, number: u64) -> f64 {
        self.draw_for(Lot::Fault, number)
    }

    /// The draw with this number for something, from 0 (included) to 1 (excluded).
    pub(super) fn draw_for(&self, lot: Lot, number: u64) -> f64 {
        let salt = match lot {
            Lot::Fault => 0x0d1c_e000,
            Lot::Expiry => 0x0d1c_e001,
            Lot::Traffic => 0x0d1c_e002,
            Lot::EventNumber => 0x0d1c_e003,
        };
        let bits = mix(self.seed ^ salt ^ mix(number)) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_id_leads_back_to_its_number_and_no_other_text_does() {
        let names = Names::new(7);
        for number in (0..1000).chain([u32::MAX - 1, u32::MAX]) {
            let id = names.queue(number);
            assert_eq!(id.len(), 36);
            assert_eq!(names.queue_number(&id), Some(number));
            assert_eq!(names.queue_number(&id.to_uppercase().replace('-', "_")), None);
            assert_eq!(Names::new(8).queue_number(&id), None);
        }
        assert_eq!(names.queue_number("no-such-queue"), None);
        assert_eq!(names.queue_number(""), None);
    }

    #[test]
    fn draws_keep_to_the_asked_rate() {
        let names = Names::new(1);
        let hits = (0..100_000).filter(|number| names.draw(*number) < 0.1).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
    }
}
