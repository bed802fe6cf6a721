//! The verb that says where the space goes.

use crate::output::{Table, bytes, columns, fields};
use crate::verbs::{Console, Shown};
use api::http::path;
use api::{ContainerUsageAnswer, NamedUsageAnswer, SpaceReportAnswer};

impl Console<'_> {
    /// `space`.
    pub fn space(&self) -> Shown {
        self.show::<SpaceReportAnswer>(self.remote.get(&path(&["space"])))
    }
}

/// Hundredths as `1.85`.
fn ratio(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn signed(count: i64) -> String {
    let size = bytes(count.unsigned_abs());
    if count < 0 { format!("-{size}") } else { size }
}

fn usage_row(named: &NamedUsageAnswer, name: String) -> Vec<String> {
    let usage = &named.usage;
    vec![
        name,
        named.container.clone(),
        bytes(usage.mapped),
        bytes(usage.shared),
        bytes(usage.exclusive),
        bytes(usage.frees),
        format!("{} s", usage.age_seconds),
    ]
}

fn container_row(container: &ContainerUsageAnswer) -> Vec<String> {
    vec![
        container.name.clone(),
        bytes(container.mapped),
        bytes(container.snapshots),
        bytes(container.exclusive),
        bytes(container.frees),
    ]
}

/// Containers, volumes and snapshots, each in a table.
fn tables(report: &SpaceReportAnswer) -> String {
    let rows: Vec<Vec<String>> = report.containers.iter().map(container_row).collect();
    let head = ["CONTAINER", "MAPPED", "SNAPSHOTS", "EXCLUSIVE", "FREES"];
    let mut text = columns(&head, &rows);
    let volume = |named: &NamedUsageAnswer| usage_row(named, named.name.clone());
    let rows: Vec<Vec<String>> = report.volumes.iter().map(volume).collect();
    let usage_head = ["CONTAINER", "MAPPED", "SHARED", "EXCLUSIVE", "FREES", "AGE"];
    text += "\n";
    text += &columns(&[&["VOLUME"], &usage_head[..]].concat(), &rows);
    let snapshot = |named: &NamedUsageAnswer| {
        let id = named.volume_id.unwrap_or(0);
        let volume = report.volumes.iter().find(|other| other.id == id);
        let volume = volume.map_or_else(|| format!("volume-{id}"), |other| other.name.clone());
        usage_row(named, format!("{volume}@{}", named.name))
    };
    let rows: Vec<Vec<String>> = report.snapshots.iter().map(snapshot).collect();
    text += "\n";
    text + &columns(&[&["SNAPSHOT"], &usage_head[..]].concat(), &rows)
}

impl Table for SpaceReportAnswer {
    fn table(&self) -> String {
        let physical = &self.physical;
        let free = physical.capacity.saturating_sub(physical.used);
        let mut text = fields(&[
            ("capacity", bytes(physical.capacity)),
            ("in use", bytes(physical.used)),
            ("  data, all copies", bytes(physical.data)),
            ("  may be in flight", bytes(physical.unsettled)),
            ("  since the walks", signed(physical.other)),
            ("free", bytes(free)),
            ("  kept for repair", bytes(physical.kept_back)),
            (
                "journals",
                format!(
                    "{} of {}",
                    bytes(physical.journal_used),
                    bytes(physical.journal_capacity)
                ),
            ),
            ("mapped", bytes(self.mapped)),
            ("distinct", bytes(self.distinct)),
            ("stored, one copy", bytes(self.stored)),
            ("saved by sharing", ratio(self.sharing_hundredths)),
            ("saved by compression", ratio(self.compression_hundredths)),
            (
                "walked",
                format!(
                    "{} of {} lineages, the oldest {} s ago",
                    self.walked, self.lineages, self.age_seconds
                ),
            ),
        ]);
        text += "\n";
        text += &tables(self);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_and_signs_are_for_people() {
        assert_eq!(ratio(185), "1.85");
        assert_eq!(ratio(100), "1.00");
        assert_eq!(signed(-4096), "-4 KiB");
        assert!(SpaceReportAnswer::default().table().contains("walked"));
    }
}
