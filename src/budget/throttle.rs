//! How far an instance stays below its share while the source answers that it is asked too much.
//!
//! Promises:
//! - the rate is lowered at most once a [`WINDOW`], and only by answers to questions of after the
//!   last time: what was under way when it was lowered says nothing of the rate as it is now. While
//!   nothing at all is admitted, and the source has said for how long, once in that time;
//! - by how much follows from the *share* of answers that were refused, and from nothing else;
//! - it grows back in a straight line, the whole share in one `recovery`, from the first answer on
//!   that was not refused;
//! - it never falls below what every queue needs to live: our caution is no cause of death.
//!
//! Why that is fair across a fleet of which no instance knows another: whoever limits the fleet does
//! not look at the instance, so each finds the same share of its answers refused, however many it
//! has, and lowers its rate by the same factor; what each gets back in a second is one part of its
//! own share. A step down by a factor keeps the proportions, a step up in proportion to the shares
//! moves them towards those of the shares. So the rates end up in the proportions of the shares from
//! wherever they begin, and their sum just below what the source admits.
//! (Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in
//! computer networks", 1989.) A fixed step at any refusal would not be fair: an instance with more
//! answers finds one refused more often.
//!
//! Knows nothing of: tokens, who waits. Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

/// Limits are counted by the second: what a lower rate does is seen only after one.
const WINDOW: Duration = Duration::from_secs(1);
/// In less than so many windows the whole does not come back: a step up would undo the step down.
const LEAST_RECOVERY: Duration = Duration::from_secs(10);
/// The rate is lowered by so many times the refused share: once to come down to what was admitted,
/// and once more for room to grow into without being refused.
const OVER: f64 = 2.0;
/// The most that is taken off at once: a moment's refusal of everything is no new limit.
const MOST: f64 = 0.5;
/// The part of the whole that always remains, to notice that more is admitted again.
const LEAST: f64 = 1.0 / 16.0;
/// And so many questions a second remain of any whole: no source throttles for the load of so few,
/// some limit of a user or a token must be meant. Who wants fewer configures it.
pub(super) const LEAST_RATE: f64 = 10.0;
/// The same where no limit is configured. There the whole is what was asked of late, and an instance
/// with little to ask would else be held to that little by one refusal that was meant for one user.
const LEAST_UNCONFIGURED: f64 = 100.0;
/// What remains of the busiest second in each later one: half of it after seven.
const FADE: f64 = 0.9;

/// The rate of an instance as the source lets it be.
pub(super) struct Throttle {
    /// How long the way back from nothing to the whole takes.
    recovery: Duration,
    window: Window,
    /// How often the rate was lowered. A question remembers it.
    lowerings: u32,
    /// The most answers per second of late.
    busiest: f64,
    /// Questions per second without which queues would die.
    vital: f64,
    lowered: Option<Lowered>,
}

/// What answers came to since its begin.
struct Window {
    since: Instant,
    /// Every answer.
    all: u32,
    /// Those to questions of after the last lowering.
    answered: u32,
    refused: u32,
    /// The longest wait that came with a refusal.
    retry_after: Duration,
}

struct Lowered {
    /// The rate before it grows.
    rate: f64,
    /// Since when it grows: since an answer was not refused.
    grows_since: Option<Instant>,
    /// What it is a part of: the share, or what was asked before where there is none.
    whole: f64,
    refused_at: Instant,
    begun: Instant,
    lowest: f64,
}

/// What is worth a line in the log.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// The source throttles; the rate was and is now.
    Begun { from: f64, to: f64 },
    /// It does no longer; how low the rate was, how long it took.
    Over { lowest: f64, lasted: Duration },
}

impl News {
    pub(super) fn tell(&self) {
        match self {
            Self::Begun { from, to } => tracing::warn!(
                rate_before = from,
                rate = to,
                "the source throttles, fewer questions are asked until it takes more"
            ),
            Self::Over { lowest, lasted } => {
                tracing::info!(lowest_rate = lowest, elapsed = ?lasted, "the source throttles no longer");
            }
        }
    }
}

impl Window {
    fn new(since: Instant) -> Self {
        Self { since, all: 0, answered: 0, refused: 0, retry_after: Duration::ZERO }
    }

    fn is_over(&self, now: Instant, told: Duration) -> bool {
        now >= self.since + WINDOW.max(told)
    }
}

impl Throttle {
    pub(super) fn new(recovery: Duration, now: Instant) -> Self {
        Self {
            recovery: recovery.max(LEAST_RECOVERY),
            window: Window::new(now),
            lowerings: 0,
            busiest: 0.0,
            vital: 0.0,
            lowered: None,
        }
    }

    /// What a question has to remember.
    pub(super) fn lowerings(&self) -> u32 {
        self.lowerings
    }

