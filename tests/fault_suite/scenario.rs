//! What a scenario is, and what it is given.

use std::time::Duration;

use futures_util::future::BoxFuture;
use linxo_kafka_bridge::oracle::{Rule, Verdict};

use crate::support::Kafka;

/// Carries a scenario out, up to the verdict.
pub type Run = fn(Context) -> BoxFuture<'static, Verdict>;

/// A fault, or several, and how the bridge is to come through.
#[derive(Clone)]
pub struct Scenario {
    /// Its id in the list of faults, with a letter behind it where there are several.
    pub id: &'static str,
    /// What happens, in a few words.
    pub name: &'static str,
    pub needs: Needs,
    /// Whether it is run by `make test`.
    pub is_fast: bool,
    /// Whether it is run with real times by `make faults-long`.
    pub is_long: bool,
    /// A control run: which guard is off, and what the oracle must find then.
    pub guard: Option<(&'static str, Rule)>,
    /// After which it counts as hanging.
    pub limit: Duration,
    pub run: Run,
}

impl Scenario {
    /// One of the full run, within three minutes.
    pub const fn new(id: &'static str, name: &'static str, needs: Needs, run: Run) -> Self {
        let (is_fast, is_long, guard) = (false, false, None);
        Self { id, name, needs, is_fast, is_long, guard, limit: Duration::from_secs(180), run }
    }

    /// In the fast part too.
    pub const fn fast(mut self) -> Self {
        self.is_fast = true;
        self
    }

    /// With real times too.
    pub const fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    /// A control run.
    pub const fn without(mut self, guard: &'static str, finds: Rule) -> Self {
        self.guard = Some((guard, finds));
        self
    }

    /// What is wrong with a verdict, if something is.
    pub fn objection(&self, verdict: &Verdict) -> Option<String> {
        match self.guard {
            None if verdict.agrees() => None,
            None => Some(told(verdict)),
            Some((_, rule)) if verdict.offended.contains_key(&rule) => None,
            Some((guard, rule)) => Some(format!(
                "the guard {guard} is off, and no offence against {} was found\n{}",
                rule.as_str(),
                told(verdict)
            )),
        }
    }
}

/// The offences in words, the first of them with their history.
fn told(verdict: &Verdict) -> String {
    let mut lines = vec![format!("{:?}: {:?}", verdict.outcome(), verdict.offended)];
    lines.extend(verdict.unknown.clone());
    for (number, offence) in verdict.offences.iter().take(12).enumerate() {
        lines.push(format!("  {offence}"));
        if number < 3 {
            let happened = offence.history.iter();
            lines.extend(happened.map(|happened| format!("    {} {}", happened.at, happened.what)));
        }
    }
    lines.push(format!("{:?}", verdict.counts));
    lines.join("\n")
}

/// The brokers that a scenario needs.
#[derive(Clone, Copy, PartialEq)]
pub struct Needs {
    pub brokers: usize,
    /// For itself: it leaves them as nobody else can use them, or needs them set up in another way.
    pub is_own: bool,
    pub properties: &'static [(&'static str, &'static str)],
}

/// One broker behind a proxy.
pub const ONE: Needs = Needs { brokers: 1, is_own: false, properties: &[] };
/// Three, a proxy before each.
pub const THREE: Needs = Needs { brokers: 3, is_own: false, properties: &[] };

/// One that takes rights away on request.
pub const AUTHORIZED: Needs = Needs {
    brokers: 1,
    is_own: true,
    properties: &[
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ],
};

/// What a scenario is given.
#[derive(Clone)]
pub struct Context {
    pub id: &'static str,
    pub seed: u64,
    /// Real times.
    pub is_long: bool,
    pub kafka: &'static Kafka,
    /// What the bridge is to break.
    pub sabotage: String,
    /// How many random pairs are asked for.
    pub pairs: usize,
}
