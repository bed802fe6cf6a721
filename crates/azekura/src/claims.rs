//! `azekura kubernetes`: the Kubernetes clusters whose volumes are here, and their claims.

use crate::cli::{ClaimArgs, KubernetesVerb};
use crate::output::{Done, Table, bytes, columns, fields, render, time};
use crate::remote::RemoteError;
use crate::verbs::{Console, number, query};
use api::http::path;
use api::{
    ClaimAnswer, ClaimsAnswer, KubernetesAnswer, KubernetesListAnswer, PodFacts, StorageClassFacts,
};

/// Pages that are read at most, of a thousand claims each.
const PAGES_MAX: usize = 100;

impl Console<'_> {
    /// `kubernetes ...`.
    ///
    /// # Errors
    /// What the node says.
    pub fn kubernetes(&self, verb: KubernetesVerb) -> Result<String, RemoteError> {
        match verb {
            KubernetesVerb::List { page } => {
                let path = page.path(path(&["kubernetes"]));
                self.show::<KubernetesListAnswer>(self.remote.get(&path))
            }
            KubernetesVerb::Show { name } => {
                self.show::<KubernetesAnswer>(self.remote.get(&path(&["kubernetes", &name])))
            }
            KubernetesVerb::Claims(arguments) => self.show(self.claims(&arguments)),
            KubernetesVerb::Forget { name } => {
                self.remote.delete(&path(&["kubernetes", &name]), None)?;
                let done = Done {
                    done: format!("forgot what was reported of Kubernetes cluster {name}"),
                };
                Ok(render(&done, self.form))
            }
        }
    }

    /// All claims that fit, page by page; with a limit one page.
    fn claims(&self, arguments: &ClaimArgs) -> Result<ClaimsAnswer, RemoteError> {
        let mut all = ClaimsAnswer {
            next: arguments.after.clone(),
            ..ClaimsAnswer::default()
        };
        let limit = number(arguments.limit);
        let sort = arguments.sort.map(String::from);
        for _ in 0..PAGES_MAX {
            let mut path = path(&["kubernetes", &arguments.name, "claims"]);
            let wanted = [
                ("namespace", arguments.namespace.as_deref()),
                ("status", arguments.status.as_deref()),
                ("volume", arguments.volume.as_deref()),
                ("name", arguments.claim.as_deref()),
                ("sort", sort.as_deref()),
                ("limit", limit.as_deref()),
                ("after", all.next.as_deref()),
            ];
            query(&mut path, &wanted);
            let page: ClaimsAnswer = self.remote.get(&path)?;
            all.items.extend(page.items);
            all.next = page.next;
            if all.next.is_none() || limit.is_some() {
                break;
            }
        }
        Ok(all)
    }
}

/// When something was reported last.
fn heard(cluster: &KubernetesAnswer) -> String {
    match (cluster.reported_ms, cluster.silent) {
        (None, _) => "never: known from labels".to_owned(),
        (Some(at), false) => time(at),
        (Some(at), true) => format!("{} (silent)", time(at)),
    }
}

impl Table for KubernetesListAnswer {
    fn table(&self) -> String {
        if self.items.is_empty() {
            return "no Kubernetes cluster: nobody reports, and no volume has the label of one\n"
                .to_owned();
        }
        let row = |cluster: &KubernetesAnswer| {
            vec![
                cluster.name.clone(),
                cluster.version.clone().unwrap_or_else(|| "-".to_owned()),
                cluster.claims.to_string(),
                cluster.pending.to_string(),
                cluster.volumes.to_string(),
                bytes(cluster.size),
                bytes(cluster.used),
                heard(cluster),
            ]
        };
        let rows: Vec<Vec<String>> = self.items.iter().map(row).collect();
        let head = [
            "NAME", "VERSION", "CLAIMS", "PENDING", "VOLUMES", "SIZE", "USED", "REPORTED",
        ];
        columns(&head, &rows)
    }
}

fn class_text(class: &StorageClassFacts) -> String {
    let parameters = class.parameters.iter();
    let mut texts: Vec<String> = parameters
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    texts.extend(class.default.then(|| "the default".to_owned()));
    match texts.is_empty() {
        true => class.name.clone(),
        false => format!("{} ({})", class.name, texts.join(", ")),
    }
}

