//! Answers as JSON or as tables.

use crate::cli::Form;
use crate::members::{logs, space};
use api::{
    AttachmentAnswer, CapacityAnswer, ClientAnswer, ClusterAnswer, ContainerAnswer, DiffAnswer,
    GroupSnapshotAnswer, NodeAnswer, Scope, SnapshotAnswer, StatusAnswer, StoreAnswer,
    StoreShareAnswer, TokenAnswer, UsageAnswer, VolumeAnswer,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use vocab::ByteCount;

/// Moves to the first place of a terminal and clears what is there.
pub const CLEAR: &str = "\x1b[H\x1b[2J";

/// Something that can be shown to a person.
pub trait Table {
    /// The text, with a line feed at its end unless it is empty.
    fn table(&self) -> String;
}

/// `value` in the wanted form, for standard output.
pub fn render<T: Table + Serialize>(value: &T, form: Form) -> String {
    match form {
        Form::Table => value.table(),
        Form::Json => {
            let text = serde_json::to_string_pretty(value);
            text.expect("answers are plain data with text keys") + "\n"
        }
        Form::Yaml => document(value),
        Form::JsonLine => {
            let text = serde_json::to_string(value);
            text.expect("answers are plain data with text keys") + "\n"
        }
    }
}

/// `value` as a YAML document. Of several that follow each other, each begins with `---`.
pub fn document<T: Serialize>(value: &T) -> String {
    let text = serde_saphyr::to_string(value).expect("answers are plain data with text keys");
    format!("---\n{}\n", text.trim_end())
}

/// Writes to standard output at once; whether there is still somebody who reads it.
pub fn say(text: &str) -> bool {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// The answer of a verb that has nothing to tell but that it is done.
#[derive(Debug, Serialize)]
pub struct Done {
    /// What was done.
    pub done: String,
}

impl Table for Done {
    fn table(&self) -> String {
        format!("{}\n", self.done)
    }
}

/// Columns as wide as their widest cell, two spaces apart.
pub fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    };
    let mut out = line(&mut head.iter().copied());
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

pub fn fields(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().filter(|(_, value)| !value.is_empty());
    lines
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

pub fn bytes(count: u64) -> String {
    ByteCount(count).to_string()
}

/// Where the space of a volume or snapshot goes; nothing while it is not known.
/// What each store holds.
fn shares(placement: &[StoreShareAnswer]) -> String {
    let share = |part: &StoreShareAnswer| format!("{} ({})", part.store, bytes(part.bytes));
    let shares: Vec<String> = placement.iter().map(share).collect();
    match shares.is_empty() {
        true => "not walked yet".to_owned(),
        false => shares.join(", "),
    }
}

fn usage(usage: Option<&UsageAnswer>) -> String {
    let text = |usage: &UsageAnswer| {
        format!(
            "{} shared, {} exclusive, {} freed when it is deleted (as of {} s ago)",
            bytes(usage.shared),
            bytes(usage.exclusive),
            bytes(usage.frees),
            usage.age_seconds
        )
    };
    usage.map(text).unwrap_or_default()
}

fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Share of `whole` that `part` is, in percent.
fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{}%", u128::from(part) * 100 / u128::from(whole)),
    }
}

