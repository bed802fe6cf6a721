//! Which part of a list, in which order: the parameters that the API's lists have, by the same names.

use api::http;
use clap::Args;

/// A part of a list whose items are known by name.
#[derive(Clone, Debug, Default, Args)]
pub struct NamePageArgs {
    /// Items at most, 1 to 1000; nothing: all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Only items that come after this one: the last one of the page before; of a disk NODE/STORE/PATH, of a setting KEY/NODE.
    #[arg(long, value_name = "NAME")]
    pub after: Option<String>,
}

/// A part of a list whose items are known by id.
#[derive(Clone, Debug, Default, Args)]
pub struct IdPageArgs {
    /// Items at most, 1 to 1000; nothing: all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
    /// Only items that come after this one: id of the last one of the page before.
    #[arg(long, value_name = "ID")]
    pub after: Option<u64>,
}

/// Which volumes or snapshots, and in which order.
#[derive(Clone, Debug, Default, Args)]
pub struct ListArgs {
    /// By name, size or created, with `-` in front from the other end: --sort=-size.
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<api::ListSort>,
    /// Only what has this name.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only what is in this container.
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Only what is in this state, such as ready.
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// Only what has this label.
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Option<String>,
    /// Which part.
    #[command(flatten)]
    pub page: IdPageArgs,
}

/// Appends what is given to a path.
pub fn query(path: &mut String, fields: &[(&str, Option<&str>)]) {
    let given = fields
        .iter()
        .filter_map(|(key, value)| Some((key, (*value)?)));
    for (index, (key, value)) in given.enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(key);
        path.push('=');
        http::encode(value, path);
    }
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident: $page:ident, $sort:ident, $fields:literal {
        $($(#[$about:meta])* $field:ident: $type:ty,)*
    })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Args)]
        pub struct $name {
            /// The order.
            #[arg(
                long,
                value_name = "FIELD",
                allow_hyphen_values = true,
                help = concat!("By ", $fields, "; with `-` in front from the other end: --sort=-FIELD")
            )]
            pub sort: Option<api::$sort>,
            $(
                $(#[$about])*
                #[arg(long)]
                pub $field: Option<$type>,
            )*
            /// Which part.
            #[command(flatten)]
            pub page: $page,
        }

        impl $name {
            /// The path of what is asked for, below that of the list.
            #[must_use]
            pub fn path(&self, mut path: String) -> String {
                let sort = self.sort.map(String::from);
                let limit = self.page.limit.map(|limit| limit.to_string());
                let after = self.page.after.as_ref().map(ToString::to_string);
                $(let $field = self.$field.as_ref().map(ToString::to_string);)*
                query(
                    &mut path,
                    &[
                        ("sort", sort.as_deref()),
                        $((stringify!($field), $field.as_deref()),)*
                        ("limit", limit.as_deref()),
                        ("after", after.as_deref()),
                    ],
                );
                path
            }
        }
    )+};
}

lists! {
    /// Which containers.
    ContainerListArgs: NamePageArgs, ContainerSort, "name, id, rf, quota, volumes or provisioned" {
        /// Only those with so many copies.
        rf: u8,
    }
    /// Which users.
    UserListArgs: NamePageArgs, UserSort, "name, role, created or sessions" {
        /// Only those of this role.
        role: String,
    }
    /// Which tokens.
    TokenListArgs: NamePageArgs, TokenSort, "name, scope, user or created" {
        /// Only those of this scope.
        scope: String,
        /// Only personal ones of this user.
        user: String,
    }
    /// Which targets of alerts.
    TargetListArgs: NamePageArgs, TargetSort, "name or kind" {
        /// Only those of this kind, such as webhook.
        kind: String,
    }
    /// Which stores.
    StoreListArgs: IdPageArgs, StoreSort, "id, node, state, standing, capacity, used or groups" {
        /// Only those of this node: its name, or its id.
        node: String,
        /// Only those in this state, such as ready.
        state: String,
        /// Only those with this standing, such as draining.
        standing: String,
    }
    /// Which group snapshots.
    GroupSnapshotListArgs: IdPageArgs, GroupSnapshotSort, "id, name or created" {
        /// Only that of this name.
        name: String,
        /// Only those that are whole (true), or are not (false).
        ready: bool,
    }
    /// Which placement groups.
    GroupListArgs: IdPageArgs, GroupSort, "id, state, rf, bytes, missing or generation" {
        /// Only those with so many copies wanted.
        rf: u8,
        /// Only those in this state: ok, filling, degraded or unavailable.
        state: String,
        /// Only those that have this store, or had it and it still holds something.
        store: u32,
    }
    /// Which disks.
    DiskListArgs: NamePageArgs, DiskSort, "place (node, store and path), node, store, size, state or used" {
        /// Only those of this node: its name, or its id.
        node: String,
        /// Only those of this store.
        store: u32,
        /// Only those in this state, such as ready.
        state: String,
    }
    /// Which settings.
    SettingListArgs: NamePageArgs, SettingSort, "place (key and node), key, node or value" {
        /// Only those of the node with this name.
        node: String,
        /// Only this one.
        key: String,
    }
    /// Which sessions.
    SessionListArgs: NamePageArgs, SessionSort, "id, user, created or expires" {
        /// Only those of this user.
        user: String,
    }
    /// Which Kubernetes clusters.
    KubernetesListArgs: NamePageArgs, KubernetesSort, "name, claims, volumes, size, used or reported" {
        /// Only those that were not heard for a while (true), or were (false).
        silent: bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_asked_for_as_it_is_typed() {
        let arguments = StoreListArgs {
            sort: Some("-used".parse().unwrap()),
            state: Some("not ready".to_owned()),
            page: IdPageArgs {
                limit: Some(5),
                after: Some(3),
            },
            ..StoreListArgs::default()
        };
        let path = arguments.path("/stores".to_owned());
        assert_eq!(path, "/stores?sort=-used&state=not%20ready&limit=5&after=3");
        let all = StoreListArgs::default().path("/stores".to_owned());
        assert_eq!(all, "/stores");
    }
}
