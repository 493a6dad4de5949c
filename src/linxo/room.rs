//! Memory for answers in flight, reserved before asking.
//!
//! Every question takes a seat; there are `max_in_flight` of them, and a seat holds an ordinary share
//! of memory: `(max_in_flight_bytes - max_answer) / max_in_flight`. A body that outgrows its share
//! must first take the lane, of which there is one, and may then grow to `max_answer`.
//!
//! Promises:
//! - all answers together hold at most `max_in_flight_bytes`, from asking until the [`Answer`] is
//!   dropped or its bytes are taken out (on top: one network chunk each, and one copy while the
//!   body in the lane is moved);
//! - no deadlock: seats are taken before the lane, and who holds the lane waits for nothing in here;
//! - a body that waits for the lane keeps what it has read.
//!
//! Knows nothing of: what an answer means.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for answers in flight. A clone shares it.
#[derive(Clone, Debug)]
pub struct Room {
    seats: Arc<Semaphore>,
    lane: Arc<Semaphore>,
    share: usize,
    max_answer: usize,
}

impl Room {
    /// Makes room for `max_in_flight` questions. With `max_in_flight_bytes` at or below `max_answer`
    /// the share is nothing and every body takes the lane, one after the other.
    pub fn new(max_in_flight: usize, max_in_flight_bytes: u64, max_answer: u64) -> Self {
        let seats = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let share = max_in_flight_bytes.saturating_sub(max_answer) / seats as u64;
        Self {
            seats: Arc::new(Semaphore::new(seats)),
            lane: Arc::new(Semaphore::new(1)),
            share: usize::try_from(share).unwrap_or(usize::MAX),
            max_answer: usize::try_from(max_answer).unwrap_or(usize::MAX),
        }
    }

    /// How many more questions could be asked at this moment.
    pub fn free_seats(&self) -> usize {
        self.seats.available_permits()
    }

    /// What an ordinary answer may take, in bytes.
    pub fn share(&self) -> usize {
        self.share
    }

    /// The largest body read, in bytes.
    pub fn max_answer(&self) -> usize {
        self.max_answer
    }

    /// Waits for a seat, first come first served.
    pub(super) async fn seat(&self) -> Seat {
        // Neither semaphore is ever closed.
        let seat = Arc::clone(&self.seats).acquire_owned().await.ok();
        Seat { seat, lane: None }
    }

    /// Waits until the seat may hold `bytes`; true when it had to wait for the lane.
    pub(super) async fn widen(&self, seat: &mut Seat, bytes: usize) -> bool {
        if bytes <= self.share || seat.lane.is_some() {
            return false;
        }
        let lane = Arc::clone(&self.lane);
        if let Ok(permit) = Arc::clone(&lane).try_acquire_owned() {
            seat.lane = Some(permit);
            return false;
        }
        seat.lane = lane.acquire_owned().await.ok();
        true
    }

    /// The most bytes this seat may hold as it is.
    pub(super) fn allowance(&self, seat: &Seat) -> usize {
        if seat.lane.is_some() { self.max_answer } else { self.share.min(self.max_answer) }
    }
}

/// The memory reserved for one answer, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    #[expect(dead_code, reason = "held for its drop")]
    seat: Option<OwnedSemaphorePermit>,
    lane: Option<OwnedSemaphorePermit>,
}

/// The bytes of one answer as received, with the memory reserved for them.
///
/// Dropping it, or taking the bytes out, frees the reservation.
pub struct Answer {
    bytes: Vec<u8>,
    seat: Option<Seat>,
}

impl Answer {
    pub(super) fn new(bytes: Vec<u8>, seat: Seat) -> Self {
        Self { bytes, seat: Some(seat) }
    }

    /// The bytes themselves; from here on the caller accounts for them.
    pub fn into_bytes(self) -> Vec<u8> {
        drop(self.seat);
        self.bytes
    }
}

impl From<Vec<u8>> for Answer {
    /// Bytes that hold no reservation.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, seat: None }
    }
}

impl Deref for Answer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Answer {
    /// The length only: what users' events say is theirs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Answer({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_seat_is_free_again_when_its_answer_is_gone() {
        let room = Room::new(2, 100, 20);
        let answer = Answer::new(vec![1], room.seat().await);
        let other = Answer::new(vec![2], room.seat().await);
        assert_eq!(room.free_seats(), 0);
        assert_eq!(answer.into_bytes(), vec![1]);
        assert_eq!(room.free_seats(), 1);
        drop(other);
        assert_eq!(room.free_seats(), 2);
    }

    #[tokio::test]
    async fn only_one_body_outgrows_its_share() {
        let room = Room::new(2, 100, 20);
        let (mut first, mut second) = (room.seat().await, room.seat().await);
        assert!(!room.widen(&mut first, 40).await);
        assert_eq!(room.allowance(&first), 20);
        assert!(!room.widen(&mut second, 41).await);
        let room = Room::new(2, 100, 60);
        assert!(!room.widen(&mut first, 20).await, "the share is 20");
        let (mut first, mut second) = (room.seat().await, room.seat().await);
        assert!(!room.widen(&mut first, 21).await);
        assert_eq!(room.allowance(&first), 60);
        let waiting = room.widen(&mut second, 21);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(first);
        assert!(waiting.await);
    }

    #[test]
    fn without_bytes_to_spare_every_body_takes_the_lane() {
        let room = Room::new(0, 5, 8);
        assert_eq!((room.free_seats(), room.share), (1, 0));
    }

    #[test]
    fn an_answer_prints_its_length_only() {
        assert_eq!(format!("{:?}", Answer::from(b"[{}]".to_vec())), "Answer(4 bytes)");
    }
}