/// A Unix time as `2026-11-23 17:59:15Z` (days to civil date after Howard Hinnant's algorithm).
pub fn time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = (month_shifted + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

fn clients(attachment: &AttachmentAnswer) -> String {
    if attachment.clients.is_empty() {
        return "-".to_owned();
    }
    let mode = match (attachment.read_only, attachment.shared) {
        (false, _) => "",
        (true, false) => " (read only)",
        (true, true) => " (read only, shared)",
    };
    format!("{}{mode}", attachment.clients.join(", "))
}

/// What the owner hears of the clients.
fn heard(clients: &[ClientAnswer]) -> String {
    let one = |client: &ClientAnswer| {
        let seconds = client.silent_ms / 1000;
        match client.heard {
            true => format!(
                "{} {seconds} s ago ({} sessions)",
                client.name, client.sessions
            ),
            false => format!("{} not for {seconds} s", client.name),
        }
    };
    clients.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The containers of a token: it says so when those are all of them, as they are for drivers of a release that did not ask.
fn token_containers(token: &TokenAnswer) -> String {
    let limited = !token.containers.is_empty() || !token.kubernetes.is_empty();
    match (token.all_containers, token.scope) {
        (true, _) => "all".to_owned(),
        (false, Scope::Csi) if !limited => "all (never limited)".to_owned(),
        _ => names_or_dash(&token.containers),
    }
}

fn names_or_dash(names: &[String]) -> String {
    match names.is_empty() {
        true => "-".to_owned(),
        false => names.join(", "),
    }
}

fn token_row(token: &TokenAnswer) -> Vec<String> {
    vec![
        token.name.clone(),
        token.scope.to_string(),
        token.user.clone().unwrap_or_else(|| "-".to_owned()),
        token_containers(token),
        names_or_dash(&token.kubernetes),
        time(token.created_ms),
    ]
}

impl Table for TokenAnswer {
    /// The secret alone, for a file: `azekura token create ... > FILE`.
    fn table(&self) -> String {
        match &self.token {
            Some(secret) => format!("{secret}\n"),
            None => vec![self.clone()].table(),
        }
    }
}

impl Table for Vec<TokenAnswer> {
    fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self.iter().map(token_row).collect();
        columns(
            &[
                "NAME",
                "SCOPE",
                "USER",
                "CONTAINERS",
                "KUBERNETES",
                "CREATED",
            ],
            &rows,
        )
    }
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let label = |(key, value): (&String, &String)| format!("{key}={value}");
    labels.iter().map(label).collect::<Vec<_>>().join(", ")
}

fn replicas(volume: &VolumeAnswer) -> String {
    let stores: Vec<String> = volume
        .log
        .iter()
        .map(|copy| copy.store.to_string())
        .collect();
    match stores.is_empty() {
        true => "-".to_owned(),
        false => stores.join(","),
    }
}

impl Table for Vec<ContainerAnswer> {
    fn table(&self) -> String {
        let head = [
            "NAME",
            "RF",
            "MIN",
            "SYNC",
            "COMPRESSION",
            "QUOTA",
            "VOLUMES",
            "PROVISIONED",
            "SPACE",
        ];
        let row = |container: &ContainerAnswer| {
            vec![
                container.name.clone(),
                container.rf.to_string(),
                match container.strict {
                    true => "strict".to_owned(),
                    false => container.min_copies.to_string(),
                },
                container.sync.clone(),
                container.compression.clone(),
                optional(container.quota.map(bytes)),
                container.volumes.to_string(),
                bytes(container.provisioned),
                container.space.clone(),
            ]
        };
        columns(&head, &self.iter().map(row).collect::<Vec<_>>())
    }
}

impl Table for ContainerAnswer {
    fn table(&self) -> String {
        vec![self.clone()].table()
    }
}

/// A volume in quarantine is as it was, and nobody can use it.
fn state(volume: &VolumeAnswer) -> String {
    match volume.quarantine_until_ms {
        Some(_) => format!("{} (quarantine)", volume.state),
        None => volume.state.clone(),
    }
}

impl Table for Vec<VolumeAnswer> {
    fn table(&self) -> String {
        let head = [
            "NAME",
            "CONTAINER",
            "SIZE",
            "MAPPED",
            "STATE",
            "OWNER",
            "RF",
            "LOG",
            "CLIENTS",
        ];
        let row = |volume: &VolumeAnswer| {
            vec![
                volume.name.clone(),
                volume.container.clone(),
                bytes(volume.size),
                bytes(volume.mapped),
                state(volume),
                optional(volume.owner),
                volume.rf.to_string(),
                replicas(volume),
                clients(&volume.attachment),
            ]
        };
        columns(&head, &self.iter().map(row).collect::<Vec<_>>())
    }
}

impl Table for VolumeAnswer {
    fn table(&self) -> String {
        let owner = |id: u32| match self.unserved {
            true => format!("node {id}, which does not serve it"),
            false => format!("node {id}"),
        };
        let origin = self.origin.as_ref().map(|origin| {
            let name = |name: &Option<String>, id: u64| match name {
                Some(name) => name.clone(),
                None => format!("(deleted, id {id})"),
            };
            format!(
                "snapshot {} of volume {}",
                name(&origin.snapshot, origin.snapshot_id),
                name(&origin.volume, origin.volume_id)
            )
        });
        fields(&[
            ("name", self.name.clone()),
            ("id", self.id.to_string()),
            ("container", self.container.clone()),
            (
                "size",
                format!("{} ({} bytes)", bytes(self.size), self.size),
            ),
            ("mapped", bytes(self.mapped)),
            ("space", usage(self.usage.as_ref())),
            ("undrained", self.undrained.map(bytes).unwrap_or_default()),
            ("state", self.state.clone()),
            ("reason", self.reason.clone().unwrap_or_default()),
            (
                "quarantine",
                self.quarantine_until_ms
                    .map(|until| format!("until {}", time(until)))
                    .unwrap_or_default(),
            ),
            ("owner", optional(self.owner.map(owner))),
            ("epoch", self.epoch.to_string()),
            ("copies wanted", self.rf.to_string()),
            ("log on stores", replicas(self)),
            ("data on stores", shares(&self.placement)),
            ("log segments", self.segments.to_string()),
            ("clients", clients(&self.attachment)),
            ("heard", heard(&self.clients)),
            ("attachment", self.attachment.generation.to_string()),
            ("created", time(self.created_ms)),
            ("started from", origin.unwrap_or_default()),
            ("labels", labels(&self.labels)),
            ("description", self.description.clone().unwrap_or_default()),
            (
                "limit of operations",
                self.iops_limit
                    .map(|limit| format!("{limit}/s"))
                    .unwrap_or_default(),
            ),
            (
                "limit of bandwidth",
                self.bandwidth_limit
                    .map(|limit| format!("{}/s", bytes(limit)))
                    .unwrap_or_default(),
            ),
        ])
    }
}

impl Table for Vec<SnapshotAnswer> {
    fn table(&self) -> String {
        let head = [
            "VOLUME",
            "SNAPSHOT",
            "SIZE",
            "MAPPED",
            "EXCLUSIVE",
            "FREES",
            "STATE",
            "TAKEN",
        ];
        let row = |snapshot: &SnapshotAnswer| {
            let gone = || format!("(deleted, id {})", snapshot.volume_id);
            vec![
                snapshot.volume.clone().unwrap_or_else(gone),
                snapshot.name.clone(),
                bytes(snapshot.size),
                optional(snapshot.mapped.map(bytes)),
                optional(snapshot.usage.map(|usage| bytes(usage.exclusive))),
                optional(snapshot.usage.map(|usage| bytes(usage.frees))),
                snapshot.state.clone(),
                time(snapshot.created_ms),
            ]
        };
        columns(&head, &self.iter().map(row).collect::<Vec<_>>())
    }
}

impl Table for SnapshotAnswer {
    fn table(&self) -> String {
        let gone = || format!("(deleted, id {})", self.volume_id);
        fields(&[
            ("name", self.name.clone()),
            ("id", self.id.to_string()),
            ("volume", self.volume.clone().unwrap_or_else(gone)),
            ("size", bytes(self.size)),
            ("mapped", optional(self.mapped.map(bytes))),
            ("space", usage(self.usage.as_ref())),
            ("state", self.state.clone()),
            ("taken", time(self.created_ms)),
            ("group snapshot", self.group.clone().unwrap_or_default()),
            ("labels", labels(&self.labels)),
        ])
    }
}

impl Table for Vec<GroupSnapshotAnswer> {
    fn table(&self) -> String {
        let row = |group: &GroupSnapshotAnswer| {
            vec![
                group.id.clone(),
                group.name.clone(),
                group.snapshots.len().to_string(),
                if group.ready { "ready" } else { "not whole" }.to_owned(),
                time(group.created_ms),
            ]
        };
        let rows: Vec<Vec<String>> = self.iter().map(row).collect();
        columns(&["ID", "NAME", "VOLUMES", "STATE", "TAKEN"], &rows)
    }
}

impl Table for GroupSnapshotAnswer {
    fn table(&self) -> String {
        vec![self.clone()].table() + "\n" + &self.snapshots.table()
    }
}

impl Table for CapacityAnswer {
    fn table(&self) -> String {
        fields(&[
            ("available", bytes(self.available)),
            ("total", bytes(self.total)),
            ("largest new volume", bytes(self.volume_bytes_max)),
        ])
    }
}

impl Table for ClusterAnswer {
    fn table(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(node_row).collect();
        let head = fields(&[
            ("name", self.name.clone()),
            ("id", self.id.clone()),
            ("version", self.version.clone()),
            ("level", self.level.to_string()),
        ]);
        head + "\n" + &columns(&NODE_HEAD, &nodes)
    }
}

impl Table for DiffAnswer {
    fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .runs
            .iter()
            .map(|run| {
                let kind = if run.zero { "zero" } else { "data" };
                vec![
                    run.offset.to_string(),
                    run.length.to_string(),
                    kind.to_owned(),
                ]
            })
            .collect();
        let total = self.runs.iter().map(|run| run.length).sum();
        let count = self.runs.len();
        columns(&["OFFSET", "LENGTH", "KIND"], &rows)
            + &format!("{} in {count} ranges\n", bytes(total))
    }
}

