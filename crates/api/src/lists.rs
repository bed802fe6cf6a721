//! What lists that are answered whole are asked for: which items, in which order, and which part of them.
//!
//! Each names its fields. Without `limit`, `after`, `sort` and filters the answer is the whole list; fewer items than `limit` mean
//! the end.

use crate::query::LIMIT_MAX;
use crate::sort::{Order, orders};
use serde::{Deserialize, Serialize};

orders! {
    /// An order of containers.
    ContainerSort: "name", "id", "rf", "quota", "volumes", "provisioned";
    /// An order of users.
    UserSort: "name", "role", "created", "sessions";
    /// An order of tokens.
    TokenSort: "name", "scope", "user", "created";
    /// An order of targets of alerts.
    TargetSort: "name", "kind";
    /// An order of stores.
    StoreSort: "id", "node", "state", "standing", "capacity", "used", "groups";
    /// An order of group snapshots.
    GroupSnapshotSort: "id", "name", "created";
    /// An order of disks.
    DiskSort: "place", "node", "store", "size", "state", "used";
    /// An order of settings.
    SettingSort: "place", "key", "node", "value";
    /// An order of sessions.
    SessionSort: "id", "user", "created", "expires";
    /// An order of Kubernetes clusters.
    KubernetesSort: "name", "claims", "volumes", "size", "used", "reported";
    /// An order of placement groups.
    GroupSort: "id", "state", "rf", "bytes", "missing", "generation";
}

/// What all of these have.
pub trait Listing: Default + PartialEq {
    /// What a page goes on after.
    type After;

    /// Items at most.
    fn limit(&self) -> Option<u32>;
    /// The last item of the page before.
    fn after(&self) -> Option<&Self::After>;
    /// The order, if one is asked for.
    fn order(&self) -> Option<Order>;

    /// Whether the list is asked for as it is.
    fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

macro_rules! listings {
    ($($(#[$doc:meta])* $name:ident: after $after:ident, sort $sort:ident {
        $($(#[$about:meta])* $field:ident: $type:ident,)*
    })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Items at most, 1 to 1000.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub limit: Option<u32>,
            /// Only items behind this one: the last of the page before.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub after: Option<$after>,
            /// Another order than that by the first of these; `-` in front turns it round.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            #[cfg_attr(feature = "openapi", param(inline))]
            pub sort: Option<$sort>,
            $(
                $(#[$about])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl Listing for $name {
            type After = $after;

            fn limit(&self) -> Option<u32> {
                self.limit
            }

            fn after(&self) -> Option<&$after> {
                self.after.as_ref()
            }

            fn order(&self) -> Option<Order> {
                self.sort.map($sort::order)
            }
        }
    )+};
}

const _: () = assert!(LIMIT_MAX == 1000, "the descriptions of `limit` say so");

listings! {
    /// Which containers.
    ContainerQuery: after String, sort ContainerSort {
        /// Only those with so many copies.
        rf: u8,
    }
    /// Which users.
    UserQuery: after String, sort UserSort {
        /// Only those of this role: `viewer`, `operator` or `admin`.
        role: String,
    }
    /// Which tokens.
    TokenQuery: after String, sort TokenSort {
        /// Only those of this scope, such as `csi`.
        scope: String,
        /// Only personal ones of this user.
        user: String,
    }
    /// Which targets of alerts.
    TargetQuery: after String, sort TargetSort {
        /// Only those of this kind, such as `webhook`.
        kind: String,
    }
    /// Which stores.
    StoreQuery: after u64, sort StoreSort {
        /// Only those of this node: its name, or its id.
        node: String,
        /// Only those in this state, such as `ready`.
        state: String,
        /// Only those with this standing, such as `draining`.
        standing: String,
    }
    /// Which group snapshots.
    GroupSnapshotQuery: after u64, sort GroupSnapshotSort {
        /// Only that of this name.
        name: String,
        /// Only those that are whole, or are not.
        ready: bool,
    }
    /// Which disks. A disk's place is `NODE/STORE/PATH`.
    DiskQuery: after String, sort DiskSort {
        /// Only those of this node: its name, or its id.
        node: String,
        /// Only those of this store.
        store: u32,
        /// Only those in this state, such as `ready`.
        state: String,
    }
    /// Which settings. A setting's place is `KEY/NODE`.
    SettingQuery: after String, sort SettingSort {
        /// Only those of the node with this name.
        node: String,
        /// Only this one.
        key: String,
    }
    /// Whose sessions, and which. The newest come first, unless another order is asked for.
    SessionQuery: after String, sort SessionSort {
        /// Only sessions of this user; nothing: of all for an administrator, one's own for everybody else.
        user: String,
    }
    /// Which Kubernetes clusters.
    KubernetesQuery: after String, sort KubernetesSort {
        /// Only those that were not heard for a while, or were.
        silent: bool,
    }
    /// Which placement groups.
    GroupQuery: after u64, sort GroupSort {
        /// Only those with so many copies wanted.
        rf: u8,
        /// Only those in this state: `ok`, `filling`, `degraded` or `unavailable`.
        state: String,
        /// Only those that have this store as a member, or had it and it still holds something.
        store: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_anything_is_for_the_whole_list() {
        let whole: StoreQuery = serde_json::from_str("{}").expect("nothing is needed");
        assert!(whole.is_all() && whole.order().is_none());
        let some = r#"{"limit":5,"after":3,"sort":"-used","state":"ready"}"#;
        let read: StoreQuery = serde_json::from_str(some).expect("known fields");
        let order = read.order().expect("it is said");
        assert!(!read.is_all() && order.down && order.field == "used" && !order.is_place);
        assert_eq!(serde_json::to_string(&read).expect("plain data"), some);
        for odd in [r#"{"sort":"size"}"#, r#"{"name":"x"}"#] {
            assert!(serde_json::from_str::<StoreQuery>(odd).is_err(), "{odd}");
        }
    }
}
