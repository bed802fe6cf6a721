//! The verbs on nodes and stores as members of the cluster.

use crate::cli::MemberVerb;
use crate::output::{Table, bytes, columns, fields, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown};
use api::http::path;
use api::{MemberAnswer, MemberChange, ResiliencyAnswer};
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
            MemberVerb::Drain { name, wait } => {
                let set = self.remote.patch(&one(&name), &change(Some(true), None));
                if !wait {
                    return self.show::<MemberAnswer>(set);
                }
                let answer: MemberAnswer = set?;
                self.show(self.wait_until_empty(&one(&name), answer))
            }
            MemberVerb::Undrain { name } => {
                let set = self.remote.patch(&one(&name), &change(Some(false), None));
                self.show::<MemberAnswer>(set)
            }
            MemberVerb::Maintenance { name, duration } => {
                let minutes = duration.as_secs().div_ceil(60);
                let minutes = u32::try_from(minutes).unwrap_or(u32::MAX);
                let set = self.remote.patch(&one(&name), &change(None, Some(minutes)));
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
            let left = format!(
                "{} groups, {} being left, logs of {} volumes, {} volumes served",
                answer.groups, answer.leaving, answer.logs, answer.volumes
            );
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
            ("removable", yes(self.removable)),
        ])
    }
}

impl Table for ResiliencyAnswer {
    fn table(&self) -> String {
        let eta = match (self.repair.filling, self.repair.eta_seconds) {
            (0, _) => "nothing to do".to_owned(),
            (left, None) => format!("{left} members to fill"),
            (left, Some(eta)) => format!("{left} members to fill, about {eta} s at this pace"),
        };
        let capacity = &self.capacity;
        let mut text = fields(&[
            ("verdict", self.verdict.clone()),
            ("repair", eta),
            ("groups without a place", self.repair.waiting.to_string()),
            ("in use", bytes(capacity.used)),
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
        for reason in &self.reasons {
            text += &format!("\n{reason}");
        }
        if !self.reasons.is_empty() {
            text += "\n";
        }
        text
    }
}
