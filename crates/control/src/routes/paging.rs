//! Parts of lists that the backend answers whole.
//!
//! What a list can be ordered by and which filters it has is in `api::lists`; here is what its items have in these fields.

use super::{Shared, bad};
use crate::reply::Reply;
use api::sort::{Key, Order, Part, check_limit};
use api::{
    AlertOperation, AlertTargetAnswer, Answer, ContainerAnswer, ContainerQuery, DiskAnswer,
    DiskQuery, GroupAnswer, GroupQuery, GroupSnapshotAnswer, GroupSnapshotQuery, KubernetesAnswer,
    KubernetesListAnswer, KubernetesOperation, KubernetesQuery, Listing, NodeAnswer,
    OpenSessionAnswer, Operation, OperationError, SessionQuery, SettingAnswer, SettingQuery,
    StoreAnswer, StoreQuery, TargetQuery, TokenAnswer, TokenQuery, UserAnswer, UserQuery,
};
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

/// A query of a list, as it was sent.
pub(super) type Asked<Q> = Result<Query<Q>, QueryRejection>;

/// A list that the backend answers whole, and of which a part is asked for.
pub(super) trait Whole: Listing {
    /// What is in it.
    type Item;
    /// What items are told apart by.
    type Place: Ord;

    /// What asks for it.
    const LIST: fn() -> Operation;

    /// The order when none is asked for.
    const ORDER: Order = Order::PLACE;

    /// The items of an answer, if it is of this list.
    fn items(answer: Answer) -> Option<Vec<Self::Item>>;
    /// The answer of these.
    fn answer(items: Vec<Self::Item>) -> Answer;
    /// The place of an item.
    fn place(item: &Self::Item) -> Self::Place;
    /// The place that `after` names.
    fn place_of(after: &Self::After) -> Result<Self::Place, OperationError>;
    /// What an item has in a field other than its place.
    fn key(item: &Self::Item, field: &str) -> Key;
    /// Whether an item passes the filters.
    fn wants(&self, item: &Self::Item) -> bool;

    /// The node that a filter names, by its name or its id. Items have one of the two only: [`Whole::resolve`] makes it that.
    fn node(&self) -> Option<&str> {
        None
    }
    /// Takes the node that is named so for that one.
    fn resolve(&mut self, _node: &NodeAnswer) {}
}

/// The node that somebody calls so. A name counts before an id.
fn node_called<'a>(nodes: &'a [NodeAnswer], text: &str) -> Option<&'a NodeAnswer> {
    let by_name = nodes.iter().find(|node| node.name == text);
    by_name.or_else(|| nodes.iter().find(|node| node.id.to_string() == text))
}

/// Whether a filter lets a value pass.
fn is<T: PartialEq>(wanted: &Option<T>, value: &T) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == value)
}

/// The part of a list that a query asks for.
pub(super) fn part<Q: Whole>(query: &Q, answer: Answer) -> Result<Answer, OperationError> {
    if query.is_all() {
        return Ok(answer);
    }
    let part = Part {
        order: query.order().unwrap_or(Q::ORDER),
        after: query.after().map(Q::place_of).transpose()?,
        limit: check_limit(query.limit())?,
    };
    let odd = || OperationError::failed("a question for a list was answered by something else");
    let all = Q::items(answer).ok_or_else(odd)?;
    let kept = part.of(all, Q::place, Q::key, |item| query.wants(item));
    Ok(Q::answer(kept?))
}

impl Shared {
    /// A list, or the part of it that is asked for.
    pub(super) async fn listed<Q: Whole>(&self, query: Asked<Q>) -> Reply {
        let answered = async {
            let Query(mut query) = query.map_err(|cause| bad(&cause))?;
            check_limit(query.limit())?;
            query.after().map(Q::place_of).transpose()?;
            if let Some(text) = query.node()
                && let Answer::Cluster(cluster) = self.call(Operation::Cluster).await?
                && let Some(node) = node_called(&cluster.nodes, text)
            {
                query.resolve(node);
            }
            part(&query, self.call(Q::LIST()).await?)
        };
        answered.await.into()
    }
}

