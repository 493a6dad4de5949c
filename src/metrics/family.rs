//! Makes and registers metrics, all label values present from the start.
//!
//! Promises:
//! - a metric with a label has a child for every value before the first happening, because a counter
//!   whose first sample is 1 shows no increase;
//! - a child is found by index: no name is looked up when something happens.
//!
//! Knows nothing of: what the metrics mean.

use std::marker::PhantomData;

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    Opts, Registry,
};

use super::labels::Label;

const PREFIX: &str = "linxo_bridge_";

/// One metric with a label: a child for each value.
pub(super) struct Family<L, C> {
    children: Vec<C>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, C> Family<L, C> {
    fn from_texts(child: impl Fn(&str) -> C) -> Self {
        Self { children: L::TEXTS.iter().map(|text| child(text)).collect(), label: PhantomData }
    }

    /// The child of this value.
    pub(super) fn at(&self, value: L) -> &C {
        &self.children[value.index()]
    }
}

/// One counter with two labels: a child for each pair of values.
pub(super) struct PairFamily<L, M> {
    rows: Vec<Family<M, IntCounter>>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M: Label> PairFamily<L, M> {
    /// The child of these values.
    pub(super) fn at(&self, first: L, second: M) -> &IntCounter {
        self.rows[first.index()].at(second)
    }
}

/// Makes metrics and enters them into a registry; names are without prefix.
pub(super) struct Maker<'r>(pub(super) &'r Registry);

impl Maker<'_> {
    fn enter<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.enter(IntCounter::with_opts(options(name, help))?)
    }

    pub(super) fn counters<L: Label>(
        &self,
        name: &str,
        help: &str,
    ) -> Result<Family<L, IntCounter>, Error> {
        let vector = self.enter(IntCounterVec::new(options(name, help), &[L::NAME])?)?;
        Ok(Family::from_texts(|text| vector.with_label_values(&[text])))
    }

    pub(super) fn counter_pairs<L: Label, M: Label>(
        &self,
        name: &str,
        help: &str,
    ) -> Result<PairFamily<L, M>, Error> {
        let vector = self.enter(IntCounterVec::new(options(name, help), &[L::NAME, M::NAME])?)?;
        let row =
            |first: &&str| Family::from_texts(|second| vector.with_label_values(&[*first, second]));
        Ok(PairFamily { rows: L::TEXTS.iter().map(row).collect(), label: PhantomData })
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.enter(Gauge::with_opts(options(name, help))?)
    }

    pub(super) fn gauges<L: Label>(
        &self,
        name: &str,
        help: &str,
    ) -> Result<Family<L, Gauge>, Error> {
        let vector = self.enter(GaugeVec::new(options(name, help), &[L::NAME])?)?;
        Ok(Family::from_texts(|text| vector.with_label_values(&[text])))
    }

    /// A gauge that is 1 and tells facts in its labels.
    pub(super) fn facts(
        &self,
        name: &str,
        help: &str,
        facts: [(&str, &str); 2],
    ) -> Result<(), Error> {
        let vector = self.enter(GaugeVec::new(options(name, help), &facts.map(|fact| fact.0))?)?;
        vector.with_label_values(&facts.map(|fact| fact.1)).set(1.0);
        Ok(())
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, Error> {
        self.enter(Histogram::with_opts(histogram_options(name, help, buckets))?)
    }

    pub(super) fn histograms<L: Label>(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Family<L, Histogram>, Error> {
        let vector = HistogramVec::new(histogram_options(name, help, buckets), &[L::NAME])?;
        let vector = self.enter(vector)?;
        Ok(Family::from_texts(|text| vector.with_label_values(&[text])))
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}{name}"), help)
}

fn histogram_options(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(format!("{PREFIX}{name}"), help).buckets(buckets.to_vec())
}
