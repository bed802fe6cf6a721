//! What the nodes run with: policies and thresholds as they are in force.

use super::Result;
use crate::host::Host;
use api::{Answer, Operation, SettingAnswer};
use futures_util::future::join_all;
use std::rc::Rc;
use vocab::NodeId;
use world::Duration;

/// Patience with another node that says what it runs with.
const PATIENCE: Duration = Duration::from_secs(5);

/// The certificate that a node shows browsers: its value is when that ends.
const BROWSER_CERTIFICATE: &str = "tls.certificate";

impl Host {
    /// Those of all nodes that answer, by key and node.
    pub(super) async fn list_settings(self: &Rc<Self>) -> Result<Answer> {
        let view = self.view();
        let others: Vec<NodeId> = view.alive.keys().copied().collect();
        let others = others.into_iter().filter(|&node| node != self.id);
        let asked = others.map(|node| async move {
            let list = Operation::SettingList;
            match self.ask_node(node, &list, PATIENCE, &mut false).await {
                Ok(Ok(Answer::Settings(settings))) => settings,
                // One of the release before does not know the question.
                _ => Vec::new(),
            }
        });
        let mut settings: Vec<SettingAnswer> =
            join_all(asked).await.into_iter().flatten().collect();
        settings.extend(self.own_settings());
        settings.sort_by(|one, other| (&one.key, &one.node).cmp(&(&other.key, &other.node)));
        Ok(Answer::Settings(settings))
    }

    /// Those of this node, by the names that its configuration has for them.
    pub(super) fn own_settings(&self) -> Vec<SettingAnswer> {
        let options = &self.options;
        let (volume, space, scrub) = (&options.volume, &options.space, &options.scrub);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut settings = vec![
            ("lease", ms(options.lease), "milliseconds"),
            ("suspicion", ms(options.suspicion), "milliseconds"),
            ("repair-delay", ms(options.repair_delay), "milliseconds"),
            ("scrub-interval", ms(scrub.interval), "milliseconds"),
            ("scrub-rate", scrub.bytes_per_second, "bytes-per-second"),
            ("tasks-kept", ms(options.tasks_kept), "milliseconds"),
            ("space-warning-percent", space.warn_percent, "percent"),
            ("space-protect-percent", space.protect_percent, "percent"),
            ("groups", u64::from(options.groups), "count"),
            ("drain", volume.drain_bytes, "bytes"),
            ("undrained-max", volume.undrained_bytes_max, "bytes"),
            (
                "undrained-node-max",
                volume.undrained_node_bytes_max,
                "bytes",
            ),
            ("map-cache", options.pages_bytes as u64, "bytes"),
            (
                "collect-interval",
                ms(options.collect.interval),
                "milliseconds",
            ),
            (
                "collect-percent",
                u64::from(options.collect.duty_percent),
                "percent",
            ),
            ("patience", ms(options.patience), "milliseconds"),
        ];
        if let Some(pace) = &options.pace {
            settings.extend([
                ("repair-latency-percent", pace.latency_percent, "percent"),
                (
                    "repair-floor-percent",
                    u64::from(pace.floor) / 10,
                    "percent",
                ),
            ]);
        }
        let process = options.process.as_ref();
        let until = process.and_then(|process| process.browser_certificate_until_ms());
        settings.extend(until.map(|until| (BROWSER_CERTIFICATE, until, "unix-milliseconds")));
        let answer = |(key, value, unit): (&str, u64, &str)| SettingAnswer {
            key: key.to_owned(),
            node: options.name.clone(),
            value,
            unit: unit.to_owned(),
        };
        settings.into_iter().map(answer).collect()
    }
}