impl Table for AttachmentAnswer {
    fn table(&self) -> String {
        fields(&[
            ("clients", clients(self)),
            ("generation", self.generation.to_string()),
        ])
    }
}

impl Table for StatusAnswer {
    fn table(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(node_row).collect();
        let stores: Vec<_> = self.stores.iter().map(store_row).collect();
        let mut text = format!("cluster {}: {}\n", self.cluster, self.verdict);
        for reason in &self.reasons {
            text += &format!("  {reason}\n");
        }
        if let Some(open) = self.alerts.and_then(crate::alerts::counted) {
            text += &format!("  open alerts: {open}; see `azekura alert list`\n");
        }
        if !self.encrypted {
            text += "  connections are not encrypted: see docs/operating/security.md\n";
        }
        text += "\n";
        text += &columns(&NODE_HEAD, &nodes);
        text += "\n";
        text += &columns(&STORE_HEAD, &stores);
        text += "\n";
        text += &space(&self.resiliency.space);
        text += &logs(&self.resiliency.logs);
        text += "\n";
        text += &self.volumes.table();
        if self.more_volumes {
            text += "and more: see `azekura volume list`\n";
        }
        text
    }
}

const STORE_HEAD: [&str; 11] = [
    "STORE", "NODE", "STATE", "STANDING", "GROUPS", "CAPACITY", "USED", "FULL", "JOURNAL", "FILL",
    "REASON",
];

