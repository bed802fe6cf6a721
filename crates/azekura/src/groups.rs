//! Placement groups and clones as tables.

use crate::output::{Table, bytes, columns, fields, time};
use api::{CloneAnswer, GroupAnswer, GroupStoreAnswer};

/// `3, 5 (filling), 9 (away)`: what is not as it should be is said.
fn stores(stores: &[GroupStoreAnswer]) -> String {
    let one = |one: &GroupStoreAnswer| {
        let mut words = Vec::new();
        if one.role == "filling" {
            words.push("filling");
        }
        if one.standing != "present" {
            words.push(&one.standing);
        }
        if one.leaving {
            words.push("leaving");
        }
        match words.is_empty() {
            true => one.store.to_string(),
            false => format!("{} ({})", one.store, words.join(", ")),
        }
    };
    match stores.is_empty() {
        true => "-".to_owned(),
        false => stores.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

fn size(known: Option<u64>) -> String {
    known.map_or_else(|| "-".to_owned(), bytes)
}

impl Table for Vec<GroupAnswer> {
    fn table(&self) -> String {
        let row = |group: &GroupAnswer| {
            vec![
                group.id.to_string(),
                group.state.clone(),
                group.rf.to_string(),
                group.missing.to_string(),
                size(group.bytes),
                stores(&group.members),
                stores(&group.former),
            ]
        };
        let rows: Vec<_> = self.iter().map(row).collect();
        columns(
            &["ID", "STATE", "RF", "MISSING", "BYTES", "STORES", "FORMER"],
            &rows,
        )
    }
}

impl Table for GroupAnswer {
    fn table(&self) -> String {
        let row = |one: &GroupStoreAnswer| {
            let leaving = if one.leaving { "yes" } else { "no" };
            vec![
                one.store.to_string(),
                one.role.clone(),
                one.standing.clone(),
                leaving.to_owned(),
                size(one.bytes),
            ]
        };
        let head = fields(&[
            ("id", self.id.to_string()),
            ("state", self.state.clone()),
            ("generation", self.generation.to_string()),
            ("copies wanted", self.rf.to_string()),
            ("copies missing", self.missing.to_string()),
            ("bytes of a copy", size(self.bytes)),
        ]);
        let rows: Vec<_> = self.members.iter().chain(&self.former).map(row).collect();
        let table = columns(&["STORE", "ROLE", "STANDING", "LEAVING", "BYTES"], &rows);
        format!("{head}\n{table}")
    }
}

impl Table for Vec<CloneAnswer> {
    fn table(&self) -> String {
        let row = |clone: &CloneAnswer| {
            let gone = |id: u64| format!("(deleted, id {id})");
            let volume = clone.volume.clone();
            let snapshot = clone.snapshot.clone();
            vec![
                clone.name.clone(),
                clone.container.clone(),
                bytes(clone.size),
                volume.unwrap_or_else(|| gone(clone.volume_id)),
                snapshot.unwrap_or_else(|| gone(clone.snapshot_id)),
                size(clone.shared),
                size(clone.exclusive),
                time(clone.created_ms),
            ]
        };
        let rows: Vec<_> = self.iter().map(row).collect();
        columns(
            &[
                "NAME",
                "CONTAINER",
                "SIZE",
                "VOLUME",
                "SNAPSHOT",
                "SHARED",
                "EXCLUSIVE",
                "CREATED",
            ],
            &rows,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_says_of_its_stores_what_is_not_as_it_should_be() {
        let store = |store, role: &str, standing: &str, leaving| GroupStoreAnswer {
            store,
            role: role.to_owned(),
            standing: standing.to_owned(),
            leaving,
            bytes: None,
        };
        let group = GroupAnswer {
            id: 7,
            state: "degraded".to_owned(),
            members: vec![
                store(3, "complete", "present", false),
                store(5, "filling", "present", false),
                store(9, "complete", "away", true),
            ],
            ..GroupAnswer::default()
        };
        let table = vec![group.clone()].table();
        assert!(
            table.contains("3, 5 (filling), 9 (away, leaving)  -"),
            "{table}"
        );
        assert!(
            group.table().contains("copies missing"),
            "{}",
            group.table()
        );
    }

    #[test]
    fn a_clone_names_what_is_gone_by_its_id() {
        let clone = CloneAnswer {
            name: "c".to_owned(),
            volume: Some("db".to_owned()),
            snapshot_id: 34,
            shared: Some(4096),
            ..CloneAnswer::default()
        };
        let table = vec![clone].table();
        assert!(table.contains("db      (deleted, id 34)  4 KiB"), "{table}");
    }
}
