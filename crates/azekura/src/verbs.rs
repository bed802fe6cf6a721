//! The verbs that call the REST API and print its answer.

pub use crate::cli::query;
use crate::cli::{
    CapacityArgs, CloneArgs, CloneVerb, Compression, ContainerVerb, DescriptionArgs, Form,
    GroupSnapshotVerb, GroupVerb, IfVersion, ListArgs, PolicyArgs, SnapshotVerb, StoreVerb, Sync,
    TokenScope, TokenVerb, VolumeVerb,
};
use crate::output::{Done, Nodes, Plain, Table, render};
use crate::remote::{Remote, RemoteError};
use api::http::{self, path};
use api::{
    CapacityAnswer, CloneAnswer, ClusterAnswer, CompressionName, ContainerAnswer, ContainerChange,
    ContainerSpec, DiffAnswer, GroupAnswer, GroupSnapshotAnswer, GroupSnapshotSpec, ListSort,
    Scope, SnapshotAnswer, SnapshotRef, StatusAnswer, StoreAnswer, SyncName, TokenAnswer,
    TokenSpec, VolumeAnswer, VolumeChange, VolumeSpec,
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
pub type Shown = Result<String, RemoteError>;

impl Console<'_> {
    pub fn show<T: Table + Serialize>(&self, answer: Result<T, RemoteError>) -> Shown {
        Ok(render(&answer?, self.form))
    }

    pub fn deleted(&self, path: &str, what: String) -> Shown {
        self.deleted_on(path, what, IfVersion::default())
    }

    pub fn deleted_on(&self, path: &str, what: String, on: IfVersion) -> Shown {
        self.remote.delete(path, on.version)?;
        let done = Done {
            done: format!("deleted {what}"),
        };
        Ok(render(&done, self.form))
    }

    /// `status`.
    pub fn status(&self) -> Shown {
        self.show::<StatusAnswer>(self.remote.get(&path(&["status"])))
    }

    /// `cluster show`.
    pub fn cluster(&self) -> Shown {
        self.show::<ClusterAnswer>(self.remote.get(&path(&["cluster"])))
    }

    /// `node list`.
    pub fn nodes(&self) -> Shown {
        let answer: ClusterAnswer = self.remote.get(&path(&["cluster"]))?;
        self.show(Ok(Nodes(answer.nodes)))
    }

    /// `store ...`.
    pub fn store(&self, verb: StoreVerb) -> Shown {
        match verb {
            StoreVerb::List { page } => {
                let path = page.path(path(&["stores"]));
                self.show::<Vec<StoreAnswer>>(self.remote.get(&path))
            }
            StoreVerb::Scrub { id } => {
                let path = path(&["stores", &id.to_string(), "scrub"]);
                let begun = format!("store {id} is being read");
                self.begun_as_task(&path, begun, "every copy was read once")
            }
            StoreVerb::Member(verb) => self.member("stores", verb),
        }
    }

    /// `cluster api`.
    pub fn document(&self) -> Shown {
        let answer: serde_json::Value = self.remote.get(&path(&["openapi.json"]))?;
        Ok(render(&Plain(answer), self.form))
    }

    /// `capacity`.
    pub fn capacity(&self, arguments: &CapacityArgs) -> Shown {
        let mut path = path(&["capacity"]);
        let rf = arguments.rf.map(|rf| rf.to_string());
        query(
            &mut path,
            &[
                ("container", arguments.container.as_deref()),
                ("rf", rf.as_deref()),
            ],
        );
        self.show::<CapacityAnswer>(self.remote.get(&path))
    }

    /// `group-snapshot ...`.
    pub fn group_snapshot(&self, verb: GroupSnapshotVerb) -> Shown {
        let one = |id: &str| path(&["group-snapshots", id]);
        match verb {
            GroupSnapshotVerb::Create {
                name,
                volumes,
                labels,
            } => {
                let labels = labels.into_iter().collect();
                let spec = GroupSnapshotSpec {
                    name,
                    volumes,
                    labels,
                };
                let answer = self.remote.post(&path(&["group-snapshots"]), &spec);
                self.show::<GroupSnapshotAnswer>(answer)
            }
            GroupSnapshotVerb::List { page } => {
                let path = page.path(path(&["group-snapshots"]));
                self.show::<Vec<GroupSnapshotAnswer>>(self.remote.get(&path))
            }
            GroupSnapshotVerb::Show { id } => {
                self.show::<GroupSnapshotAnswer>(self.remote.get(&one(&id)))
            }
            GroupSnapshotVerb::Delete { id } => {
                let what = format!("group snapshot {id}");
                self.deleted_as_task(&one(&id), what, IfVersion::default())
            }
        }
    }

    /// `container ...`.
    pub fn container(&self, verb: ContainerVerb) -> Shown {
        match verb {
            ContainerVerb::Create { name, rf, policy } => {
                let spec = container_spec(name, rf, &policy);
                let answer = self.remote.post(&path(&["containers"]), &spec);
                self.show::<ContainerAnswer>(answer)
            }
            ContainerVerb::List { page } => {
                let path = page.path(path(&["containers"]));
                self.show::<Vec<ContainerAnswer>>(self.remote.get(&path))
            }
            ContainerVerb::Show { name } => {
                let path = path(&["containers", &name]);
                self.show::<ContainerAnswer>(self.remote.get(&path))
            }
            ContainerVerb::Set {
                name,
                rf,
                policy,
                on,
            } => {
                let change = ContainerChange {
                    rf,
                    min_copies: policy.min_copies,
                    sync: policy.sync.map(sync_name),
                    compression: policy.compression.map(compression_name),
                    quota: policy.quota,
                };
                let path = path(&["containers", &name]);
                let answer = self.remote.patch_if(&path, &change, on.version);
                self.show::<ContainerAnswer>(answer)
            }
            ContainerVerb::Delete { name, on } => {
                let path = path(&["containers", &name]);
                self.deleted_on(&path, format!("container {name}"), on)
            }
        }
    }

    /// `token ...`.
    pub fn token(&self, verb: TokenVerb) -> Shown {
        match verb {
            TokenVerb::Create {
                name,
                scope,
                limits,
                personal,
            } => {
                let spec = TokenSpec {
                    name,
                    scope: match scope {
                        TokenScope::Admin => Scope::Admin,
                        TokenScope::Operator => Scope::Operator,
                        TokenScope::Viewer => Scope::Viewer,
                        TokenScope::Csi => Scope::Csi,
                        TokenScope::Client => Scope::Client,
                    },
                    containers: limits.containers,
                    kubernetes: limits.kubernetes,
                    all_containers: limits.all_containers,
                    personal,
                };
                self.show::<TokenAnswer>(self.remote.post(&path(&["tokens"]), &spec))
            }
            TokenVerb::List { page } => {
                let path = page.path(path(&["tokens"]));
                self.show::<Vec<TokenAnswer>>(self.remote.get(&path))
            }
            TokenVerb::Show { name } => {
                self.show::<TokenAnswer>(self.remote.get(&path(&["tokens", &name])))
            }
            TokenVerb::Delete { name, on } => {
                let path = path(&["tokens", &name]);
                self.deleted_on(&path, format!("token {name}"), on)
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
                description,
            } => self.volume_create(VolumeSpec {
                name,
                container: Some(container),
                size: Some(size),
                labels: description.labels.into_iter().collect(),
                description: description.description,
                iops_limit: description.iops_limit,
                bandwidth_limit: description.bandwidth_limit,
                ..VolumeSpec::default()
            }),
            VolumeVerb::Set {
                name,
                description,
                removed,
                on,
            } => {
                let change = volume_change(description, removed);
                let path = path(&["volumes", &name]);
                let answer = self.remote.patch_if(&path, &change, on.version);
                self.show::<VolumeAnswer>(answer)
            }
            VolumeVerb::List { list } => {
                let path = listed(path(&["volumes"]), None, &list);
                self.show::<Vec<VolumeAnswer>>(self.remote.get(&path))
            }
            VolumeVerb::Show { name } => {
                self.show::<VolumeAnswer>(self.remote.get(&path(&["volumes", &name])))
            }
            VolumeVerb::Delete { name, on } => {
                let path = path(&["volumes", &name]);
                self.deleted_as_task(&path, format!("volume {name}"), on)
            }
            VolumeVerb::Resize { name, size, on } => {
                let path = path(&["volumes", &name, "resize"]);
                let body = http::Resize { size };
                self.show::<VolumeAnswer>(self.remote.post_if(&path, &body, on.version))
            }
            VolumeVerb::Restore { name, snapshot, on } => {
                let path = path(&["volumes", &name, "restore"]);
                let body = http::Restore { snapshot };
                self.show::<VolumeAnswer>(self.remote.post_if(&path, &body, on.version))
            }
            VolumeVerb::Drain { name } => {
                let path = path(&["volumes", &name, "drain"]);
                self.show::<VolumeAnswer>(self.remote.post(&path, &serde_json::json!({})))
            }
            VolumeVerb::Release { name } => {
                let path = path(&["volumes", &name, "release"]);
                self.show::<VolumeAnswer>(self.remote.post(&path, &serde_json::json!({})))
            }
        }
    }

    fn volume_create(&self, spec: VolumeSpec) -> Shown {
        self.show::<VolumeAnswer>(self.remote.post(&path(&["volumes"]), &spec))
    }

    /// `group ...`.
    pub fn group(&self, verb: GroupVerb) -> Shown {
        match verb {
            GroupVerb::List { page } => {
                let path = page.path(path(&["groups"]));
                self.show::<Vec<GroupAnswer>>(self.remote.get(&path))
            }
            GroupVerb::Show { id } => {
                let path = path(&["groups", &id.to_string()]);
                self.show::<GroupAnswer>(self.remote.get(&path))
            }
        }
    }

    /// `clone ...`.
    pub fn clone_volume(&self, arguments: CloneArgs) -> Shown {
        if let Some(CloneVerb::List { volume, list }) = arguments.verb {
            let path = listed(path(&["clones"]), volume.as_deref(), &list);
            return self.show::<Vec<CloneAnswer>>(self.remote.get(&path));
        }
        let needed = "the command line does not let it be absent";
        self.volume_create(VolumeSpec {
            name: arguments.name.expect(needed),
            container: arguments.container,
            size: arguments.size,
            from: Some(SnapshotRef {
                volume: arguments.volume.expect(needed),
                snapshot: arguments.snapshot,
            }),
            labels: arguments.labels.into_iter().collect(),
            ..VolumeSpec::default()
        })
    }

    /// `snapshot ...`.
    pub fn snapshot(&self, verb: SnapshotVerb) -> Shown {
        match verb {
            SnapshotVerb::Create {
                volume,
                name,
                labels,
            } => {
                let path = path(&["volumes", &volume, "snapshots"]);
                let labels = labels.into_iter().collect();
                let body = http::SnapshotName { name, labels };
                self.show::<SnapshotAnswer>(self.remote.post(&path, &body))
            }
            SnapshotVerb::Show { id } => {
                let path = path(&["snapshots", &id.to_string()]);
                self.show::<SnapshotAnswer>(self.remote.get(&path))
            }
            SnapshotVerb::List { volume, list } => {
                let path = match &volume {
                    Some(volume) => path(&["volumes", volume, "snapshots"]),
                    None => path(&["snapshots"]),
                };
                let path = listed(path, None, &list);
                self.show::<Vec<SnapshotAnswer>>(self.remote.get(&path))
            }
            SnapshotVerb::Delete { volume, name } => self.deleted_as_task(
                &path(&["volumes", &volume, "snapshots", &name]),
                format!("snapshot {name} of volume {volume}"),
                IfVersion::default(),
            ),
            SnapshotVerb::Diff {
                volume,
                from,
                to,
                offset,
                limit,
            } => {
                let mut path = path(&["volumes", &volume, "diff"]);
                let (offset, limit) = (number(offset), number(limit));
                query(
                    &mut path,
                    &[
                        ("from", from.as_deref()),
                        ("to", to.as_deref()),
                        ("offset", offset.as_deref()),
                        ("limit", limit.as_deref()),
                    ],
                );
                self.show::<DiffAnswer>(self.remote.get(&path))
            }
        }
    }
}

