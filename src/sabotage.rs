//! What the fault suite may break on purpose: crash points and guards. Debug builds only, and
//! measurements that ask for the feature `sabotage`.
//!
//! `LINXO_BRIDGE_SABOTAGE` holds orders with commas between them: `crash:after-get:17` ends the
//! process, as a kill -9 would, when it passes that point the 17th time (the first when no number
//! is given); `freeze:before-commit:17` stops it there, as a SIGSTOP would, until somebody has it go
//! on; `off:fence` switches a guard off, so that a test can be seen to fail without it.
//!
//! Promises:
//! - a release build carries none of this: no name, no look at the environment;
//! - an order that is not understood ends the process at the start, as a control run that guards
//!   everything would prove nothing.
//!
//! Knows nothing of: what the guards protect.

/// A place at which the process can be made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// The answer of a question is in memory.
    AfterGet,
    /// Rows are written to the journal, and not synced.
    BeforeSync,
    /// Rows are synced, and nobody was told.
    AfterSync,
    /// A transaction is begun, and has no record.
    AfterBegin,
    /// Every record of a transaction is with Kafka.
    AfterProduce,
    /// The group has confirmed; the commit is not asked for.
    BeforeCommit,
    /// The transaction is committed, and nobody was told.
    AfterCommit,
}

/// A guard that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Answers are synced to disk before their queue is asked again.
    Journal,
    /// The table of questions under way.
    Questions,
    /// The group's confirmation in each transaction that writes states.
    Fence,
    /// The confirmation is asked for after the records, not before them.
    FenceOrder,
    /// Reading waits for what is not committed yet.
    ReadToEnd,
    /// Row numbers never repeat.
    RowNumbers,
    /// The journal's position is in the transaction.
    Position,
    /// A dead queue's connections are listed.
    Reconciliation,
    /// A repeated event is recognised.
    Repeats,
    /// A question without an answer is remembered.
    Suspicion,
    /// Users are told of journals that stay away.
    Absent,
    /// What was received of a revoked partition is published before it is let go of.
    Drain,
}

#[cfg(any(debug_assertions, feature = "sabotage"))]
mod orders {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{CrashPoint, Guard};

    const CRASH_POINTS: [(&str, CrashPoint); 7] = [
        ("after-get", CrashPoint::AfterGet),
        ("before-sync", CrashPoint::BeforeSync),
        ("after-sync", CrashPoint::AfterSync),
        ("after-begin", CrashPoint::AfterBegin),
        ("after-produce", CrashPoint::AfterProduce),
        ("before-commit", CrashPoint::BeforeCommit),
        ("after-commit", CrashPoint::AfterCommit),
    ];
    const GUARDS: [(&str, Guard); 12] = [
        ("journal", Guard::Journal),
        ("questions", Guard::Questions),
        ("fence", Guard::Fence),
        ("fence-order", Guard::FenceOrder),
        ("read-to-end", Guard::ReadToEnd),
        ("row-numbers", Guard::RowNumbers),
        ("position", Guard::Position),
        ("reconciliation", Guard::Reconciliation),
        ("repeats", Guard::Repeats),
        ("suspicion", Guard::Suspicion),
        ("drain", Guard::Drain),
        ("absent", Guard::Absent),
    ];

    #[derive(Default)]
    struct Orders {
        /// How many passings are left before the end, and before the stop.
        crashes: Vec<(CrashPoint, AtomicU64)>,
        freezes: Vec<(CrashPoint, AtomicU64)>,
        off: Vec<Guard>,
    }

    static ORDERS: OnceLock<Orders> = OnceLock::new();

    fn orders() -> &'static Orders {
        ORDERS.get_or_init(|| {
            let text = std::env::var("LINXO_BRIDGE_SABOTAGE").unwrap_or_default();
            match parse(&text) {
                Some(orders) => orders,
                None => {
                    eprintln!("LINXO_BRIDGE_SABOTAGE = {text:?} is not understood");
                    std::process::exit(64);
                }
            }
        })
    }

    fn parse(text: &str) -> Option<Orders> {
        let mut orders = Orders::default();
        for order in text.split(',').filter(|order| !order.is_empty()) {
            let mut words = order.split(':');
            let (verb, name) = (words.next()?, words.next()?);
            let count = words.next().map_or(Some(1), |count| count.parse().ok())?;
            match verb {
                "crash" | "freeze" => {
                    let (_, point) = CRASH_POINTS.iter().find(|(known, _)| *known == name)?;
                    let passings =
                        if verb == "crash" { &mut orders.crashes } else { &mut orders.freezes };
                    passings.push((*point, AtomicU64::new(count)));
                }
                "off" => {
                    let (_, guard) = GUARDS.iter().find(|(known, _)| *known == name)?;
                    orders.off.push(*guard);
                }
                _ => return None,
            }
            if words.next().is_some() {
                return None;
            }
        }
        Some(orders)
    }

    pub(super) fn pass(point: CrashPoint) {
        for (_, left) in orders().crashes.iter().filter(|(of, _)| *of == point) {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                std::process::abort();
            }
        }
        for (_, left) in orders().freezes.iter().filter(|(of, _)| *of == point) {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                freeze();
            }
        }
    }

    /// Stops the whole process; answers when it goes on.
    fn freeze() {
        let own = std::process::id().to_string();
        let stopped = std::process::Command::new("kill").args(["-s", "STOP", &own]).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("LINXO_BRIDGE_SABOTAGE: this process cannot be stopped");
            std::process::exit(64);
        }
    }

    pub(super) fn is_off(guard: Guard) -> bool {
        orders().off.contains(&guard)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders_are_read_whole_or_not_at_all() {
            let orders =
                parse("crash:after-get:17,off:fence,crash:before-commit,freeze:after-begin");
            let orders = orders.unwrap();
            assert_eq!(orders.off, [Guard::Fence]);
            assert_eq!(orders.freezes[0].0, CrashPoint::AfterBegin);
            let counts: Vec<(CrashPoint, u64)> = orders
                .crashes
                .iter()
                .map(|(point, left)| (*point, left.load(Ordering::Relaxed)))
                .collect();
            assert_eq!(counts, [(CrashPoint::AfterGet, 17), (CrashPoint::BeforeCommit, 1)]);
            for wrong in ["crash", "crash:somewhere", "off:everything", "crash:after-get:x", "a:b"]
            {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}

/// Ends the process here, if that was ordered.
#[inline]
pub fn pass(point: CrashPoint) {
    #[cfg(any(debug_assertions, feature = "sabotage"))]
    orders::pass(point);
    #[cfg(not(any(debug_assertions, feature = "sabotage")))]
    let _: CrashPoint = point;
}

/// Whether a guard is switched off; never in a release build.
#[inline]
pub fn is_off(guard: Guard) -> bool {
    #[cfg(any(debug_assertions, feature = "sabotage"))]
    return orders::is_off(guard);
    #[cfg(not(any(debug_assertions, feature = "sabotage")))]
    {
        let _: Guard = guard;
        false
    }
}
