//! The verbs on nodes and stores as members of the cluster.

use crate::cli::MemberVerb;
use crate::output::{Table, bytes, columns, fields, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown};
use api::http::path;
use api::{
    ComponentAnswer, LogCopiesAnswer, MemberAnswer, MemberChange, RepairAnswer, ResiliencyAnswer,
    SpaceAnswer,
};
use std::time::Duration;

/// Pause between two looks at a drain.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

impl Console<'_> {
    /// `resiliency`.
    pub fn resiliency(&self) -> Shown {
        self.show::<ResiliencyAnswer>(self.remote.get(&path(&["resiliency"])))
    }

    /// `node ...` and `store ...`: `kind` is the segment of the path.
    pub fn member(&self, kind: &str, verb: MemberVerb) -> Shown {
        let one = |name: &str| path(&[kind, name]);
        let change = |draining, minutes| MemberChange {
            draining,
            maintenance_minutes: minutes,
            approved: None,
        };
        match verb {
            MemberVerb::Show { name } => self.show::<MemberAnswer>(self.remote.get(&one(&name))),
            MemberVerb::Drain { name, wait, on } => {
                let change = change(Some(true), None);
                let set = self.remote.patch_if(&one(&name), &change, on.version);
                if !wait {
                    return self.show::<MemberAnswer>(set);
                }
                let answer: MemberAnswer = set?;
                self.show(self.wait_until_empty(&one(&name), answer))
            }
            MemberVerb::Undrain { name, on } => {
                let change = change(Some(false), None);
                let set = self.remote.patch_if(&one(&name), &change, on.version);
                self.show::<MemberAnswer>(set)
            }
            MemberVerb::Maintenance { name, duration, on } => {
                let minutes = duration.as_secs().div_ceil(60);
                let minutes = u32::try_from(minutes).unwrap_or(u32::MAX);
                let change = change(None, Some(minutes));
                let set = self.remote.patch_if(&one(&name), &change, on.version);
                self.show::<MemberAnswer>(set)
            }
            MemberVerb::Remove { name, lost } => {
                let query = if lost { "?lost=true" } else { "" };
                let kind = kind.trim_end_matches('s');
                self.deleted(&format!("{}{query}", one(&name)), format!("{kind} {name}"))
            }
        }
    }

    /// Says on standard error what is left, whenever that changes.
    fn wait_until_empty(
        &self,
        path: &str,
        mut answer: MemberAnswer,
    ) -> Result<MemberAnswer, RemoteError> {
        let mut said = String::new();
        while !answer.removable {
            let mut left = format!(
                "{} groups, {} being left, logs of {} volumes, {} volumes served",
                answer.groups, answer.leaving, answer.logs, answer.volumes
            );
            if !answer.strays.is_empty() {
                left = format!("{left}, perhaps stores {}", numbers(&answer.strays));
            }
            if left != said {
                eprintln!("still there: {left}");
                said = left;
            }
            std::thread::sleep(LOOK_INTERVAL);
            answer = self.remote.get(path)?;
        }
        Ok(answer)
    }
}

impl Table for MemberAnswer {
    fn table(&self) -> String {
        let until = match self.maintenance_until_ms {
            0 => "-".to_owned(),
            until => time(until),
        };
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        fields(&[
            (&self.kind, self.id.to_string()),
            ("node", self.node.clone()),
            ("waits to be approved", yes(self.candidate)),
            ("draining", yes(self.draining)),
            ("maintenance until", until),
            ("groups", self.groups.to_string()),
            ("groups it leaves", self.leaving.to_string()),
            ("logs of volumes", self.logs.to_string()),
            ("volumes served", self.volumes.to_string()),
            ("stores that may be in it", numbers(&self.strays)),
            ("removable", yes(self.removable)),
        ])
    }
}