impl Table for KubernetesAnswer {
    fn table(&self) -> String {
        let classes = self.classes.iter().map(class_text);
        fields(&[
            ("name", self.name.clone()),
            ("uid", self.uid.clone().unwrap_or_default()),
            ("version", self.version.clone().unwrap_or_default()),
            ("driver", self.driver.clone().unwrap_or_default()),
            ("reported", heard(self)),
            (
                "claims",
                format!(
                    "{}, {} bound, {} pending",
                    self.claims, self.bound, self.pending
                ),
            ),
            (
                "volumes",
                format!(
                    "{}, {} of which {} are used",
                    self.volumes,
                    bytes(self.size),
                    bytes(self.used)
                ),
            ),
            ("classes", classes.collect::<Vec<_>>().join(", ")),
        ])
    }
}

fn pods(claim: &ClaimAnswer) -> String {
    let pods = claim.pods.iter();
    let mut names: Vec<String> = pods.map(|pod: &PodFacts| pod.name.clone()).collect();
    if claim.pods_more > 0 {
        names.push(format!("{} more", claim.pods_more));
    }
    match names.is_empty() {
        true => "-".to_owned(),
        false => names.join(", "),
    }
}

fn claim_row(claim: &ClaimAnswer) -> Vec<String> {
    let volume = claim.volume.as_ref();
    let size = claim.capacity.or(volume.map(|volume| volume.size));
    let size = size.or(claim.requested);
    let nothing = || "-".to_owned();
    vec![
        claim.namespace.clone(),
        claim.name.clone(),
        claim.status.clone(),
        claim.class.clone().unwrap_or_else(nothing),
        size.map_or_else(nothing, bytes),
        volume
            .and_then(|volume| volume.used)
            .map_or_else(nothing, bytes),
        volume.map_or_else(nothing, |volume| volume.name.clone()),
        pods(claim),
        claim.reason.clone().unwrap_or_default(),
    ]
}

impl Table for ClaimsAnswer {
    fn table(&self) -> String {
        if self.items.is_empty() {
            return "no claim\n".to_owned();
        }
        let rows: Vec<Vec<String>> = self.items.iter().map(claim_row).collect();
        let head = [
            "NAMESPACE",
            "NAME",
            "STATUS",
            "CLASS",
            "SIZE",
            "USED",
            "VOLUME",
            "PODS",
            "WHY",
        ];
        columns(&head, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::ClaimVolume;

    #[test]
    fn a_claim_without_a_volume_says_why_and_one_with_it_which() {
        let pending = ClaimAnswer {
            namespace: "shop".to_owned(),
            name: "data".to_owned(),
            status: "Pending".to_owned(),
            requested: Some(1 << 30),
            reason: Some("it waits for its first pod".to_owned()),
            ..ClaimAnswer::default()
        };
        let bound = ClaimAnswer {
            status: "Bound".to_owned(),
            reason: None,
            pods: vec![PodFacts {
                name: "db-0".to_owned(),
                ..PodFacts::default()
            }],
            pods_more: 2,
            volume: Some(ClaimVolume {
                name: "pvc-1".to_owned(),
                size: 1 << 30,
                used: Some(4096),
                ..ClaimVolume::default()
            }),
            ..pending.clone()
        };
        let claims = ClaimsAnswer {
            items: vec![pending, bound],
            next: None,
        };
        let text = claims.table();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("it waits for its first pod"), "{text}");
        assert!(lines[2].contains("pvc-1"), "{text}");
        assert!(lines[2].ends_with("db-0, 2 more"), "{text}");
    }

    #[test]
    fn a_cluster_tells_when_it_was_heard() {
        let mut cluster = KubernetesAnswer {
            name: "prod".to_owned(),
            ..KubernetesAnswer::default()
        };
        assert!(cluster.table().contains("known from labels"));
        cluster.reported_ms = Some(0);
        assert!(cluster.table().contains("1970-01-01 00:00:00Z\n"));
        cluster.silent = true;
        let all = KubernetesListAnswer {
            items: vec![cluster],
        };
        assert!(all.table().contains("(silent)"));
    }
}
