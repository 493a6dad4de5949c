//! What an operator is given to watch the bridge with: alert rules, runbook, dashboards.
//!
//! Prometheus itself, 2.42 and a 3, judges rules and queries; the names in them are held against a bridge that runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "../support/mod.rs"]
mod support;

mod drift;
mod house;
mod papers;
mod rules;
