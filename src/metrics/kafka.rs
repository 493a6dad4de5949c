//! What the producer's client says of its connections and queues.
//!
//! Promises:
//! - one series each, whatever the number of brokers, topics and partitions: sums, and the slowest
//!   broker's round trip;
//! - a counter does not fall when the client is made anew, or forgets a broker.
//!
//! Knows nothing of: Kafka clients; only of the JSON that librdkafka calls its statistics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{Error, Gauge, IntCounter};
use serde::Deserialize;

use super::family::Maker;

pub(super) struct KafkaGauges {
    queued_messages: Gauge,
    queued_bytes: Gauge,
    round_trip: Gauge,
    connected: Gauge,
    /// In the order of [`Statistics::counts`].
    counters: [IntCounter; 7],
    /// What the counters were told last, and of which client.
    told: Mutex<(String, [u64; 7])>,
}

/// What is read of the statistics.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Statistics {
    /// The name of the client's handle: another one with each client.
    name: String,
    msg_cnt: u64,
    msg_size: u64,
    brokers: BTreeMap<String, Broker>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Broker {
    state: String,
    tx: u64,
    txbytes: u64,
    txerrs: u64,
    rxerrs: u64,
    txretries: u64,
    req_timeouts: u64,
    connects: u64,
    disconnects: u64,
    rtt: RoundTrip,
}

/// Of the last interval, in microseconds.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RoundTrip {
    p99: u64,
}

impl Statistics {
    fn counts(&self) -> [u64; 7] {
        self.brokers.values().fold([0; 7], |sums, broker| {
            let more = [
                broker.tx,
                broker.txbytes,
                broker.connects,
                broker.disconnects,
                broker.txerrs + broker.rxerrs,
                broker.txretries,
                broker.req_timeouts,
            ];
            std::array::from_fn(|place| sums[place] + more[place])
        })
    }
}

impl KafkaGauges {
    #[rustfmt::skip] // one line per metric reads as the catalogue it is
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            queued_messages: make.gauge("kafka_queued_messages", "Records that the producer holds and no broker has acknowledged.")?,
            queued_bytes: make.gauge("kafka_queued_bytes", "Bytes of those records.")?,
            round_trip: make.gauge("kafka_round_trip_seconds", "Time from a request to its answer, the slowest broker's 99th percentile of the last seconds; 0 without requests.")?,
            connected: make.gauge("kafka_connections", "Connections to brokers that the producer has open; a coordinator has one of its own.")?,
            counters: [
                make.counter("kafka_requests_total", "Requests sent to brokers by the producer.")?,
                make.counter("kafka_sent_bytes_total", "Bytes sent to brokers by the producer.")?,
                make.counter("kafka_connects_total", "Connections to brokers that the producer tried to open.")?,
                make.counter("kafka_disconnects_total", "Connections to brokers that the producer lost or closed.")?,
                make.counter("kafka_request_errors_total", "Requests of the producer that could not be sent, and answers that could not be read.")?,
                make.counter("kafka_request_retries_total", "Requests that the producer sent again.")?,
                make.counter("kafka_request_timeouts_total", "Requests of the producer that no broker answered in time.")?,
            ],
            told: Mutex::default(),
        })
    }

    /// Shows what can be read; statistics of another form change nothing.
    pub(super) fn show(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        self.queued_messages.set(statistics.msg_cnt as f64);
        self.queued_bytes.set(statistics.msg_size as f64);
        let slowest = statistics.brokers.values().map(|broker| broker.rtt.p99).max();
        self.round_trip.set(slowest.unwrap_or(0) as f64 / 1e6);
        let are_up = statistics.brokers.values().filter(|broker| broker.state == "UP");
        self.connected.set(are_up.count() as f64);
        let counts = statistics.counts();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if told.0 == statistics.name { told.1 } else { [0; 7] };
        for (counter, (count, before)) in self.counters.iter().zip(counts.iter().zip(before)) {
            counter.inc_by(count.saturating_sub(before));
        }
        *told = (statistics.name, counts);
    }
}
