//! A trace as spans: `answer`, and within it one after the other `ask`, `journal`, `wait` and
//! `transaction`.
//!
//! Promises:
//! - the steps lie within the whole and follow each other without a hole, whatever the wall clock did
//!   meanwhile;
//! - attributes have the names that log lines use (`logging`).
//!
//! Knows nothing of: collectors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents};
use tokio::time::Instant;

use super::{Failed, Trace};
use crate::ids::Timestamp;

/// One moment by both clocks.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) wall: SystemTime,
    pub(super) steady: Instant,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }

    fn wall(&self, moment: Instant) -> SystemTime {
        let ago = self.steady.saturating_duration_since(moment);
        self.wall.checked_sub(ago).unwrap_or(UNIX_EPOCH)
    }
}

/// The spans of a trace, the whole first.
pub(super) fn spans(trace: &Trace, now: Now) -> Vec<SpanData> {
    let transaction = &*trace.transaction;
    let received = trace.received.map_or(wall(trace.received_at), |moment| now.wall(moment));
    let asked = wall(trace.asked_at).min(received);
    let kept = trace.synced.map(|moment| now.wall(moment).max(received));
    let taken = now.wall(transaction.began).max(kept.unwrap_or(received));
    let committed = now.wall(transaction.committed).max(taken);

    let making = Making::new(trace.row);
    let events = |all: Vec<Event>| {
        let mut events = SpanEvents::default();
        events.events.extend(all);
        events
    };
    let mut answer = making.whole("answer", asked, committed);
    answer.attributes = vec![
        KeyValue::new("row", whole(trace.row)),
        KeyValue::new("partition", i64::from(trace.partition)),
        KeyValue::new("generation", i64::from(trace.generation)),
        KeyValue::new("events", whole(trace.events)),
        KeyValue::new("late", trace.is_late),
        KeyValue::new("attempt", i64::from(transaction.attempt)),
    ];
    answer.events = events(transaction.failed.iter().map(|failed| told(failed, now)).collect());
    let mut ask = making.part("ask", asked, received);
    ask.span_kind = SpanKind::Client;
    let mut spans = vec![answer, ask];
    if let Some(kept) = kept {
        spans.push(making.part("journal", received, kept));
    }
    spans.push(making.part("wait", kept.unwrap_or(received), taken));
    let mut carried = making.part("transaction", taken, committed);
    carried.span_kind = SpanKind::Producer;
    carried.attributes = vec![KeyValue::new("rows", whole(transaction.rows as u64))];
    let steps = [("gathered", transaction.gathered), ("delivered", transaction.delivered)];
    let step = |(name, moment): (&'static str, Option<Instant>)| {
        Some(Event::new(name, now.wall(moment?).max(taken), Vec::new(), 0))
    };
    carried.events = events(steps.into_iter().filter_map(step).collect());
    spans.push(carried);
    spans
}

fn wall(moment: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(moment.0).unwrap_or(0))
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn told(failed: &Failed, now: Now) -> Event {
    let attributes = vec![
        KeyValue::new("outcome", failed.outcome.as_str()),
        KeyValue::new("error", failed.error.clone()),
    ];
    Event::new("transaction was not committed", now.wall(failed.at), attributes, 0)
}

/// What the spans of one trace have in common.
struct Making {
    trace: TraceId,
    root: SpanId,
}

impl Making {
    fn new(row: u64) -> Self {
        let drawn = uuid::Uuid::new_v4().as_u128();
        // an id of zero is none
        Self { trace: TraceId::from(drawn | 1), root: SpanId::from(row | 1 << 63) }
    }

    fn whole(&self, name: &'static str, start: SystemTime, end: SystemTime) -> SpanData {
        self.span(self.root, SpanId::INVALID, name, start, end)
    }

    fn part(&self, name: &'static str, start: SystemTime, end: SystemTime) -> SpanData {
        let id = SpanId::from(uuid::Uuid::new_v4().as_u64_pair().0 | 1);
        self.span(id, self.root, name, start, end)
    }