/// A number as text, if there is one.
pub fn number<N: ToString>(number: Option<N>) -> Option<String> {
    number.map(|number| number.to_string())
}

/// The path of a part of a list of volumes, snapshots or clones.
fn listed(mut path: String, volume: Option<&str>, list: &ListArgs) -> String {
    let written = ListSort::WRITTEN.iter();
    let sort = written.clone().find(|(_, sort)| Some(*sort) == list.sort);
    let (limit, after) = (number(list.page.limit), number(list.page.after));
    query(
        &mut path,
        &[
            ("sort", sort.map(|(text, _)| *text)),
            ("volume", volume),
            ("name", list.name.as_deref()),
            ("container", list.container.as_deref()),
            ("state", list.state.as_deref()),
            ("label", list.label.as_deref()),
            ("limit", limit.as_deref()),
            ("after", after.as_deref()),
        ],
    );
    path
}

fn volume_change(description: DescriptionArgs, removed: Vec<String>) -> VolumeChange {
    let set = description.labels.into_iter();
    let set = set.map(|(key, value)| (key, Some(value)));
    let removed = removed.into_iter().map(|key| (key, None));
    VolumeChange {
        labels: removed.chain(set).collect(),
        description: description.description,
        iops_limit: description.iops_limit,
        bandwidth_limit: description.bandwidth_limit,
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