/// What most lists have: items in an answer of their own, a place that is written as it is.
macro_rules! whole {
    ($answer:ident of $item:ty, placed by $after:ty) => {
        type Item = $item;
        type Place = $after;

        fn items(answer: Answer) -> Option<Vec<$item>> {
            match answer {
                Answer::$answer(items) => Some(items),
                _ => None,
            }
        }

        fn answer(items: Vec<$item>) -> Answer {
            Answer::$answer(items)
        }

        fn place_of(after: &$after) -> Result<$after, OperationError> {
            Ok(after.clone())
        }
    };
}

impl Whole for ContainerQuery {
    whole!(Containers of ContainerAnswer, placed by String);

    const LIST: fn() -> Operation = || Operation::ContainerList;

    fn place(item: &ContainerAnswer) -> String {
        item.name.clone()
    }

    fn key(item: &ContainerAnswer, field: &str) -> Key {
        match field {
            "id" => u64::from(item.id).into(),
            "rf" => u64::from(item.rf).into(),
            "quota" => item.quota.into(),
            "volumes" => item.volumes.into(),
            "provisioned" => item.provisioned.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &ContainerAnswer) -> bool {
        is(&self.rf, &item.rf)
    }
}

impl Whole for UserQuery {
    whole!(Users of UserAnswer, placed by String);

    const LIST: fn() -> Operation = || Operation::UserList;

    fn place(item: &UserAnswer) -> String {
        item.name.clone()
    }

    fn key(item: &UserAnswer, field: &str) -> Key {
        match field {
            "role" => (item.role as u64).into(),
            "created" => item.created_ms.into(),
            "sessions" => u64::from(item.sessions).into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &UserAnswer) -> bool {
        is(&self.role, &item.role.to_string())
    }
}

impl Whole for TokenQuery {
    whole!(Tokens of TokenAnswer, placed by String);

    const LIST: fn() -> Operation = || Operation::TokenList;

    fn place(item: &TokenAnswer) -> String {
        item.name.clone()
    }

    fn key(item: &TokenAnswer, field: &str) -> Key {
        match field {
            "scope" => item.scope.to_string().as_str().into(),
            "user" => item.user.as_deref().into(),
            "created" => item.created_ms.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &TokenAnswer) -> bool {
        let is_of = self.user.is_none() || self.user == item.user;
        is_of && is(&self.scope, &item.scope.to_string())
    }
}

impl Whole for TargetQuery {
    whole!(AlertTargets of AlertTargetAnswer, placed by String);

    const LIST: fn() -> Operation = || Operation::Alert(AlertOperation::TargetList);

    fn place(item: &AlertTargetAnswer) -> String {
        item.name.clone()
    }

    fn key(item: &AlertTargetAnswer, field: &str) -> Key {
        match field {
            "kind" => item.kind.as_str().into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &AlertTargetAnswer) -> bool {
        is(&self.kind, &item.kind)
    }
}

impl Whole for StoreQuery {
    whole!(Stores of StoreAnswer, placed by u64);

    const LIST: fn() -> Operation = || Operation::StoreList;

    fn place(item: &StoreAnswer) -> u64 {
        u64::from(item.id)
    }

    fn key(item: &StoreAnswer, field: &str) -> Key {
        match field {
            "node" => u64::from(item.node).into(),
            "state" => item.state.as_str().into(),
            "standing" => item.standing.as_str().into(),
            "capacity" => item.capacity.into(),
            "used" => item.used.into(),
            "groups" => u64::from(item.groups).into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &StoreAnswer) -> bool {
        let stands = is(&self.state, &item.state) && is(&self.standing, &item.standing);
        stands && is(&self.node, &item.node.to_string())
    }

    fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    fn resolve(&mut self, node: &NodeAnswer) {
        self.node = Some(node.id.to_string());
    }
}

impl Whole for GroupSnapshotQuery {
    whole!(GroupSnapshots of GroupSnapshotAnswer, placed by u64);

