//! Following a partition from its beginning on, for as long as the follower lives.
//!
//! Promises: every committed record comes, in order; whatever ends the reading, it begins anew, so
//! that a record may come again.
//!
//! Knows nothing of: what the records mean.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::{Clients, Complaints};

const STEP: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(1);

/// What a follower is told.
pub enum Followed<'a> {
    /// A record with a key.
    Record {
        /// Its key.
        key: &'a [u8],
        /// Its value; none is a removal.
        value: Option<&'a [u8]>,
        /// When it was written, in milliseconds since 1970; none when the topic does not say.
        written_at: Option<i64>,
    },
    /// What was there is read; what comes from now on is new.
    End,
}

/// A reading that goes on until this is dropped.
pub struct Following {
    _goes_on: Sender<()>,
}

/// Hands the committed records of the only partition of `topic` to `each`, on a thread of its own.
///
/// # Errors
/// When there is no thread to be had.
pub fn follow(
    clients: &Clients,
    topic: &str,
    mut each: impl FnMut(Followed<'_>) + Send + 'static,
) -> io::Result<Following> {
    let (_goes_on, end) = channel();
    let (clients, topic) = (clients.clone(), topic.to_owned());
    std::thread::Builder::new().name("marks".into()).spawn(move || {
        while let Err(error) = read(&clients, &topic, &end, &mut each) {
            tracing::debug!(topic, %error, "cannot be followed, beginning anew");
            if !goes_on(&end, AGAIN) {
                break;
            }
        }
    })?;
    Ok(Following { _goes_on })
}

fn read(
    clients: &Clients,
    topic: &str,
    end: &Receiver<()>,
    each: &mut impl FnMut(Followed<'_>),
) -> Result<(), KafkaError> {
    let reader: BaseConsumer<Complaints> =
        clients.follower().create_with_context(Complaints("marks"))?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    reader.assign(&assignment)?;
    while goes_on(end, Duration::ZERO) {
        match reader.poll(STEP) {
            Some(Ok(message)) => {
                if let Some(key) = message.key() {
                    let written_at = message.timestamp().to_millis();
                    each(Followed::Record { key, value: message.payload(), written_at });
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => each(Followed::End),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error),
            Some(Err(error)) => tracing::debug!(topic, %error, "following goes on"),
            None => {}
        }
    }
    Ok(())
}

/// Whether the follower still lives, after so long.
fn goes_on(end: &Receiver<()>, pause: Duration) -> bool {
    end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}
