//! An example of every operation.

use crate::copies::MinCopies;
use crate::join::{JoinTokenSpec, Retirement};
use crate::operation::{
    CompressionName, ContainerChange, ContainerSpec, GroupSnapshotSpec, Operation, SnapshotRef,
    SyncName, VolumeChange, VolumeSpec,
};
use crate::query::ListQuery;
use crate::token::{Scope, TokenSpec};
use std::collections::{BTreeMap, BTreeSet};

/// As they are on the wire.
pub const TEXTS: &[&str] = &[
    r#"{"operation":"resiliency"}"#,
    r#"{"operation":"events","after":7,"limit":5}"#,
    r#"{"operation":"alert","alert":"list","state":"open","severity":"critical","kind":"disk-failed","entity":"store/3","before":9,"limit":2}"#,
    r#"{"operation":"alert","alert":"show","id":7}"#,
    r#"{"operation":"alert","alert":"acknowledge","id":7,"note":"known","by":"user eve"}"#,
    r#"{"operation":"alert","alert":"resolve","id":7,"note":null,"by":"user eve"}"#,
    r#"{"operation":"alert","alert":"target-list"}"#,
    r#"{"operation":"alert","alert":"target-show","name":"hook"}"#,
    r#"{"operation":"alert","alert":"target-add","name":"hook","kind":"webhook","minimum":"warning","url":"https://example.org/a","secret":"s"}"#,
    r#"{"operation":"alert","alert":"target-delete","name":"hook"}"#,
    r#"{"operation":"alert","alert":"target-test","name":"hook"}"#,
    r#"{"operation":"kubernetes","kubernetes":"list"}"#,
    r#"{"operation":"kubernetes","kubernetes":"show","name":"prod"}"#,
    r#"{"operation":"kubernetes","kubernetes":"claims","name":"prod","query":{"limit":5,"namespace":"lab","status":"Bound"}}"#,
    r#"{"operation":"kubernetes","kubernetes":"report","name":"prod","report":{"uid":"u","version":"v1.31.0","driver":"0.1.0","gone":["c"]}}"#,
    r#"{"operation":"kubernetes","kubernetes":"forget","name":"prod"}"#,
    r#"{"operation":"logs","node":"n1","level":"warn","volume":"v","task":7,"request":"r","text":"disk","from":1,"to":2,"limit":3}"#,
    r#"{"operation":"logs-part","level":"info","fields":[],"text":"disk","from":1,"to":2,"limit":3}"#,
    r#"{"operation":"log-report","by":"token prod","report":{"host":"worker-1","component":"csi-node","lines":[{"component":"attach","at_ms":5,"level":"info","target":"client","message":"opened","fields":{"volume":"volume-3"}}],"lost":2}}"#,
    r#"{"operation":"space","lineage":7}"#,
    r#"{"operation":"space","lineage":null,"lineages":[7,9]}"#,
    r#"{"operation":"node-show","name":"n1"}"#,
    r#"{"operation":"node-set","name":"n1","draining":true,"maintenance_minutes":30,"approved":true}"#,
    r#"{"operation":"node-remove","name":"n1","lost":true}"#,
    r#"{"operation":"store-show","id":3}"#,
    r#"{"operation":"store-set","id":3,"draining":false}"#,
    r#"{"operation":"store-remove","id":3,"lost":false}"#,
    r#"{"operation":"store-scrub","id":3}"#,
    r#"{"operation":"disk-list"}"#,
    r#"{"operation":"disk-add","node":"n1","paths":["/dev/sdb"],"create":1073741824,"journal":268435456,"overrides":["file-system"]}"#,
    r#"{"operation":"disk-replace","store":3,"paths":["/dev/sdc"],"lost":true}"#,
    r#"{"operation":"disk-locate","store":3,"path":"/dev/sdb","on":true}"#,
    r#"{"operation":"catalog-show"}"#,
    r#"{"operation":"catalog-backup"}"#,
    r#"{"operation":"catalog-move","endpoints":["10.0.0.1:2379"],"prefix":"azekura/"}"#,
    r#"{"operation":"catalog-move","supervised":true,"prefix":"azekura/"}"#,
    r#"{"operation":"store-list"}"#,
    r#"{"operation":"setting-list"}"#,
    r#"{"operation":"user-create","name":"eve","role":"operator","hash":"00"}"#,
    r#"{"operation":"user-list"}"#,
    r#"{"operation":"user-show","name":"eve"}"#,
    r#"{"operation":"user-set","name":"eve","role":"admin","hash":"00"}"#,
    r#"{"operation":"user-delete","name":"eve"}"#,
    r#"{"operation":"user-find","name":"eve"}"#,
    r#"{"operation":"session-create","user":"eve","password":"p","hash":"00"}"#,
    r#"{"operation":"session-find","hash":"00"}"#,
    r#"{"operation":"session-delete","hash":"00"}"#,
    r#"{"operation":"changes","after":7,"mood":"m"}"#,
    r#"{"operation":"audit-record","entries":[{"id":0,"at_ms":5,"who":"user eve","from":"10.0.0.1","operation":"volume-delete","subject":"v","request":"r","outcome":"done","before":{"size":4096}}]}"#,
    r#"{"operation":"audit-list","limit":5,"before":9}"#,
    r#"{"operation":"once","step":"begin","digest":"d","request":"r"}"#,
    r#"{"operation":"once","step":"end","digest":"d","request":"r","answer":{"answer":"done"}}"#,
];