impl Table for Vec<StoreAnswer> {
    fn table(&self) -> String {
        let rows: Vec<_> = self.iter().map(store_row).collect();
        columns(&STORE_HEAD, &rows)
    }
}

/// The nodes of a cluster.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Nodes(pub Vec<NodeAnswer>);

impl Table for Nodes {
    fn table(&self) -> String {
        let rows: Vec<_> = self.0.iter().map(node_row).collect();
        columns(&NODE_HEAD, &rows)
    }
}

/// What is the same for people and programs.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Plain(pub serde_json::Value);

impl Table for Plain {
    fn table(&self) -> String {
        render(self, Form::Json)
    }
}

const NODE_HEAD: [&str; 7] = ["NODE", "NAME", "ALIVE", "RELEASE", "ADDRESS", "NBD", "API"];

fn node_row(node: &NodeAnswer) -> Vec<String> {
    vec![
        node.id.to_string(),
        node.name.clone(),
        match (node.alive, node.candidate) {
            (true, true) => "candidate",
            (true, false) => "yes",
            (false, _) => "no",
        }
        .to_owned(),
        optional(Some(&node.release).filter(|release| !release.is_empty())),
        node.address.clone(),
        optional(node.nbd.as_ref()),
        optional(node.api.as_ref()),
    ]
}

/// Memberships, and how many of them are being filled or emptied.
fn groups(store: &StoreAnswer) -> String {
    let mut text = store.groups.to_string();
    if store.filling > 0 {
        text += &format!(", {} filling", store.filling);
    }
    if store.leaving > 0 {
        text += &format!(", {} leaving", store.leaving);
    }
    text
}

