//! The verbs that call the REST API and print its answer.

use crate::cli::{
    CloneArgs, Compression, ContainerVerb, Form, PolicyArgs, SnapshotVerb, Sync, TokenScope,
    TokenVerb, VolumeVerb,
};
use crate::output::{Done, Table, render};
use crate::remote::{Remote, RemoteError};
use api::http::{self, path};
use api::{
    CompressionName, ContainerAnswer, ContainerChange, ContainerSpec, DiffAnswer, Scope,
    SnapshotAnswer, SnapshotRef, StatusAnswer, SyncName, TokenAnswer, TokenSpec, VolumeAnswer,
    VolumeSpec,
};
use serde::Serialize;

/// One API server and how to print what it says.
pub struct Console<'a> {
    /// The server.
    pub remote: &'a Remote,
    /// The form of answers.
    pub form: Form,
}

/// Text for standard output.
type Shown = Result<String, RemoteError>;

impl Console<'_> {
    fn show<T: Table + Serialize>(&self, answer: Result<T, RemoteError>) -> Shown {
        Ok(render(&answer?, self.form))
    }

    fn deleted(&self, path: &str, what: String) -> Shown {
        self.remote.delete(path)?;
        let done = Done {
            done: format!("deleted {what}"),
        };
        Ok(render(&done, self.form))
    }

    /// `status`.
    pub fn status(&self) -> Shown {
        self.show::<StatusAnswer>(self.remote.get(&path(&["status"])))
    }

    /// `container ...`.
    pub fn container(&self, verb: ContainerVerb) -> Shown {
        match verb {
            ContainerVerb::Create { name, rf, policy } => {
                let spec = container_spec(name, rf, &policy);
                let answer = self.remote.post(&path(&["containers"]), &spec);
                self.show::<ContainerAnswer>(answer)
            }
            ContainerVerb::List => {
                self.show::<Vec<ContainerAnswer>>(self.remote.get(&path(&["containers"])))
            }
            ContainerVerb::Set { name, rf, policy } => {
                let change = ContainerChange {
                    rf,
                    min_copies: policy.min_copies,
                    sync: policy.sync.map(sync_name),
                    compression: policy.compression.map(compression_name),
                    quota: policy.quota,
                };
                let answer = self.remote.patch(&path(&["containers", &name]), &change);
                self.show::<ContainerAnswer>(answer)
            }
            ContainerVerb::Delete { name } => {
                self.deleted(&path(&["containers", &name]), format!("container {name}"))
            }
        }
    }

    /// `token ...`.
    pub fn token(&self, verb: TokenVerb) -> Shown {
        match verb {
            TokenVerb::Create {
                name,
                scope,
                containers,
            } => {
                let spec = TokenSpec {
                    name,
                    scope: match scope {
                        TokenScope::Admin => Scope::Admin,
                        TokenScope::Viewer => Scope::Viewer,
                        TokenScope::Csi => Scope::Csi,
                    },
                    containers,
                };
                self.show::<TokenAnswer>(self.remote.post(&path(&["tokens"]), &spec))
            }
            TokenVerb::List => self.show::<Vec<TokenAnswer>>(self.remote.get(&path(&["tokens"]))),
            TokenVerb::Delete { name } => {
                self.deleted(&path(&["tokens", &name]), format!("token {name}"))
            }
        }
    }

    /// `volume ...`.
    pub fn volume(&self, verb: VolumeVerb) -> Shown {
        match verb {
            VolumeVerb::Create {
                name,
                container,
                size,
                labels,
            } => self.volume_create(VolumeSpec {
                name,
                container: Some(container),
                size: Some(size),
                labels: labels.into_iter().collect(),
                ..VolumeSpec::default()
            }),
            VolumeVerb::List => {
                self.show::<Vec<VolumeAnswer>>(self.remote.get(&path(&["volumes"])))
            }
            VolumeVerb::Show { name } => {
                self.show::<VolumeAnswer>(self.remote.get(&path(&["volumes", &name])))
            }
            VolumeVerb::Delete { name } => {
                self.deleted(&path(&["volumes", &name]), format!("volume {name}"))
            }
            VolumeVerb::Resize { name, size } => {
                let path = path(&["volumes", &name, "resize"]);
                self.show::<VolumeAnswer>(self.remote.post(&path, &http::Resize { size }))
            }
            VolumeVerb::Restore { name, snapshot } => {
                let path = path(&["volumes", &name, "restore"]);
                self.show::<VolumeAnswer>(self.remote.post(&path, &http::Restore { snapshot }))
            }
            VolumeVerb::Drain { name } => {
                let path = path(&["volumes", &name, "drain"]);
                self.show::<VolumeAnswer>(self.remote.post(&path, &serde_json::json!({})))
            }
        }
    }

    fn volume_create(&self, spec: VolumeSpec) -> Shown {
        self.show::<VolumeAnswer>(self.remote.post(&path(&["volumes"]), &spec))
    }

    /// `clone`.
    pub fn clone_volume(&self, arguments: CloneArgs) -> Shown {
        self.volume_create(VolumeSpec {
            name: arguments.name,
            container: arguments.container,
            size: arguments.size,
            from: Some(SnapshotRef {
                volume: arguments.volume,
                snapshot: Some(arguments.snapshot),
            }),
            labels: arguments.labels.into_iter().collect(),
            ..VolumeSpec::default()
        })
    }

    /// `snapshot ...`.
    pub fn snapshot(&self, verb: SnapshotVerb) -> Shown {
        match verb {
            SnapshotVerb::Create { volume, name } => {
                let path = path(&["volumes", &volume, "snapshots"]);
                let answer = self.remote.post(
                    &path,
                    &http::SnapshotName {
                        name,
                        labels: Default::default(),
                    },
                );
                self.show::<SnapshotAnswer>(answer)
            }
            SnapshotVerb::List { volume } => {
                let path = match &volume {
                    Some(volume) => path(&["volumes", volume, "snapshots"]),
                    None => path(&["snapshots"]),
                };
                self.show::<Vec<SnapshotAnswer>>(self.remote.get(&path))
            }
            SnapshotVerb::Delete { volume, name } => self.deleted(
                &path(&["volumes", &volume, "snapshots", &name]),
                format!("snapshot {name} of volume {volume}"),
            ),
            SnapshotVerb::Diff { volume, from, to } => {
                let mut path = path(&["volumes", &volume, "diff"]);
                let ends = [("from", from), ("to", to)];
                let given = ends
                    .iter()
                    .filter_map(|(key, end)| Some((key, end.as_ref()?)));
                for (index, (key, end)) in given.enumerate() {
                    path.push(if index == 0 { '?' } else { '&' });
                    path.push_str(key);
                    path.push('=');
                    http::encode(end, &mut path);
                }
                self.show::<DiffAnswer>(self.remote.get(&path))
            }
        }
    }
}

fn container_spec(name: String, rf: u8, policy: &PolicyArgs) -> ContainerSpec {
    ContainerSpec {
        name,
        rf,
        min_copies: policy.min_copies,
        sync: policy.sync.map(sync_name).unwrap_or_default(),
        compression: policy.compression.map(compression_name).unwrap_or_default(),
        quota: policy.quota.filter(|bytes| *bytes != 0),
    }
}

fn sync_name(sync: Sync) -> SyncName {
    match sync {
        Sync::Flush => SyncName::Flush,
        Sync::Always => SyncName::Always,
    }
}

fn compression_name(compression: Compression) -> CompressionName {
    match compression {
        Compression::Lz4 => CompressionName::Lz4,
        Compression::Off => CompressionName::Off,
    }
}
