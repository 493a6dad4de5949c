//! The faults of the source as orders.
//!
//! Promises: a fault that the simulator learns has to be given its numbers here.
//!
//! Knows nothing of: schedules.

use crate::simulator::{Fault, FaultName, LocationForm, Order};

/// The order that has a share of the requests meet a fault; of a limit of rate, those above so many a
/// second.
pub(super) fn order(name: FaultName, share: f64, oversized: u64) -> Order {
    let fault = match name {
        FaultName::Unauthorized => Fault::Unauthorized,
        FaultName::RevokeToken => Fault::RevokeToken,
        FaultName::Forbidden => Fault::Forbidden,
        FaultName::KillQueue => Fault::KillQueue,
        FaultName::Throttle => Fault::Throttle { retry_after: Some(1) },
        FaultName::RateLimit => {
            return Order::always(Fault::RateLimit { per_second: share.round() as u32 });
        }
        FaultName::ServerError => Fault::ServerError { status: 503 },
        FaultName::Slow => Fault::Slow { over_ms: 500 },
        FaultName::Hang => Fault::Hang,
        FaultName::Cut => Fault::Cut,
        FaultName::Oversized => Fault::Oversized { bytes: oversized, declared: false },
        FaultName::InvalidJson => Fault::InvalidJson,
        FaultName::Html => Fault::Html,
        FaultName::Reset => Fault::Reset,
        FaultName::Vanish => Fault::Vanish,
        FaultName::Duplicate => Fault::Duplicate,
        FaultName::Repeat => Fault::Repeat,
        FaultName::Location => Fault::Location { form: LocationForm::Missing },
        FaultName::EmptyList => Fault::EmptyList,
        FaultName::Reorder => Fault::Reorder,
        FaultName::UnknownType => Fault::UnknownType,
        FaultName::MissingField => Fault::MissingField { field: "event_type".to_owned() },
    };
    Order::share(share, fault)
}
