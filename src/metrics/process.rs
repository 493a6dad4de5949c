//! What the process takes: memory, descriptors, processor.
//!
//! Promises: processor time is told to a hundredth of a second. The library's own collector tells
//! whole seconds, whose rate over a few scrapes of an instance that is nearly idle is noise.
//!
//! Knows nothing of: what the process does.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Error, Opts};

const CPU: &str = "process_cpu_seconds_total";

/// Told to a registry, it shows them at each scrape.
pub(crate) struct ProcessFigures {
    all: ProcessCollector,
    cpu: Counter,
}

impl ProcessFigures {
    pub(crate) fn new() -> Result<Self, Error> {
        let help = "Total user and system CPU time spent in seconds.";
        Ok(Self {
            all: ProcessCollector::for_self(),
            cpu: Counter::with_opts(Opts::new(CPU, help))?,
        })
    }
}

impl Collector for ProcessFigures {
    fn desc(&self) -> Vec<&Desc> {
        self.all.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.all.collect();
        if let Some(spent) = spent() {
            // nothing when another scrape was here meanwhile
            self.cpu.inc_by((spent - self.cpu.get()).max(0.0));
            families.retain(|family| family.name() != CPU);
            families.extend(self.cpu.collect());
        }
        families
    }
}

/// Seconds of processor that this process has taken.
fn spent() -> Option<f64> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_told_in_less_than_seconds() {
        let figures = ProcessFigures::new().unwrap();
        let told = || {
            let families = figures.collect();
            let mut cpu = families.iter().filter(|family| family.name() == CPU);
            let value = cpu.next().unwrap().get_metric()[0].get_counter().get_value();
            assert!(cpu.next().is_none(), "it is told once");
            value
        };
        let mut last = told();
        for _ in 0..100_000 {
            let now = told();
            assert!(now >= last);
            if now.fract() > 0.0 {
                return;
            }
            last = now;
        }
        panic!("never a part of a second: {last}");
    }
}