    const LIST: fn() -> Operation = || Operation::GroupSnapshotList;

    fn place(item: &GroupSnapshotAnswer) -> u64 {
        item.id.parse().unwrap_or(u64::MAX)
    }

    fn key(item: &GroupSnapshotAnswer, field: &str) -> Key {
        match field {
            "name" => item.name.as_str().into(),
            "created" => item.created_ms.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &GroupSnapshotAnswer) -> bool {
        is(&self.name, &item.name) && is(&self.ready, &item.ready)
    }
}

impl Whole for GroupQuery {
    whole!(Groups of GroupAnswer, placed by u64);

    const LIST: fn() -> Operation = || Operation::GroupList;

    fn place(item: &GroupAnswer) -> u64 {
        u64::from(item.id)
    }

    fn key(item: &GroupAnswer, field: &str) -> Key {
        match field {
            "state" => item.state.as_str().into(),
            "rf" => u64::from(item.rf).into(),
            "bytes" => item.bytes.into(),
            "missing" => u64::from(item.missing).into(),
            "generation" => item.generation.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &GroupAnswer) -> bool {
        let stores = || item.members.iter().chain(&item.former);
        let has = |id: u32| stores().any(|one| one.store == id);
        is(&self.rf, &item.rf) && is(&self.state, &item.state) && self.store.is_none_or(has)
    }
}

/// Sessions are answered apart: `accounts.rs` says whose may be asked for.
impl Whole for SessionQuery {
    whole!(Sessions of OpenSessionAnswer, placed by String);

    const LIST: fn() -> Operation = || Operation::SessionList { user: None };

    const ORDER: Order = Order {
        field: "created",
        is_place: false,
        down: true,
    };

    fn place(item: &OpenSessionAnswer) -> String {
        item.id.clone()
    }

    fn key(item: &OpenSessionAnswer, field: &str) -> Key {
        match field {
            "user" => item.user.as_str().into(),
            "created" => item.created_ms.into(),
            "expires" => item.expires_ms.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &OpenSessionAnswer) -> bool {
        is(&self.user, &item.user)
    }
}

impl Whole for KubernetesQuery {
    type Item = KubernetesAnswer;
    type Place = String;

    const LIST: fn() -> Operation = || Operation::Kubernetes(KubernetesOperation::List);

    fn items(answer: Answer) -> Option<Vec<KubernetesAnswer>> {
        match answer {
            Answer::KubernetesList(list) => Some(list.items),
            _ => None,
        }
    }

    fn answer(items: Vec<KubernetesAnswer>) -> Answer {
        Answer::KubernetesList(KubernetesListAnswer { items })
    }

    fn place(item: &KubernetesAnswer) -> String {
        item.name.clone()
    }

    fn place_of(after: &String) -> Result<String, OperationError> {
        Ok(after.clone())
    }

    fn key(item: &KubernetesAnswer, field: &str) -> Key {
        match field {
            "claims" => item.claims.into(),
            "volumes" => item.volumes.into(),
            "size" => item.size.into(),
            "used" => item.used.into(),
            "reported" => item.reported_ms.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &KubernetesAnswer) -> bool {
        is(&self.silent, &item.silent)
    }
}

impl Whole for DiskQuery {
    type Item = DiskAnswer;
    type Place = (String, u32, String);

    const LIST: fn() -> Operation = || Operation::DiskList;

    fn items(answer: Answer) -> Option<Vec<DiskAnswer>> {
        match answer {
            Answer::Disks(items) => Some(items),
            _ => None,
        }
    }

    fn answer(items: Vec<DiskAnswer>) -> Answer {
        Answer::Disks(items)
    }

    fn place(disk: &DiskAnswer) -> Self::Place {
        (disk.node.clone(), disk.store, disk.path.clone())
    }

    fn place_of(text: &String) -> Result<Self::Place, OperationError> {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next();
        let place = match (next(), next().map(str::parse), next()) {
            (Some(node), Some(Ok(store)), Some(path)) => {
                Some((node.to_owned(), store, path.to_owned()))
            }
            _ => None,
        };
        place.ok_or_else(|| {
            OperationError::bad_request(format!(
                "`after` of disks is NODE/STORE/PATH, as in node-1/3//dev/sdb, and not `{text}`"
            ))
        })
    }

