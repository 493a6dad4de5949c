//! Settings shared by every Kafka client, reading a partition to its end and beyond, and what a Kafka
//! error means for us.
//!
//! Promises:
//! - every client is made here, with the user's properties under the ones the design depends on;
//! - a partition counts as read only when everything that was written before the question is in,
//!   a predecessor's last transaction included ([`read_to_end`]);
//! - the failure of a transaction is a type that says what to do next ([`Failure`]).
//!
//! Knows nothing of: what the records mean.

mod clients;
mod complaints;
mod failure;
mod follow;
mod partition;
mod reach;
mod read;

pub use clients::{Clients, DEFAULT_MAX_MESSAGE, MESSAGE_OVERHEAD, TRANSACTION_TIMEOUT};
pub use complaints::{Complaints, complain};
pub use failure::Failure;
pub use follow::{Followed, Following, follow};
pub use partition::partition_of;
pub use reach::Reach;
pub use read::{ReadError, Record, partitions_of, read_to_end};