    /// Notes how many questions per second keep every queue alive.
    pub(super) fn set_vital(&mut self, per_second: f64) {
        self.vital = per_second;
    }

    /// The rate now of an instance with this share; none is no limit.
    pub(super) fn rate(&self, share: Option<f64>, now: Instant) -> Option<f64> {
        let Some(lowered) = &self.lowered else { return share };
        let grown = lowered.grows_since.map_or(Duration::ZERO, |since| now - since);
        let gain = grown.as_secs_f64() / self.recovery.as_secs_f64() * lowered.whole;
        let rate = (lowered.rate + gain).max(self.floor(lowered.whole, share));
        Some(share.map_or(rate, |share| rate.min(share)))
    }

    /// The rate while it is a matter of the source's.
    pub(super) fn lowered(&self, share: Option<f64>, now: Instant) -> Option<f64> {
        self.lowered.as_ref()?;
        self.rate(share, now)
    }

    /// Partitions have moved: what was lowered stays lowered by the same factor.
    pub(super) fn follow(&mut self, before: Option<f64>, share: Option<f64>, now: Instant) {
        let rate = self.rate(before, now);
        let (Some(before), Some(share), Some(rate)) = (before, share, rate) else { return };
        if let Some(lowered) = &mut self.lowered {
            lowered.rate = rate * share / before;
            lowered.grows_since = lowered.grows_since.map(|_| now);
            lowered.whole = share;
        }
    }

    /// Takes in an answer to a question that remembers `lowerings`; `refused` for how long at least,
    /// when the source was asked too much.
    pub(super) fn answered(
        &mut self,
        lowerings: u32,
        refused: Option<Duration>,
        share: Option<f64>,
        now: Instant,
    ) -> Option<News> {
        if self.window.all == 0 && now > self.window.since + WINDOW {
            // one answer after a long silence is no rate
            self.window = Window::new(now);
        }
        self.window.all += 1;
        if let Some(lowered) = &mut self.lowered
            && refused.is_some()
        {
            lowered.refused_at = now;
        }
        if lowerings == self.lowerings {
            self.window.answered += 1;
            match refused {
                Some(retry_after) => {
                    self.window.refused += 1;
                    self.window.retry_after = self.window.retry_after.max(retry_after);
                }
                None => {
                    if let Some(lowered) = &mut self.lowered {
                        lowered.grows_since.get_or_insert(now);
                    }
                }
            }
        }
        // a quota that is used up says nothing of the rate
        let is_nothing_admitted =
            self.lowered.as_ref().is_some_and(|lowered| lowered.grows_since.is_none());
        let told = if is_nothing_admitted { self.window.retry_after } else { Duration::ZERO };
        if !self.window.is_over(now, told.min(self.recovery)) {
            return None;
        }
        self.close(share, now)
    }

    fn close(&mut self, share: Option<f64>, now: Instant) -> Option<News> {
        let window = std::mem::replace(&mut self.window, Window::new(now));
        let per_second = f64::from(window.all) / (now - window.since).as_secs_f64();
        self.busiest = per_second.max(self.busiest * FADE);
        if window.refused > 0 {
            return self.lower(&window, share, now);
        }
        let lowered = self.lowered.as_ref()?;
        let rate = self.rate(share, now)?;
        // without a share: as much as was asked before has come back, and nothing was refused
        let is_whole = share.is_none_or(|share| rate >= share);
        if !is_whole || now < lowered.refused_at + self.recovery {
            return None;
        }
        let news = News::Over { lowest: lowered.lowest, lasted: now - lowered.begun };
        self.lowered = None;
        Some(news)
    }

    fn lower(&mut self, window: &Window, share: Option<f64>, now: Instant) -> Option<News> {
        // one more, as a single refusal of a single question is no proof that all would be
        let refused = f64::from(window.refused) / f64::from(window.answered + 1);
        let factor = 1.0 - (OVER * refused).min(MOST);
        let before = self.lowered.as_ref();
        let whole = share
            .or(before.map(|lowered| lowered.whole))
            .unwrap_or_else(|| self.busiest.max(LEAST_UNCONFIGURED));
        let from = self.rate(share, now).unwrap_or(whole);
        let rate = (from * factor).max(self.floor(whole, share));
        let (begun, lowest) =
            before.map_or((now, rate), |lowered| (lowered.begun, lowered.lowest.min(rate)));
        let is_new = before.is_none();
        self.lowered =
            Some(Lowered { rate, grows_since: None, whole, refused_at: now, begun, lowest });
        self.lowerings = self.lowerings.wrapping_add(1);
        is_new.then_some(News::Begun { from, to: rate })
    }

    fn floor(&self, whole: f64, share: Option<f64>) -> f64 {
        let least = if share.is_some() { LEAST_RATE } else { LEAST_UNCONFIGURED };
        self.vital.max(whole * LEAST).max(least).min(whole)
    }
}