pub fn every_operation() -> Vec<Operation> {
    let text = String::from;
    let mut operations = vec![
        Operation::Status,
        Operation::Figures,
        Operation::SessionList {
            user: Some(text("alice")),
        },
        Operation::Glance {
            volume: text("v"),
            snapshot: Some(text("s")),
        },
        Operation::SessionEnd {
            id: text("0123456789abcdef"),
            user: None,
        },
        Operation::VolumeResize {
            name: text("v"),
            size: 4096,
        }
        .on_top_of(Some(u64::MAX)),
        Operation::MetricsQuery(crate::MetricsQuery {
            entity: text("volume/v"),
            metric: text("iops"),
            from: Some(1),
            to: Some(2),
            step: Some(15),
        }),
        Operation::MetricsPart {
            entities: vec![text("volume/7")],
            from: 0,
            to: 60,
            step: 15,
        },
        Operation::Busiest(crate::BusiestQuery {
            by: Some(crate::BusyBy::Latency),
            limit: Some(3),
        }),
        Operation::ContainerCreate(ContainerSpec {
            name: text("c"),
            rf: 3,
            min_copies: None,
            sync: SyncName::Always,
            compression: CompressionName::Off,
            quota: Some(1 << 40),
        }),
        Operation::ContainerList,
        Operation::ContainerShow { name: text("c") },
        Operation::ContainerSet {
            name: text("c"),
            change: ContainerChange {
                rf: Some(2),
                min_copies: Some(MinCopies::Count(1)),
                sync: Some(SyncName::Flush),
                compression: Some(CompressionName::Lz4),
                quota: Some(0),
            },
        },
        Operation::ContainerDelete { name: text("c") },
        Operation::VolumeCreate(VolumeSpec {
            name: text("v"),
            container: Some(text("c")),
            size: Some(4096),
            from: Some(SnapshotRef {
                volume: text("v0"),
                snapshot: Some(text("s")),
            }),
            labels: BTreeMap::from([(text("a"), text("b"))]),
            description: Some(text("d")),
            iops_limit: Some(1000),
            bandwidth_limit: None,
        }),
        Operation::Cluster,
        Operation::Capacity {
            container: Some(text("c")),
            rf: None,
        },
        Operation::VolumeSet {
            name: text("v"),
            change: VolumeChange {
                labels: BTreeMap::from([(text("a"), None), (text("b"), Some(text("c")))]),
                iops_limit: Some(0),
                ..VolumeChange::default()
            },
        },
        Operation::VolumePause {
            volume: text("v"),
            pause: text("p"),
        },
        Operation::VolumeResume {
            volume: text("v"),
            pause: text("p"),
        },
        Operation::SnapshotShow { id: 7 },
        Operation::GroupSnapshotCreate(GroupSnapshotSpec {
            name: text("g"),
            volumes: vec![text("v"), text("w")],
            labels: BTreeMap::new(),
        }),
        Operation::GroupSnapshotList,
        Operation::GroupSnapshotShow { id: text("1") },
        Operation::GroupSnapshotDelete { id: text("1") },
        Operation::TokenCreate {
            spec: TokenSpec {
                name: text("t"),
                scope: Scope::Csi,
                containers: vec![text("csi-a")],
                kubernetes: vec![text("prod")],
                all_containers: false,
                personal: false,
            },
            hash: text("00"),
            user: None,
        },
        Operation::TokenCreate {
            spec: TokenSpec {
                name: text("t"),
                scope: Scope::Viewer,
                containers: Vec::new(),
                kubernetes: Vec::new(),
                all_containers: false,
                personal: true,
            },
            hash: text("00"),
            user: Some(text("eve")),
        },
        Operation::TokenList,
        Operation::TokenShow {
            name: text("ci"),
            user: None,
        },
        Operation::TokenShow {
            name: text("ci"),
            user: Some(text("ann")),
        },
        Operation::JoinTokenCreate {
            spec: JoinTokenSpec {
                ttl_seconds: Some(60),
            },
            hash: text("00"),
        },
        Operation::NodeJoin {
            hash: text("00"),
            name: text("n"),
            request: text("r"),
            stores: 1,
        },
        Operation::CertificateRenew {
            name: text("n"),
            request: text("r"),
        },
        Operation::AuthorityShow,
        Operation::AuthorityRotate,
        Operation::AuthorityRetire(Retirement { force: true }),
        Operation::TokenDelete {
            name: text("t"),
            user: None,
        },
        Operation::TokenDelete {
            name: text("t"),
            user: Some(text("eve")),
        },
        Operation::TokenFind { hash: text("00") },
        Operation::VolumeList(ListQuery {
            limit: Some(10),
            after: Some(3),
            label: Some(text("a=b")),
            ..ListQuery::default()
        }),
        Operation::VolumeShow { name: text("v") },
        Operation::VolumeDelete { name: text("v") },
        Operation::VolumeResize {
            name: text("v"),
            size: u64::MAX,
        },
        Operation::VolumeRestore {
            volume: text("v"),
            snapshot: text("s"),
        },
        Operation::VolumeDrain { name: text("v") },
        Operation::VolumeRelease { name: text("v") },
        Operation::SnapshotCreate {
            volume: text("v"),
            name: text("s"),
            labels: BTreeMap::from([(text("a"), text("b"))]),
            group: Some(text("1")),
        },
        Operation::SnapshotList(ListQuery::default()),
        Operation::SnapshotDelete {
            volume: text("v"),
            name: text("s"),
        },
        Operation::SnapshotDiff {
            volume: text("v"),
            from: None,
            to: Some(text("s")),
            offset: 4096,
            limit: Some(5),
        },
        Operation::Attach {
            volume: text("v"),
            client: text("host-1"),
            read_only: true,
            shared: true,
        },
        Operation::Detach {
            volume: text("v"),
            client: None,
        },
        Operation::TaskList(crate::TaskQuery {
            status: Some(text("open")),
            before: Some(7),
            ..crate::TaskQuery::default()
        }),
        Operation::TaskShow { id: 7 },
        Operation::GroupList,
        Operation::GroupShow { id: 7 },
        Operation::CloneList(crate::ListQuery {
            container: Some(text("c")),
            volume: Some(text("v")),
            ..crate::ListQuery::default()
        }),
        Operation::TaskCancel { id: 7 },
    ];
    let read = |text: &&str| serde_json::from_str(text).expect(text);
    operations.extend(TEXTS.iter().map(read));
    operations
}

