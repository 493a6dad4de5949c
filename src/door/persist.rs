//! A call until it is served.
//!
//! Promises:
//! - what may be served in a moment is tried again, at the next door, no sooner than the last one asked;
//! - not beyond the patience: a wait that would end after it is not begun, and a call is not waited for.
//!
//! Knows nothing of: what is called.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Door, NotServed, Why};

/// The waits when a door names none: from the first, doubled, to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Calls one door after another, from the one whose `turn` it is, until the call is served, or will
/// never be, or the patience is over: then with the last [`NotServed::Later`].
pub async fn persist<T, C: Future<Output = Result<T, NotServed>>>(
    doors: &[Door],
    turn: usize,
    patience: Duration,
    call: impl Fn(Door) -> C,
) -> Result<T, NotServed> {
    let deadline = Instant::now() + patience;
    let mut own = FIRST_WAIT;
    let mut turn = turn;
    loop {
        let Some(door) = doors.get(turn % doors.len().max(1)) else {
            return Err(NotServed::Closed(Why::nobody()));
        };
        let (why, after) = match timeout_at(deadline, call(door.clone())).await {
            Ok(Err(NotServed::Later { why, after })) => (why, after),
            Ok(settled) => return settled,
            Err(_) => (Why::silent(door.url()), None),
        };
        // none at all would be a storm
        let wait = after.map_or(own, |after| after.max(FIRST_WAIT));
        if Instant::now() + wait >= deadline {
            return Err(NotServed::Later { why, after });
        }
        sleep(wait).await;
        own = (own * 2).min(LONGEST_WAIT);
        // another door may be open where this one is not
        turn = turn.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn doors() -> Vec<Door> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = super::super::client(LONGEST_WAIT).unwrap();
        ["http://a", "http://b"].map(|url| Door::new(&http, url, None)).to_vec()
    }

    fn later(seconds: Option<u64>) -> NotServed {
        NotServed::Later { why: Why::silent("x"), after: seconds.map(Duration::from_secs) }
    }

    /// Whom was called when, with answers in order, the last one for ever.
    async fn calls(patience: u64, answers: &[fn() -> Result<u8, NotServed>]) -> (String, bool) {
        let (start, said) = (Instant::now(), RefCell::new(Vec::new()));
        let patience = Duration::from_secs(patience);
        let done = persist(&doors(), 1, patience, |door| {
            let mut said = said.borrow_mut();
            let answer = answers[said.len().min(answers.len() - 1)]();
            let name = door.url().trim_start_matches("http://").to_owned();
            said.push(format!("{name}{}", start.elapsed().as_millis()));
            std::future::ready(answer)
        })
        .await;
        (said.into_inner().join(" "), done.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn doors_take_turns_with_waits_that_grow_until_the_call_is_served() {
        let no = || Err(later(None));
        let (said, done) = calls(60, &[no, no, no, || Ok(1)]).await;
        assert_eq!((said.as_str(), done), ("b0 a200 b600 a1400", true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_door_is_left_alone_for_as_long_as_it_asks() {
        let (said, done) = calls(60, &[|| Err(later(Some(7))), || Ok(1)]).await;
        assert_eq!((said.as_str(), done), ("b0 a7000", true));
        let (said, done) = calls(60, &[|| Err(later(Some(0))), || Ok(1)]).await;
        assert_eq!((said.as_str(), done), ("b0 a200", true));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_before_a_wait_that_would_outlast_it() {
        let (said, done) = calls(5, &[|| Err(later(None)), || Err(later(Some(5)))]).await;
        assert_eq!((said.as_str(), done), ("b0 a200", false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_good_is_not_tried_again() {
        let refused = || Err(NotServed::Refused(Why::silent("x")));
        assert_eq!(calls(60, &[refused]).await.0, "b0");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up_when_the_patience_is_over() {
        let start = Instant::now();
        let doors = doors();
        let hung = persist(&doors, 0, Duration::from_secs(3), |_| {
            std::future::pending::<Result<(), NotServed>>()
        });
        assert!(matches!(hung.await, Err(NotServed::Later { .. })));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