fn store_row(store: &StoreAnswer) -> Vec<String> {
    vec![
        store.id.to_string(),
        store.node.to_string(),
        store.state.clone(),
        store.standing.clone(),
        groups(store),
        bytes(store.capacity),
        bytes(store.used),
        percent(store.used, store.capacity),
        bytes(store.journal_capacity),
        percent(store.journal_used, store.journal_capacity),
        store.reason.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{DiffRun, ReplicaAnswer};

    #[test]
    fn times_are_civil_dates() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(time(1_795_456_755_123), "2026-11-23 17:59:15Z");
    }

    #[test]
    fn columns_are_aligned() {
        let volumes = vec![VolumeAnswer {
            name: "a-long-name".into(),
            container: "c".into(),
            size: 1 << 30,
            state: "ready".into(),
            owner: Some(1),
            rf: 2,
            log: vec![
                ReplicaAnswer {
                    store: 1,
                    incarnation: 1,
                },
                ReplicaAnswer {
                    store: 2,
                    incarnation: 1,
                },
            ],
            ..VolumeAnswer::default()
        }];
        let expected = "\
NAME         CONTAINER  SIZE   MAPPED  STATE  OWNER  RF  LOG  CLIENTS
a-long-name  c          1 GiB  0 B     ready  1      2   1,2  -
";
        assert_eq!(volumes.table(), expected);
    }

    #[test]
    fn tokens_say_what_and_whose_they_are() {
        let token = |name: &str, containers: &[&str], kubernetes: &[&str], all_containers| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            TokenAnswer {
                name: name.to_owned(),
                scope: Scope::Csi,
                user: None,
                containers: names(containers),
                kubernetes: names(kubernetes),
                all_containers,
                created_ms: 0,
                token: None,
                version: None,
            }
        };
        let viewer = TokenAnswer {
            scope: Scope::Viewer,
            user: Some("olga".to_owned()),
            ..token("v", &[], &[], false)
        };
        let tokens = vec![
            token("a", &["gold"], &["prod"], false),
            token("b", &[], &["prod"], false),
            token("c", &[], &[], true),
            token("d", &[], &[], false),
            viewer,
        ];
        let expected = "\
NAME  SCOPE   USER  CONTAINERS           KUBERNETES  CREATED
a     csi     -     gold                 prod        1970-01-01 00:00:00Z
b     csi     -     -                    prod        1970-01-01 00:00:00Z
c     csi     -     all                  -           1970-01-01 00:00:00Z
d     csi     -     all (never limited)  -           1970-01-01 00:00:00Z
v     viewer  olga  -                    -           1970-01-01 00:00:00Z
";
        assert_eq!(tokens.table(), expected);
    }

    #[test]
    fn diff_ends_with_its_sum() {
        let diff = DiffAnswer {
            runs: vec![DiffRun {
                offset: 4096,
                length: 8192,
                zero: false,
            }],
            ..DiffAnswer::default()
        };
        assert_eq!(
            diff.table(),
            "OFFSET  LENGTH  KIND\n4096    8192    data\n8 KiB in 1 ranges\n"
        );
    }

    #[test]
    fn json_is_the_answer_itself() {
        let text = render(&vec![ContainerAnswer::default()], Form::Json);
        let back: Vec<ContainerAnswer> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, [ContainerAnswer::default()]);
    }

    #[test]
    fn yaml_says_what_json_does() {
        let answer = vec![ContainerAnswer {
            name: "on: a 'quoted' # name".to_owned(),
            ..ContainerAnswer::default()
        }];
        let text = render(&answer, Form::Yaml);
        assert!(text.starts_with("---\n- "), "{text}");
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(read, json);
    }

    #[test]
    fn empty_status_can_be_shown() {
        let mut status = StatusAnswer::default();
        assert!(status.table().contains("STORE") && !status.table().contains("and more"));
        status.more_volumes = true;
        assert!(status.table().ends_with("see `azekura volume list`\n"));
        assert!(VolumeAnswer::default().table().contains("created"));
    }

    #[test]
    fn a_volume_in_quarantine_says_until_when() {
        let mut volume = VolumeAnswer::default();
        assert!(!volume.table().contains("quarantine"));
        volume.quarantine_until_ms = Some(951_782_400_000);
        assert!(volume.table().contains("until 2000-02-29 00:00:00Z"));
        volume.state = "ready".to_owned();
        let listed = vec![volume.clone()].table();
        assert!(listed.contains("ready (quarantine)"), "{listed}");
        volume.quarantine_until_ms = None;
        assert!(!vec![volume].table().contains("quarantine"));
    }
}
