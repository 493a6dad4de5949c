//! Draws that a seed repeats.
//!
//! Promises: the same seed gives the same draws in the same order (splitmix64, Steele and others 2014).
//!
//! Knows nothing of: what is drawn for.

/// A source of draws.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Dice of a seed; those of another purpose draw otherwise.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let mixed = purpose
            .bytes()
            .fold(seed, |mixed, byte| (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(mixed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from `from` to below `to`.
    pub(super) fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.share()
    }

    /// A place below `count`; 0 when there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((self.share() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// One of these.
    pub(super) fn pick<'p, T>(&mut self, of: &'p [T]) -> Option<&'p T> {
        of.get(self.below(of.len()))
    }

    /// Whether something of this likelihood happens.
    pub(super) fn happens(&mut self, likelihood: f64) -> bool {
        self.share() < likelihood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_draws_and_another_purpose_has_its_own() {
        let draws = |seed, purpose| {
            let mut dice = Dice::new(seed, purpose);
            (0..20).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7, "faults"), draws(7, "faults"));
        assert_ne!(draws(7, "faults"), draws(8, "faults"));
        assert_ne!(draws(7, "faults"), draws(7, "traffic"));
    }

    #[test]
    fn draws_are_spread_over_what_they_may_be() {
        let mut dice = Dice::new(1, "test");
        let mut counts = [0; 4];
        for _ in 0..4000 {
            counts[dice.below(4)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        let happened = (0..4000).filter(|_| dice.happens(0.25)).count();
        assert!((850..1150).contains(&happened), "{happened}");
        assert_eq!(dice.pick::<u8>(&[]), None);
    }
}