    fn key(disk: &DiskAnswer, field: &str) -> Key {
        match field {
            "node" => disk.node.as_str().into(),
            "store" => u64::from(disk.store).into(),
            "size" => disk.size.into(),
            "state" => disk.state.as_str().into(),
            "used" => disk.used.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, disk: &DiskAnswer) -> bool {
        is(&self.node, &disk.node) && is(&self.store, &disk.store) && is(&self.state, &disk.state)
    }

    fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    fn resolve(&mut self, node: &NodeAnswer) {
        self.node = Some(node.name.clone());
    }
}

impl Whole for SettingQuery {
    type Item = SettingAnswer;
    type Place = (String, String);

    const LIST: fn() -> Operation = || Operation::SettingList;

    fn items(answer: Answer) -> Option<Vec<SettingAnswer>> {
        match answer {
            Answer::Settings(items) => Some(items),
            _ => None,
        }
    }

    fn answer(items: Vec<SettingAnswer>) -> Answer {
        Answer::Settings(items)
    }

    fn place(item: &SettingAnswer) -> Self::Place {
        (item.key.clone(), item.node.clone())
    }

    fn place_of(text: &String) -> Result<Self::Place, OperationError> {
        let place = text.split_once('/');
        let place = place.map(|(key, node)| (key.to_owned(), node.to_owned()));
        place.ok_or_else(|| {
            OperationError::bad_request(format!(
                "`after` of settings is KEY/NODE, as in groups/node-1, and not `{text}`"
            ))
        })
    }

    fn key(item: &SettingAnswer, field: &str) -> Key {
        match field {
            "key" => item.key.as_str().into(),
            "node" => item.node.as_str().into(),
            "value" => item.value.into(),
            _ => Key::Nothing,
        }
    }

