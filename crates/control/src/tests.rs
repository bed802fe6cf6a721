//! Real HTTP against a backend that remembers what it was asked.

mod accounts;
mod audit;
mod conditions;
mod idempotency;
mod kubernetes;
mod matrix;
mod metrics;
mod openapi;
mod promised;
mod serving;
mod stream;
mod tokens;

use crate::{Auth, Backend, BoxFuture, serve};
use accounts::Accounts;
use api::{
    Answer, AuditEntry, ContainerAnswer, DiffAnswer, DiffRun, ErrorKind, GroupSnapshotAnswer,
    KUBERNETES_LABEL, NodeAnswer, Operation, OperationError, StatusAnswer, StoreAnswer,
    VolumeAnswer,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

/// Remembers operations; answers what fits, refuses volumes by name, holds drains until told.
struct Fake {
    asked: Mutex<Vec<Operation>>,
    audited: Mutex<Vec<AuditEntry>>,
    accounts: Accounts,
    once: idempotency::Keys,
    changes: stream::Changes,
    lines: stream::Lines,
    /// Whether looks find something.
    furnished: AtomicBool,
    gate: Arc<Semaphore>,
}

impl Fake {
    fn new() -> Self {
        Self {
            asked: Mutex::default(),
            audited: Mutex::default(),
            accounts: Accounts::default(),
            once: idempotency::Keys::default(),
            changes: stream::Changes::default(),
            lines: stream::Lines::default(),
            furnished: AtomicBool::new(false),
            gate: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Fake {
    /// How many changes were asked for, and not taken with `Server::asked`.
    fn changes_asked(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|operation| !operation.looks()).count()
    }

    /// Has looks find something that is there.
    fn furnish(&self) {
        self.furnished.store(true, Ordering::SeqCst);
    }
}

impl Backend for Fake {
    fn call(&self, operation: Operation) -> BoxFuture<'static, Result<Answer, OperationError>> {
        if let Operation::AuditRecord { entries } = operation {
            self.audited.lock().unwrap().extend(entries);
            return Box::pin(async { Ok(Answer::Done) });
        }
        if let Operation::Changes { after, .. } = operation {
            return self.changes.answer(after);
        }
        if let Some(answered) = self.once.answer(&operation) {
            return Box::pin(async { Ok(answered) });
        }
        self.asked.lock().unwrap().push(operation.clone());
        if self.furnished.load(Ordering::SeqCst)
            && let Some(answer) = audit::there(&operation)
        {
            return Box::pin(async { Ok(answer) });
        }
        if let Operation::Logs(query) = &operation {
            let answer = self.lines.answer(query);
            return Box::pin(async { answer });
        }
        if let Some(answered) = self.accounts.answer(&operation) {
            return Box::pin(async { answered });
        }
        let gate = self.gate.clone();
        Box::pin(async move {
            if matches!(operation, Operation::VolumeDrain { .. }) {
                let _permit = gate.acquire().await.unwrap();
            }
            answer(operation)
        })
    }
}

fn answer(operation: Operation) -> Result<Answer, OperationError> {
    let refuse = |kind| Err(OperationError::new(kind, format!("because of {kind:?}")));
    match operation {
        Operation::Status => Ok(Answer::Status(cluster())),
        Operation::Figures => Ok(Answer::Figures(Box::new(metrics::figures(1)))),
        Operation::ContainerList => Ok(Answer::Containers(vec![ContainerAnswer {
            name: "fast".into(),
            ..ContainerAnswer::default()
        }])),
        Operation::ContainerShow { name } => Ok(Answer::Container(ContainerAnswer {
            version: (name == "versioned").then_some(conditions::VERSION),
            name,
            ..ContainerAnswer::default()
        })),
        Operation::VolumeShow { name } => match name.as_str() {
            "missing" | "volume-90" | "volume-91" => refuse(ErrorKind::NotFound),
            "taken" => refuse(ErrorKind::Exists),
            "busy" => refuse(ErrorKind::Refused),
            "used" => refuse(ErrorKind::InUse),
            "later" => refuse(ErrorKind::Unavailable),
            "full" => refuse(ErrorKind::NoSpace),
            "broken" => refuse(ErrorKind::Failed),
            "odd" => refuse(ErrorKind::BadRequest),
            "versioned" => Ok(conditions::volume()),
            _ => Ok(Answer::Volume(volume(name))),
        },
        Operation::Conditional { version, .. } if version != conditions::VERSION => {
            refuse(ErrorKind::Changed)
        }
        Operation::StoreList | Operation::GroupSnapshotList => conditions::list(&operation),
        Operation::DiskList | Operation::TokenList => conditions::list(&operation),
        Operation::VolumeResize { name, .. } if name == "full" => refuse(ErrorKind::NoSpace),
        Operation::SnapshotDiff {
            volume, from, to, ..
        } => Ok(Answer::Diff(DiffAnswer {
            volume,
            from,
            to,
            runs: vec![DiffRun::default()],
            ..DiffAnswer::default()
        })),
        Operation::TokenFind { hash } => tokens::find(&hash),
        Operation::Glance {
            volume: name,
            snapshot: None,
        } => Ok(Answer::Volume(volume(name))),
        Operation::SnapshotShow { id } => Ok(Answer::Snapshot(kubernetes::snapshot(id))),
        Operation::GroupSnapshotShow { id } => Ok(Answer::GroupSnapshot(GroupSnapshotAnswer {
            snapshots: kubernetes::members(&id),
            ..GroupSnapshotAnswer::default()
        })),
        _ => Ok(Answer::Done),
    }
}

/// With the label of a Kubernetes cluster, if its name begins with that one's.
fn volume(name: String) -> VolumeAnswer {
    let label = (KUBERNETES_LABEL.to_owned(), "prod".to_owned());
    let labels = name.starts_with("prod").then_some(label);
    VolumeAnswer {
        name,
        labels: labels.into_iter().collect(),
        ..VolumeAnswer::default()
    }
}

fn cluster() -> StatusAnswer {
    StatusAnswer {
        verdict: "ok".to_owned(),
        reasons: Vec::new(),
        cluster: "test".into(),
        cluster_id: "test".into(),
        encrypted: false,
        node: 1,
        nodes: vec![NodeAnswer {
            name: "a \"quoted\" name".into(),
            alive: true,
            ..NodeAnswer::default()
        }],
        stores: vec![StoreAnswer {
            id: 3,
            node: 1,
            state: "ready".into(),
            used: 4096,
            ..StoreAnswer::default()
        }],
        volumes: vec![VolumeAnswer {
            name: "db".into(),
            size: 1 << 30,
            ..VolumeAnswer::default()
        }],
        ..StatusAnswer::default()
    }
}

/// A server on a port of its own, stopped when dropped.
struct Server {
    address: String,
    fake: Arc<Fake>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Auth::Open).await
    }

    async fn start_with(auth: Auth) -> Self {
        let fake = Arc::new(Fake::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, fake.clone(), auth, None, async move {
            let _ = stopped.await;
        }));
        Self {
            address,
            fake,
            stop: Some(stop),
            served,
        }
    }

    /// Sends `head` (lines without the common headers) and `body`; returns status, head and body.
    async fn whole(&self, request: &str, headers: &str, body: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a long body may close before it has read all of it.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    async fn send(&self, request: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let (status, _, body) = self.whole(request, headers, body).await;
        (status, body)
    }

    async fn json(&self, request: &str, body: &str) -> (u16, String) {
        let headers = "Content-Type: application/json\r\n";
        self.send(request, headers, body.as_bytes()).await
    }

    fn asked(&self) -> Option<Operation> {
        self.fake.asked.lock().unwrap().pop()
    }
}

