//! The brokers that scenarios of a lane share, started once, when they are first needed.

use crate::scenario::Needs;
use crate::support::Kafka;

/// The kinds that run.
#[derive(Default)]
pub struct Clusters {
    shared: Vec<(usize, &'static Kafka)>,
}

impl Clusters {
    /// What a scenario needs, healthy.
    pub async fn give(&mut self, needs: Needs) -> &'static Kafka {
        let ready = self.shared.iter().find(|(brokers, _)| *brokers == needs.brokers);
        if let (false, Some((_, kafka))) = (needs.is_own, ready) {
            kafka.heal().await;
            return kafka;
        }
        // other kinds would only take memory and time
        for (_, kafka) in self.shared.drain(..) {
            kafka.stop();
        }
        let kafka = Kafka::behind_proxies(needs.brokers, needs.properties).await;
        let kafka: &'static Kafka = Box::leak(Box::new(kafka));
        if !needs.is_own {
            self.shared.push((needs.brokers, kafka));
        }
        kafka
    }

    /// What a scenario has used; `is_fit`: whether others may use it too.
    pub fn take_back(&mut self, kafka: &'static Kafka, needs: Needs, is_fit: bool) {
        if needs.is_own || !is_fit {
            self.shared.retain(|(_, shared)| !std::ptr::eq(*shared, kafka));
            kafka.stop();
        }
    }
}