    fn wants(&self, item: &SettingAnswer) -> bool {
        is(&self.node, &item.node) && is(&self.key, &item.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_disk_has_one_place() {
        let disk = DiskAnswer {
            node: "n".to_owned(),
            store: 3,
            path: "/dev/disk/by-id/a".to_owned(),
            ..DiskAnswer::default()
        };
        let place_of = |text: &str| DiskQuery::place_of(&text.to_owned());
        assert_eq!(
            place_of("n/3//dev/disk/by-id/a"),
            Ok(DiskQuery::place(&disk))
        );
        assert!(place_of("n/3/").is_ok(), "a node that is away says no path");
        for odd in ["", "n", "n/3", "n/x/", "//"] {
            assert!(place_of(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_node_is_called_by_its_name_or_its_id_in_either_list() {
        let node = |id, name: &str| NodeAnswer {
            id,
            name: name.to_owned(),
            ..NodeAnswer::default()
        };
        let nodes = [node(1, "a"), node(2, "b"), node(3, "1")];
        let found = |text: &str| node_called(&nodes, text).map(|node| node.id);
        assert_eq!(
            [found("a"), found("2"), found("1"), found("9")],
            [Some(1), Some(2), Some(3), None]
        );
        let mut stores = StoreQuery::default();
        stores.resolve(&nodes[1]);
        let mut disks = DiskQuery::default();
        disks.resolve(&nodes[1]);
        let store = StoreAnswer {
            node: 2,
            ..StoreAnswer::default()
        };
        let disk = DiskAnswer {
            node: "b".to_owned(),
            ..DiskAnswer::default()
        };
        assert!(stores.wants(&store) && disks.wants(&disk));
        assert!(!stores.wants(&StoreAnswer::default()) && !disks.wants(&DiskAnswer::default()));
    }

    /// Whether each field that a list can be ordered by, but its place, tells two items apart that differ in everything.
    fn every_field_counts<Q: Whole>(fields: &[&str], one: serde_json::Value)
    where
        Q::Item: serde::de::DeserializeOwned,
    {
        let item: Q::Item = serde_json::from_value(one).expect("an item");
        for field in &fields[1..] {
            assert!(Q::key(&item, field) != Key::Nothing, "{field}");
        }
    }

    #[test]
    fn what_a_list_can_be_ordered_by_is_in_its_items() {
        fn whole<T: serde::Serialize>(item: T, more: serde_json::Value) -> serde_json::Value {
            let mut value = serde_json::to_value(item).expect("plain data");
            let fields = value.as_object_mut().expect("an object");
            fields.extend(more.as_object().expect("an object").clone());
            value
        }
        use api::{
            ContainerSort, DiskSort, GroupSnapshotSort, GroupSort, KubernetesSort, SessionSort,
            SettingSort, StoreSort, TargetSort, TokenSort, UserSort,
        };
        let user = json!({"name": "u", "role": "viewer", "created_ms": 1, "sessions": 2});
        every_field_counts::<UserQuery>(UserSort::FIELDS, user);
        let token = json!({"name": "t", "scope": "csi", "user": "u", "created_ms": 1});
        every_field_counts::<TokenQuery>(TokenSort::FIELDS, token);
        let quota = json!({"quota": 1});
        let container = whole(ContainerAnswer::default(), quota);
        every_field_counts::<ContainerQuery>(ContainerSort::FIELDS, container);
        let nothing = || json!({});
        let target = whole(AlertTargetAnswer::default(), nothing());
        every_field_counts::<TargetQuery>(TargetSort::FIELDS, target);
        let store = whole(StoreAnswer::default(), nothing());
        every_field_counts::<StoreQuery>(StoreSort::FIELDS, store);
        let taken = whole(GroupSnapshotAnswer::default(), nothing());
        every_field_counts::<GroupSnapshotQuery>(GroupSnapshotSort::FIELDS, taken);
        let group = whole(GroupAnswer::default(), json!({"bytes": 1}));
        every_field_counts::<GroupQuery>(GroupSort::FIELDS, group);
        let session = whole(OpenSessionAnswer::default(), nothing());
        every_field_counts::<SessionQuery>(SessionSort::FIELDS, session);
        let heard = json!({"reported_ms": 1});
        let kubernetes = whole(KubernetesAnswer::default(), heard);
        every_field_counts::<KubernetesQuery>(KubernetesSort::FIELDS, kubernetes);
        let disk = whole(DiskAnswer::default(), json!({"size": 1}));
        every_field_counts::<DiskQuery>(DiskSort::FIELDS, disk);
        let setting = whole(SettingAnswer::default(), nothing());
        every_field_counts::<SettingQuery>(SettingSort::FIELDS, setting);
    }

    #[test]
    fn a_part_is_filtered_and_ordered_and_the_whole_is_left_as_it_came() {
        let store = |id, used, state: &str| StoreAnswer {
            id,
            used,
            state: state.to_owned(),
            ..StoreAnswer::default()
        };
        let all = || {
            let stores = [(3, 5, "ready"), (1, 9, "ready"), (2, 7, "failed")];
            Answer::Stores(
                stores
                    .map(|(id, used, state)| store(id, used, state))
                    .into(),
            )
        };
        let ids = |query: serde_json::Value| {
            let query: StoreQuery = serde_json::from_value(query).expect("known fields");
            match part(&query, all()) {
                Ok(Answer::Stores(stores)) => stores.iter().map(|one| one.id).collect(),
                other => panic!("{other:?}"),
            }
        };
        let found: [Vec<u32>; 4] = [
            ids(json!({})),
            ids(json!({"sort": "used"})),
            ids(json!({"sort": "-used", "after": 1, "limit": 1})),
            ids(json!({"state": "ready"})),
        ];
        assert_eq!(found, [vec![3, 1, 2], vec![3, 2, 1], vec![2], vec![1, 3]]);
        assert!(part(&StoreQuery::default(), Answer::Done).is_ok());
        let some = StoreQuery {
            limit: Some(1),
            ..StoreQuery::default()
        };
        assert!(part(&some, Answer::Done).is_err());
    }
}