/// Values that a tag may have, as the error about another one lists them.
fn values_of<T: serde::de::DeserializeOwned>(tag: &str) -> BTreeSet<String> {
    let text = format!(r#"{{"{tag}":"?"}}"#);
    let error = serde_json::from_str::<T>(&text)
        .err()
        .expect("no value is a question mark");
    let error = error.to_string();
    let (_, expected) = error.split_once("expected one of").expect("a list of them");
    let names = expected.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

fn samples_of(tag: &str) -> BTreeSet<String> {
    let tagged = every_operation().into_iter().filter_map(|operation| {
        let value = serde_json::to_value(operation).expect("plain data");
        Some(value.get(tag)?.as_str()?.to_owned())
    });
    tagged.collect()
}

#[test]
fn there_is_an_example_of_each_operation() {
    assert_eq!(samples_of("operation"), values_of::<Operation>("operation"));
    assert_eq!(
        samples_of("alert"),
        values_of::<crate::AlertOperation>("alert")
    );
    assert_eq!(
        samples_of("kubernetes"),
        values_of::<crate::KubernetesOperation>("kubernetes")
    );
}

#[test]
fn what_is_on_the_wire_is_written_as_it_was_read() {
    for text in TEXTS {
        let operation: Operation = serde_json::from_str(text).expect(text);
        let again = serde_json::to_value(&operation).expect("plain data");
        let read: serde_json::Value = serde_json::from_str(text).expect(text);
        assert_eq!(again, read);
    }
}