    fn span(
        &self,
        id: SpanId,
        parent: SpanId,
        name: &'static str,
        start_time: SystemTime,
        end_time: SystemTime,
    ) -> SpanData {
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::default());
        SpanData {
            span_context: SpanContext::new(self.trace, id, flags, false, state),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time,
            end_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("linxo-bridge").build(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::super::Transaction;
    use super::*;
    use crate::metrics::TransactionOutcome;

    /// Asked for 3 ms, kept after 2, taken after 10, committed 7 after that; 5 ms ago.
    pub(in crate::traces) fn trace(row: u64) -> Trace {
        let ago = |millis| Instant::now() - Duration::from_millis(millis);
        let transaction = Transaction {
            rows: 3,
            began: ago(12),
            gathered: Some(ago(10)),
            delivered: Some(ago(8)),
            committed: ago(5),
            attempt: 1,
            failed: Vec::new(),
        };
        Trace {
            row,
            partition: 7,
            generation: 2,
            events: 4,
            is_late: false,
            asked_at: Timestamp::now().before(Duration::from_millis(27)),
            received_at: Timestamp::now().before(Duration::from_millis(24)),
            received: Some(ago(24)),
            synced: Some(ago(22)),
            transaction: Arc::new(transaction),
        }
    }

    fn named(spans: &[SpanData]) -> Vec<&str> {
        spans.iter().map(|span| &*span.name).collect()
    }

    /// The steps lie within the whole and follow each other.
    fn are_in_order(spans: &[SpanData]) {
        let (answer, steps) = spans.split_first().unwrap();
        assert_eq!(answer.parent_span_id, SpanId::INVALID);
        let mut at = answer.start_time;
        for step in steps {
            assert_eq!(step.parent_span_id, answer.span_context.span_id());
            assert_eq!(step.span_context.trace_id(), answer.span_context.trace_id());
            assert_eq!(step.start_time, at, "{}", step.name);
            assert!(step.end_time >= step.start_time, "{}", step.name);
            at = step.end_time;
        }
        assert_eq!(at, answer.end_time);
    }

    fn millis(span: &SpanData) -> u128 {
        span.end_time.duration_since(span.start_time).unwrap().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn the_steps_follow_each_other_from_the_question_to_the_commit() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let spans = spans(&trace(1), Now::read());
        assert_eq!(named(&spans), ["answer", "ask", "journal", "wait", "transaction"]);
        are_in_order(&spans);
        assert_eq!(spans[2..].iter().map(millis).collect::<Vec<_>>(), [2, 10, 7]);
        // the question's begin is known by the wall clock, in whole milliseconds
        assert!((2..=5).contains(&millis(&spans[1])), "{}", millis(&spans[1]));
        let steps: Vec<&str> = spans[4].events.iter().map(|event| &*event.name).collect();
        assert_eq!(steps, ["gathered", "delivered"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_of_an_earlier_process_and_a_clock_that_was_set_leave_the_order_whole() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let mut told = trace(1);
        (told.received, told.synced) = (None, None);
        let all = spans(&told, Now::read());
        assert_eq!(named(&all), ["answer", "ask", "wait", "transaction"]);
        are_in_order(&all);

        let hour = Duration::from_secs(3_600);
        for asked_at in [Timestamp(Timestamp::now().0 + 3_600_000), Timestamp::now().before(hour)] {
            told.asked_at = asked_at;
            are_in_order(&spans(&told, Now::read()));
            let received_at = asked_at;
            are_in_order(&spans(&Trace { received_at, ..told.clone() }, Now::read()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_came_while_the_transaction_gathered_did_not_wait() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let mut told = trace(1);
        told.synced = Some(told.transaction.began + Duration::from_millis(1));
        let spans = spans(&told, Now::read());
        are_in_order(&spans);
        assert_eq!((millis(&spans[3]), millis(&spans[4])), (0, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_failed_are_told_and_counted() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let mut told = trace(1);
        let mut transaction = Transaction::clone(&told.transaction);
        // more than are told one by one
        transaction.attempt = 12;
        transaction.failed = vec![Failed {
            at: told.transaction.began,
            outcome: TransactionOutcome::Unknown,
            error: "timed out".to_owned(),
        }];
        told.transaction = Arc::new(transaction);
        let spans = spans(&told, Now::read());
        let event = &spans[0].events[0];
        assert_eq!(event.name, "transaction was not committed");
        assert_eq!(event.attributes[0], KeyValue::new("outcome", "unknown"));
        assert!(spans[0].attributes.contains(&KeyValue::new("attempt", 12)));
    }
}
