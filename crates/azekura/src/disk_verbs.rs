//! The verbs on disks that ask a node.

use crate::cli::{DiskVerb, IfVersion, MemberVerb};
use crate::output::{Table, bytes, columns};
use crate::remote::RemoteError;
use crate::verbs::{Console, Shown};
use api::http::path;
use api::{DiskAnswer, DiskLight, DiskReplacement, DiskSpec, OperationError};

impl Console<'_> {
    /// `disk ...`
    pub fn disk(&self, verb: DiskVerb) -> Shown {
        let member = |disk: String, verb: &dyn Fn(String) -> MemberVerb| {
            let store = self.store_of(&disk)?.to_string();
            self.member("stores", verb(store))
        };
        match verb {
            DiskVerb::List { page } => {
                let path = page.path(path(&["disks"]));
                self.show::<Vec<DiskAnswer>>(self.remote.get(&path))
            }
            DiskVerb::Add(add) => {
                let spec = DiskSpec {
                    node: add.node,
                    paths: add.disks.paths,
                    create: add.disks.create,
                    journal: add.disks.journal_size,
                    overrides: add.disks.overrides,
                };
                self.show::<Vec<DiskAnswer>>(self.remote.post(&path(&["disks"]), &spec))
            }
            DiskVerb::Drain { disk, wait } => member(disk, &move |name| MemberVerb::Drain {
                name,
                wait,
                on: IfVersion::default(),
            }),
            DiskVerb::Undrain { disk } => member(disk, &|name| MemberVerb::Undrain {
                name,
                on: IfVersion::default(),
            }),
            DiskVerb::Remove { disk, lost } => {
                member(disk, &move |name| MemberVerb::Remove { name, lost })
            }
            DiskVerb::Replace(replace) => {
                let store = self.store_of(&replace.old)?.to_string();
                let with = DiskReplacement {
                    paths: replace.disks.paths,
                    create: replace.disks.create,
                    journal: replace.disks.journal_size,
                    overrides: replace.disks.overrides,
                    lost: replace.lost,
                };
                let path = path(&["disks", &store, "replace"]);
                self.show::<Vec<DiskAnswer>>(self.remote.post(&path, &with))
            }
            DiskVerb::Locate { disk, off } => {
                let store = self.store_of(&disk)?.to_string();
                let one = disk.split_once(':').map(|(_, place)| place.to_owned());
                let light = DiskLight {
                    path: one,
                    on: !off,
                };
                let path = path(&["disks", &store, "locate"]);
                self.show::<Vec<DiskAnswer>>(self.remote.post(&path, &light))
            }
            DiskVerb::Format(_) | DiskVerb::Show { .. } => unreachable!("it is carried out here"),
        }
    }

    /// The store of a disk that a person names.
    fn store_of(&self, disk: &str) -> Result<u32, RemoteError> {
        if let Ok(store) = disk.parse() {
            return Ok(store);
        }
        let wrong = |reason: String| RemoteError::Refused(OperationError::bad_request(reason));
        let Some((node, place)) = disk.split_once(':') else {
            return Err(wrong(format!(
                "`{disk}` names no disk: write NODE:PATH or the id of its store, as `azekura disk list` shows them"
            )));
        };
        let disks: Vec<DiskAnswer> = self.remote.get(&path(&["disks"]))?;
        let found = disks
            .iter()
            .find(|one| one.node == node && one.path == place);
        let missing = || {
            RemoteError::Refused(OperationError::not_found(format!(
                "node {node} has no disk {place}, or does not answer: see `azekura disk list`"
            )))
        };
        found.map(|one| one.store).ok_or_else(missing)
    }
}

/// The word for the light of a disk.
fn light_of(disk: &DiskAnswer) -> &'static str {
    match disk.light {
        Some(true) => "on",
        Some(false) => "off",
        None => "-",
    }
}

impl Table for Vec<DiskAnswer> {
    fn table(&self) -> String {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let row = |disk: &DiskAnswer| {
            let path = match disk.path.as_str() {
                "" => "-",
                path => path,
            };
            vec![
                disk.node.clone(),
                disk.store.to_string(),
                path.to_owned(),
                disk.size.map_or_else(|| "-".to_owned(), bytes),
                bytes(disk.used),
                disk.state.clone(),
                disk.standing.clone(),
                disk.groups.to_string(),
                or_dash(&disk.model),
                or_dash(&disk.serial),
                light_of(disk).to_owned(),
                or_dash(&disk.reason),
            ]
        };
        let rows: Vec<_> = self.iter().map(row).collect();
        let head = [
            "NODE", "STORE", "PATH", "SIZE", "USED", "STATE", "STANDING", "GROUPS", "MODEL",
            "SERIAL", "LIGHT", "REASON",
        ];
        columns(&head, &rows)
    }
}
