//! The closed sets of label values.
//!
//! Promises:
//! - every value a label can take is a variant here, so the number of series is known before the
//!   first event and no id can become a label;
//! - `ALL` lists the variants in the order in which they are declared.
//!
//! The values of `cause`, `certainty` and `action` are written as the records have them, so that a
//! number on a dashboard and a record on a topic are found by the same word.
//!
//! Knows nothing of: any other room.

/// A label with a closed set of values.
pub(super) trait Label: Copy + 'static {
    /// The name of the label.
    const NAME: &'static str;
    /// The texts of all values, in the order of `index`.
    const TEXTS: &'static [&'static str];

    /// The place of this value in `TEXTS`.
    fn index(self) -> usize;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $label:literal, { $($variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each variant is its label's value, explained in design.md 11")]
        pub enum $name {
            $($variant),+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as the label shows it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const TEXTS: &'static [&'static str] = &[$($text),+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// What became of a trace.
    TraceOutcome, "outcome", {
        Exported => "exported",
        Dropped => "dropped",
        Failed => "failed",
    }
}

label! {
    /// What became of one question to a queue.
    PollOutcome, "outcome", {
        Events => "events",
        Empty => "empty",
        EmptyList => "empty_list",
        Dead => "dead",
        Unauthorized => "unauthorized",
        Forbidden => "forbidden",
        Throttled => "throttled",
        ServerError => "server_error",
        Timeout => "timeout",
        TransportError => "transport_error",
        Broken => "broken",
        Oversized => "oversized",
        Malformed => "malformed",
    }
}
label! {
    /// Why events were or may have been lost; the `cause` of a gap record.
    GapCause, "cause", {
        QueueExpired => "QUEUE_EXPIRED",
        QueueGone => "QUEUE_GONE",
        CredentialRefused => "CREDENTIAL_REFUSED",
        AnswerLost => "ANSWER_LOST",
        InstanceLost => "INSTANCE_LOST",
        EventIdJump => "EVENT_ID_JUMP",
        Other => "OTHER",
    }
}
label! {
    /// Whether the bridge knows of a loss or only cannot rule it out.
    Certainty, "certainty", {
        Certain => "CERTAIN",
        Possible => "POSSIBLE",
    }
}
label! {
    /// What a published record of an event is: the event, its copy on an action topic, or the state
    /// of a connection after a reconciliation.
    EventKind, "kind", {
        Event => "event",
        Action => "action",
        Reconciliation => "reconciliation",
    }
}
label! {
    /// Whether an event asks the user to act.
    LagClass, "class", {
        Ordinary => "ordinary",
        Action => "action",
    }
}
label! {
    /// A part of the way from an answer to its commit.
    Stage, "stage", {
        Journal => "journal",
        Gather => "gather",
        Transaction => "transaction",
    }
}
label! {
    /// How a transaction ended.
    TransactionOutcome, "outcome", {
        Committed => "committed",
        Aborted => "aborted",
        Fenced => "fenced",
        Unknown => "unknown",
    }
}
label! {
    /// What the consumer group did with a partition.
    RebalanceKind, "kind", {
        Granted => "granted",
        Revoked => "revoked",
        Lost => "lost",
    }
}
label! {
    /// What became of a request to the token endpoint.
    TokenOutcome, "outcome", {
        Ok => "ok",
        Refused => "refused",
        Error => "error",
    }
}
label! {
    /// What became of a request to the Schema Registry.
    RegistryOutcome, "outcome", {
        Ok => "ok",
        Refused => "refused",
        Error => "error",
    }
}
label! {
    /// What the user is asked to do; the `action` of an event record.
    ActionLabel, "action", {
        AuthFailed => "AUTH_FAILED",
        TokenExpired => "TOKEN_EXPIRED",
        PasswordChangeRequired => "PASSWORD_CHANGE_REQUIRED",
        UserActionRequired => "USER_ACTION_REQUIRED",
        ChallengeRequired => "CHALLENGE_REQUIRED",
    }
}
label! {
    /// Why bytes went to the dead-letter topic.
    DeadLetterReason, "reason", {
        NotJson => "not_json",
        NotAnArray => "not_an_array",
        NotAnObject => "not_an_object",
        MissingId => "missing_id",
        MissingType => "missing_type",
        WrongType => "wrong_type",
        Oversized => "oversized",
        Malformed => "malformed",
        TooLarge => "too_large",
        NotEncodable => "not_encodable",
        Other => "other",
    }
}
label! {
    /// What is being done with a queue.
    QueueCondition, "state", {
        Live => "live",
        Subscribing => "subscribing",
        Recovering => "recovering",
        Blocked => "blocked",
    }
}
label! {
    /// How much time is left until a queue would die.
    HeadroomBand, "band", {
        BelowOneMinute => "lt_1m",
        BelowThreeMinutes => "lt_3m",
        BelowFiveMinutes => "lt_5m",
        BelowTenMinutes => "lt_10m",
        Rest => "rest",
    }
}

impl PollOutcome {
    /// Whether the queue answered, and so lives on for another life: a 200 or 204 head came back,
    /// and no page in place of a list, which something before the queue may have sent.
    pub const fn is_answer(self) -> bool {
        match self {
            Self::Events | Self::Empty | Self::EmptyList | Self::Broken | Self::Oversized => true,
            Self::Malformed
            | Self::Dead
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Throttled
            | Self::ServerError
            | Self::Timeout
            | Self::TransportError => false,
        }
    }
}

impl HeadroomBand {
    /// The band that a headroom falls into. Bands are apart: `lt_3m` does not count what is `lt_1m`.
    pub fn of(headroom: std::time::Duration) -> Self {
        match headroom.as_secs() {
            0..60 => Self::BelowOneMinute,
            60..180 => Self::BelowThreeMinutes,
            180..300 => Self::BelowFiveMinutes,
            300..600 => Self::BelowTenMinutes,
            _ => Self::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_variant_stands_at_its_own_index_with_its_own_text() {
        for (place, outcome) in PollOutcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), place);
            assert_eq!(PollOutcome::TEXTS[place], outcome.as_str());
        }
    }

    #[test]
    fn a_headroom_at_a_limit_belongs_to_the_band_above() {
        let band = |seconds| HeadroomBand::of(Duration::from_secs(seconds)).as_str();
        assert_eq!(
            [0, 59, 60, 179, 180, 299, 300, 599, 600, 900].map(band),
            [
                "lt_1m", "lt_1m", "lt_3m", "lt_3m", "lt_5m", "lt_5m", "lt_10m", "lt_10m", "rest",
                "rest"
            ]
        );
    }
}