fn numbers(ids: &[u32]) -> String {
    match ids {
        [] => "-".to_owned(),
        _ => ids
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// What may be lost of each part, and why it is not more.
fn components(components: &[ComponentAnswer]) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let row = |part: &ComponentAnswer| {
        vec![
            match part.rf {
                Some(rf) => format!("{}, {rf} copies", part.component),
                None => part.component.clone(),
            },
            format!("{} {}s", part.tolerates, part.domain),
            part.state.clone(),
            text(&part.reason),
            text(&part.remedy),
        ]
    };
    let rows: Vec<Vec<String>> = components.iter().map(row).collect();
    let head = ["PART", "MAY LOSE", "STATE", "REASON", "REMEDY"];
    columns(&head, &rows)
}

/// What clients may still write, by copies.
pub fn space(space: &[SpaceAnswer]) -> String {
    let row = |space: &SpaceAnswer| {
        vec![
            space.rf.to_string(),
            space.state.clone(),
            format!("{}%", space.fill_percent),
            match space.resilient_percent {
                Some(percent) => format!("{percent}%"),
                None => "-".to_owned(),
            },
            format!("{}%", space.protects_at),
            format!("{}%", space.ends_below),
            match space.stores.is_empty() {
                true => "-".to_owned(),
                false => {
                    let stores: Vec<String> = space.stores.iter().map(u32::to_string).collect();
                    stores.join(",")
                }
            },
        ]
    };
    let rows: Vec<Vec<String>> = space.iter().map(row).collect();
    let head = [
        "COPIES",
        "SPACE",
        "FILLED",
        "RESILIENT",
        "PROTECTED AT",
        "ENDS BELOW",
        "STORES",
    ];
    columns(&head, &rows)
}

/// What may be lost of the logs of volumes, if it is known.
pub fn logs(logs: &[LogCopiesAnswer]) -> String {
    if logs.is_empty() {
        return String::new();
    }
    let row = |logs: &LogCopiesAnswer| {
        vec![
            logs.rf.to_string(),
            logs.volumes.to_string(),
            logs.degraded.to_string(),
            logs.unavailable.to_string(),
            format!("{} {}s", logs.tolerates, logs.domain),
        ]
    };
    let rows: Vec<Vec<String>> = logs.iter().map(row).collect();
    let head = ["COPIES", "LOGS", "DEGRADED", "UNAVAILABLE", "MAY LOSE"];
    format!("\n{}", columns(&head, &rows))
}

/// What repair has to do, and how fast it goes.
fn repair(repair: &RepairAnswer) -> String {
    let mut text = match repair.filling {
        0 => return "nothing to do".to_owned(),
        left => format!("{left} members to fill"),
    };
    if let Some(left) = repair.bytes_left {
        text += &format!(", {} to copy", bytes(left));
    }
    if let Some(pace) = repair.bytes_per_second {
        text += &format!(" at {}/s", bytes(pace));
    }
    if let Some(eta) = repair.eta_seconds {
        text += &format!(", about {eta} s at this pace");
    }
    text
}

impl Table for ResiliencyAnswer {
    fn table(&self) -> String {
        let repair = repair(&self.repair);
        let capacity = &self.capacity;
        let in_use = match capacity.missing {
            0 => bytes(capacity.used),
            missing => format!(
                "{}, {} of it to be made again",
                bytes(capacity.used),
                bytes(missing)
            ),
        };
        let mut text = fields(&[
            ("verdict", self.verdict.clone()),
            ("repair", repair),
            ("groups without a place", self.repair.waiting.to_string()),
            ("in use", in_use),
            ("resilient capacity", bytes(capacity.resilient)),
            ("capacity", bytes(capacity.total)),
            ("fullest store", format!("{}%", capacity.fullest_percent)),
        ]);
        let rows: Vec<Vec<String>> = self
            .data
            .iter()
            .map(|copies| {
                vec![
                    copies.rf.to_string(),
                    copies.groups.to_string(),
                    copies.degraded.to_string(),
                    copies.unavailable.to_string(),
                    format!("{} {}s", copies.tolerates, copies.domain),
                ]
            })
            .collect();
        let head = ["COPIES", "GROUPS", "DEGRADED", "UNAVAILABLE", "MAY LOSE"];
        text += "\n";
        text += &columns(&head, &rows);
        text += &logs(&self.logs);
        text += "\n";
        text += &components(&self.components);
        text += "\n";
        text += &space(&self.space);
        for reason in &self.reasons {
            text += &format!("\n{reason}");
        }
        if !self.reasons.is_empty() {
            text += "\n";
        }
        text
    }
}