/// Requests of all kinds, their bodies, and the operation each becomes.
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET /api/v1/status", "", r#"{"operation":"status"}"#),
    (
        "GET /api/v1/containers",
        "",
        r#"{"operation":"container-list"}"#,
    ),
    (
        "POST /api/v1/containers",
        r#"{"name":"c","rf":3,"quota":4096}"#,
        r#"{"operation":"container-create","name":"c","rf":3,"quota":4096}"#,
    ),
    (
        "GET /api/v1/containers/c",
        "",
        r#"{"operation":"container-show","name":"c"}"#,
    ),
    (
        "PATCH /api/v1/containers/c",
        r#"{"sync":"always"}"#,
        r#"{"operation":"container-set","name":"c","sync":"always"}"#,
    ),
    (
        "DELETE /api/v1/containers/c",
        "",
        r#"{"operation":"container-delete","name":"c"}"#,
    ),
    (
        "GET /api/v1/resiliency",
        "",
        r#"{"operation":"resiliency"}"#,
    ),
    (
        "GET /api/v1/space",
        "",
        r#"{"operation":"space","lineage":null}"#,
    ),
    (
        "GET /api/v1/tasks?status=open&before=7&limit=9",
        "",
        r#"{"operation":"task-list","status":"open","before":7,"limit":9}"#,
    ),
    (
        "GET /api/v1/tasks?sort=-updated",
        "",
        r#"{"operation":"task-list","sort":"-updated"}"#,
    ),
    (
        "GET /api/v1/logs?volume=db&level=warn&text=a%20b&from=5&limit=9",
        "",
        r#"{"operation":"logs","level":"warn","volume":"db","text":"a b","from":5,"limit":9}"#,
    ),
    (
        "GET /api/v1/tasks/7",
        "",
        r#"{"operation":"task-show","id":7}"#,
    ),
    (
        "POST /api/v1/tasks/7/cancel",
        "{}",
        r#"{"operation":"task-cancel","id":7}"#,
    ),
    (
        "GET /api/v1/events?after=7&limit=9",
        "",
        r#"{"operation":"events","after":7,"limit":9}"#,
    ),
    (
        "GET /api/v1/alerts?state=all&severity=warning&kind=space&entity=space%2F2&before=7&limit=9",
        "",
        r#"{"operation":"alert","alert":"list","state":"all","severity":"warning","kind":"space","entity":"space/2","before":7,"limit":9}"#,
    ),
    (
        "GET /api/v1/alerts/7",
        "",
        r#"{"operation":"alert","alert":"show","id":7}"#,
    ),
    (
        "GET /api/v1/alert-targets",
        "",
        r#"{"operation":"alert","alert":"target-list"}"#,
    ),
    (
        "POST /api/v1/alert-targets",
        r#"{"name":"t","kind":"webhook","url":"http://t"}"#,
        r#"{"operation":"alert","alert":"target-add","name":"t","kind":"webhook","url":"http://t"}"#,
    ),
    (
        "GET /api/v1/alert-targets/t",
        "",
        r#"{"operation":"alert","alert":"target-show","name":"t"}"#,
    ),
    (
        "DELETE /api/v1/alert-targets/t",
        "",
        r#"{"operation":"alert","alert":"target-delete","name":"t"}"#,
    ),
    (
        "POST /api/v1/alert-targets/t/test",
        "",
        r#"{"operation":"alert","alert":"target-test","name":"t"}"#,
    ),
    (
        "GET /api/v1/kubernetes",
        "",
        r#"{"operation":"kubernetes","kubernetes":"list"}"#,
    ),
    (
        "GET /api/v1/kubernetes/prod",
        "",
        r#"{"operation":"kubernetes","kubernetes":"show","name":"prod"}"#,
    ),
    (
        "GET /api/v1/kubernetes/prod/claims?limit=9&after=a%2Fb%2Fc&status=Pending",
        "",
        r#"{"operation":"kubernetes","kubernetes":"claims","name":"prod","query":{"limit":9,"after":"a/b/c","status":"Pending"}}"#,
    ),
    (
        "POST /api/v1/logs",
        r#"{"host":"w","component":"csi-node","lines":[],"lost":3}"#,
        r#"{"operation":"log-report","by":"anybody","report":{"host":"w","component":"csi-node","lines":[],"lost":3}}"#,
    ),
    (
        "PUT /api/v1/kubernetes/prod/report",
        r#"{"uid":"k","version":"v1","driver":"1","gone":["u"]}"#,
        r#"{"operation":"kubernetes","kubernetes":"report","name":"prod","report":{"uid":"k","version":"v1","driver":"1","gone":["u"]}}"#,
    ),
    (
        "DELETE /api/v1/kubernetes/prod",
        "",
        r#"{"operation":"kubernetes","kubernetes":"forget","name":"prod"}"#,
    ),
    (
        "GET /api/v1/nodes/n",
        "",
        r#"{"operation":"node-show","name":"n"}"#,
    ),
    (
        "PATCH /api/v1/nodes/n",
        r#"{"draining":true}"#,
        r#"{"operation":"node-set","name":"n","draining":true}"#,
    ),
    (
        "DELETE /api/v1/nodes/n",
        "",
        r#"{"operation":"node-remove","name":"n"}"#,
    ),
    (
        "GET /api/v1/settings",
        "",
        r#"{"operation":"setting-list"}"#,
    ),
    (
        "GET /api/v1/stores/3",
        "",
        r#"{"operation":"store-show","id":3}"#,
    ),
    (
        "PATCH /api/v1/stores/store-3",
        r#"{"maintenance_minutes":5}"#,
        r#"{"operation":"store-set","id":3,"maintenance_minutes":5}"#,
    ),
    (
        "DELETE /api/v1/stores/3?lost=true",
        "",
        r#"{"operation":"store-remove","id":3,"lost":true}"#,
    ),
    (
        "POST /api/v1/stores/3/scrub",
        "",
        r#"{"operation":"store-scrub","id":3}"#,
    ),
    ("GET /api/v1/catalog", "", r#"{"operation":"catalog-show"}"#),
    (
        "GET /api/v1/catalog/backup",
        "",
        r#"{"operation":"catalog-backup"}"#,
    ),
    (
        "POST /api/v1/catalog/move",
        r#"{"endpoints":["http://e:2379"]}"#,
        r#"{"operation":"catalog-move","endpoints":["http://e:2379"],"prefix":"/azekura/"}"#,
    ),
    ("GET /api/v1/groups", "", r#"{"operation":"group-list"}"#),
    (
        "GET /api/v1/groups/group-7",
        "",
        r#"{"operation":"group-show","id":7}"#,
    ),
    (
        "GET /api/v1/clones?volume=db&container=c&sort=-size&limit=5",
        "",
        r#"{"operation":"clone-list","limit":5,"sort":"-size","volume":"db","container":"c"}"#,
    ),
    ("GET /api/v1/disks", "", r#"{"operation":"disk-list"}"#),
    (
        "POST /api/v1/disks",
        r#"{"node":"n","paths":["/dev/sdb"],"journal":4096}"#,
        r#"{"operation":"disk-add","node":"n","paths":["/dev/sdb"],"journal":4096}"#,
    ),
    (
        "POST /api/v1/disks/3/replace",
        r#"{"paths":["/dev/sdb"],"lost":true}"#,
        r#"{"operation":"disk-replace","store":3,"paths":["/dev/sdb"],"lost":true}"#,
    ),
    (
        "POST /api/v1/disks/3/locate",
        r#"{"path":"/dev/sdb","on":true}"#,
        r#"{"operation":"disk-locate","store":3,"path":"/dev/sdb","on":true}"#,
    ),
    ("GET /api/v1/volumes", "", r#"{"operation":"volume-list"}"#),
    (
        "POST /api/v1/volumes",
        r#"{"name":"v","from":{"volume":"db","snapshot":"s"}}"#,
        r#"{"operation":"volume-create","name":"v","from":{"volume":"db","snapshot":"s"}}"#,
    ),
    (
        "GET /api/v1/volumes/a%2Fb%20c",
        "",
        r#"{"operation":"volume-show","name":"a/b c"}"#,
    ),
    (
        "DELETE /api/v1/volumes/v",
        "",
        r#"{"operation":"volume-delete","name":"v"}"#,
    ),
    (
        "POST /api/v1/volumes/v/resize",
        r#"{"size":8192}"#,
        r#"{"operation":"volume-resize","name":"v","size":8192}"#,
    ),
    (
        "POST /api/v1/volumes/v/restore",
        r#"{"snapshot":"s"}"#,
        r#"{"operation":"volume-restore","volume":"v","snapshot":"s"}"#,
    ),
    (
        "POST /api/v1/volumes/v/release",
        "",
        r#"{"operation":"volume-release","name":"v"}"#,
    ),
    (
        "POST /api/v1/volumes/v/attach",
        r#"{"client":"host"}"#,
        r#"{"operation":"attach","volume":"v","client":"host"}"#,
    ),
    (
        "POST /api/v1/volumes/v/detach",
        "",
        r#"{"operation":"detach","volume":"v"}"#,
    ),
    (
        "GET /api/v1/volumes/v/snapshots",
        "",
        r#"{"operation":"snapshot-list","volume":"v"}"#,
    ),
    (
        "POST /api/v1/volumes/v/snapshots",
        r#"{"name":"s"}"#,
        r#"{"operation":"snapshot-create","volume":"v","name":"s"}"#,
    ),
    (
        "DELETE /api/v1/volumes/v/snapshots/s",
        "",
        r#"{"operation":"snapshot-delete","volume":"v","name":"s"}"#,
    ),
    (
        "GET /api/v1/volumes/v/diff?from=a&to=b",
        "",
        r#"{"operation":"snapshot-diff","volume":"v","from":"a","to":"b"}"#,
    ),
    (
        "GET /api/v1/snapshots",
        "",
        r#"{"operation":"snapshot-list"}"#,
    ),
    ("GET /api/v1/cluster", "", r#"{"operation":"cluster"}"#),
    (
        "GET /api/v1/metrics/query?entity=volume%2Fv&metric=iops,bandwidth&from=1&to=2&step=15",
        "",
        r#"{"operation":"metrics-query","entity":"volume/v","metric":"iops,bandwidth","from":1,"to":2,"step":15}"#,
    ),
    (
        "GET /api/v1/metrics/busiest?by=latency&limit=3",
        "",
        r#"{"operation":"busiest","by":"latency","limit":3}"#,
    ),
    (
        "GET /api/v1/capacity?rf=2",
        "",
        r#"{"operation":"capacity","rf":2}"#,
    ),
    (
        "GET /api/v1/volumes?limit=10&after=3&name=v&label=a%3Db",
        "",
        r#"{"operation":"volume-list","limit":10,"after":3,"name":"v","label":"a=b"}"#,
    ),
    (
        "PATCH /api/v1/volumes/v",
        r#"{"labels":{"a":null},"iops_limit":null}"#,
        r#"{"operation":"volume-set","name":"v","labels":{"a":null},"iops_limit":0}"#,
    ),
    (
        "GET /api/v1/volumes/v/snapshots?limit=5",
        "",
        r#"{"operation":"snapshot-list","volume":"v","limit":5}"#,
    ),
    (
        "GET /api/v1/snapshots/snapshot-7",
        "",
        r#"{"operation":"snapshot-show","id":7}"#,
    ),
    (
        "GET /api/v1/volumes/v/diff?offset=8192&limit=7",
        "",
        r#"{"operation":"snapshot-diff","volume":"v","offset":8192,"limit":7}"#,
    ),
    (
        "POST /api/v1/group-snapshots",
        r#"{"name":"g","volumes":["v","w"]}"#,
        r#"{"operation":"group-snapshot-create","name":"g","volumes":["v","w"]}"#,
    ),
    (
        "GET /api/v1/group-snapshots",
        "",
        r#"{"operation":"group-snapshot-list"}"#,
    ),
    (
        "GET /api/v1/group-snapshots/1",
        "",
        r#"{"operation":"group-snapshot-show","id":"1"}"#,
    ),
    (
        "DELETE /api/v1/group-snapshots/1",
        "",
        r#"{"operation":"group-snapshot-delete","id":"1"}"#,
    ),
];

#[tokio::test]
async fn every_route_becomes_its_operation() {
    let server = Server::start().await;
    for (request, body, expected) in ROUTES {
        let (status, answer) = server.json(request, body).await;
        assert_eq!(status, 200, "{request}: {answer}");
        let expected: Operation = serde_json::from_str(expected).unwrap();
        let mut asked = server.asked();
        if let Some(Operation::LogReport { by, .. }) = &mut asked {
            // The mark of who tells follows his name.
            by.truncate(by.find(" #").expect("it has a mark"));
        }
        assert_eq!(asked, Some(expected), "{request}");
    }
    server.fake.gate.add_permits(1);
    let (status, answer) = server.json("POST /api/v1/volumes/v/drain", "").await;
    assert_eq!((status, answer.as_str()), (200, "{}"));
}

#[tokio::test]
async fn answer_is_the_bare_value() {
    let server = Server::start().await;
    let (_, body) = server.json("GET /api/v1/containers", "").await;
    let containers: Vec<ContainerAnswer> = serde_json::from_str(&body).unwrap();
    assert_eq!(containers[0].name, "fast");
}

#[tokio::test]
async fn each_kind_of_error_has_its_status_and_says_why() {
    let server = Server::start().await;
    let cases = [
        ("missing", 404, "not-found"),
        ("taken", 409, "exists"),
        ("busy", 409, "refused"),
        ("used", 409, "in-use"),
        ("later", 503, "unavailable"),
        ("full", 409, "no-space"),
        ("broken", 500, "failed"),
        ("odd", 400, "bad-request"),
    ];
    for (name, expected, kind) in cases {
        let (status, body) = server
            .json(&format!("GET /api/v1/volumes/{name}"), "")
            .await;
        assert_eq!(status, expected, "{name}");
        let error: OperationError = serde_json::from_str(&body).unwrap();
        assert_eq!(serde_json::to_value(error.kind).unwrap(), kind);
        assert!(error.message.starts_with("because of"), "{body}");
    }
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong_and_reach_nobody() {
    let server = Server::start().await;
    let cases = [
        (
            "POST /api/v1/containers",
            r#"{"name":"c","fr":2}"#,
            400,
            "unknown field `fr`",
        ),
        ("POST /api/v1/containers", r#"{"name":"#, 400, "EOF"),
        (
            "POST /api/v1/volumes/v/resize",
            r#"{"size":"big"}"#,
            400,
            "expected u64",
        ),
        (
            "POST /api/v1/volumes/v/resize",
            r#"{"size":-1}"#,
            400,
            "expected u64",
        ),
        (
            "GET /api/v1/volumes/v/diff?form=a",
            "",
            400,
            "unknown field `form`",
        ),
        ("GET /api/v1/volumes/%FF", "", 400, "cannot be read"),
        ("GET /api/v1/volumes?limit=0", "", 400, "1 to 1000"),
        ("GET /api/v1/volumes?label=a", "", 400, "KEY=VALUE"),
        (
            "GET /api/v1/stores?sort=size",
            "",
            400,
            "id, node, state, standing",
        ),
        ("GET /api/v1/groups/seven", "", 400, "not the id of"),
        (
            "GET /api/v1/volumes?lmit=1",
            "",
            400,
            "unknown field `lmit`",
        ),
        (
            "GET /api/v1/metrics/query?entity=cluster",
            "",
            400,
            "missing field `metric`",
        ),
        (
            "GET /api/v1/metrics/busiest?by=name",
            "",
            400,
            "unknown variant `name`",
        ),
        ("GET /api/v1/snapshots/seven", "", 400, "not the id of"),
        ("GET /api/v1/nothing", "", 404, "the API is below /api/v1"),
        ("POST /", "", 404, "the API is below /api/v1"),
        ("PUT /api/v1/volumes/v", "", 405, "does not take PUT"),
    ];
    for (request, body, expected, words) in cases {
        let (status, answer) = server.json(request, body).await;
        assert_eq!(status, expected, "{request}: {answer}");
        let error: OperationError = serde_json::from_str(&answer).unwrap();
        assert!(error.message.contains(words), "{request}: {answer}");
    }
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(api::http::BODY_BYTES_MAX));
    let (status, answer) = server.json("POST /api/v1/containers", &long).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(server.asked(), None);
}

#[tokio::test]
async fn change_that_a_foreign_web_page_could_send_is_refused() {
    let server = Server::start().await;
    for request in [
        "POST /api/v1/volumes/v/detach",
        "POST /api/v1/volumes/v/drain",
        "POST /api/v1/volumes/v/release",
    ] {
        let (status, body) = server
            .send(request, "Content-Type: text/plain\r\n", b"")
            .await;
        assert_eq!(status, 400);
        assert!(body.contains("application/json"), "{body}");
    }
    assert_eq!(server.asked(), None);
}

#[tokio::test]
async fn health_and_metrics_are_text() {
    let server = Server::start().await;
    assert_eq!(server.json("GET /healthz", "").await, (200, "ok\n".into()));
    let (status, text) = server.json("GET /metrics", "").await;
    assert_eq!(status, 200);
    for line in [
        "azekura_node_alive{node=\"a \\\"quoted\\\" name\"} 1",
        "# TYPE azekura_store_written_bytes_total counter",
        "azekura_store_used_bytes{store=\"3\",node=\"a \\\"quoted\\\" name\"} 4096",
        "azekura_store_ready{store=\"3\",node=\"a \\\"quoted\\\" name\"} 1",
        "azekura_volumes 2",
        "azekura_volume_size_bytes{volume=\"at-rest\",container=\"gold\"} 21474836480",
    ] {
        assert!(
            text.lines().any(|have| have == line),
            "{line} is not in\n{text}"
        );
    }
}
