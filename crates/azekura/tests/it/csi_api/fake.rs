//! An API that answers as a test wants, and the driver's services in this process as its clients.

use csi::v1::controller_client::ControllerClient;
use csi::v1::group_controller_client::GroupControllerClient;
use csi::v1::identity_client::IdentityClient;
use csi::v1::node_client::NodeClient;
use csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use csi::{ApiOptions, Attach, AttachRefusal, BlockStyle, ControllerOptions, Device};
use csi::{NodeOptions, Wanted};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

/// How long an API that does not answer keeps a connection: longer than any test waits.
const SILENCE: Duration = Duration::from_secs(20);

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

/// What is done with it.
pub enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// The connection stays, and nothing is said.
    Silence,
    /// It was carried out, and the answer is lost.
    Hangup,
    Late(Duration, Box<Reply>),
}

/// An error as the API has it.
pub fn refusal(status: u16, kind: &str) -> Reply {
    Reply::Json(
        status,
        json!({"kind": kind, "message": format!("said: {kind}")}),
    )
}

/// Who the cluster is: what the driver asks first.
pub fn cluster() -> Reply {
    Reply::Json(
        200,
        json!({"name": "fake", "id": "fake", "version": "0", "nodes": []}),
    )
}

/// The container of volumes without parameters, which is there.
pub fn containers() -> Reply {
    let answer = api::ContainerAnswer {
        name: "csi-rf2".to_owned(),
        rf: 2,
        ..api::ContainerAnswer::default()
    };
    Reply::Json(200, json!([answer]))
}

pub fn volume(number: u64, name: &str) -> Value {
    let answer = api::VolumeAnswer {
        id: number,
        name: name.to_owned(),
        container: "csi-rf2".to_owned(),
        size: 64 << 20,
        state: "ready".to_owned(),
        ..api::VolumeAnswer::default()
    };
    serde_json::to_value(answer).unwrap()
}

pub fn snapshot(number: u64) -> Value {
    let answer = api::SnapshotAnswer {
        id: number,
        name: format!("snap-{number}"),
        volume_id: 1,
        size: 64 << 20,
        state: "ready".to_owned(),
        ..api::SnapshotAnswer::default()
    };
    serde_json::to_value(answer).unwrap()
}

/// Answers on a port until the process ends.
pub struct Fake {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || {
                    let stream = stream.expect("a connection");
                    // A client that goes away is no reason to fail.
                    let _ = converse(stream, &log, &*answer);
                });
            }
        });
        Self { url, asked }
    }

    /// What was asked at a path, in order.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let all = self.asked.lock().unwrap();
        let there = all.iter().filter(|asked| asked.path.starts_with(path));
        there.cloned().collect()
    }
}

fn converse(
    mut stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Reply,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines.first().map_or("", String::as_str).split(' ');
    let (method, path) = (words.next(), words.next());
    let header = |line: &String| {
        let (key, value) = line.split_once(": ")?;
        Some((key.to_lowercase(), value.to_owned()))
    };
    let headers: BTreeMap<String, String> = lines.iter().filter_map(header).collect();
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let asked = Asked {
        method: method.unwrap_or_default().to_owned(),
        path: path.unwrap_or_default().to_owned(),
        headers,
    };
    log.lock().unwrap().push(asked.clone());
    let mut reply = answer(&asked);
    while let Reply::Late(delay, later) = reply {
        std::thread::sleep(delay);
        reply = *later;
    }
    let (status, text) = match reply {
        Reply::Json(status, value) => (status, value.to_string()),
        Reply::Text(status, text) => (status, text.to_owned()),
        Reply::Silence => {
            std::thread::sleep(SILENCE);
            return Ok(());
        }
        Reply::Hangup | Reply::Late(..) => return Ok(()),
    };
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{text}").as_bytes())
}

/// An address at which nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A machine on which nothing is attached.
struct Bare;

impl Attach for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn find(&self, _: u64) -> Result<Option<Device>, AttachRefusal> {
        Ok(None)
    }

    fn attach(&self, _: &Wanted) -> Result<PathBuf, AttachRefusal> {
        Err(AttachRefusal::Impossible(
            "nothing can be attached".to_owned(),
        ))
    }

    fn refresh(&self, _: u64) -> Result<(), AttachRefusal> {
        Ok(())
    }

    fn detach(&self, _: u64) -> Result<(), AttachRefusal> {
        Ok(())
    }

    fn memory_bytes(&self) -> u64 {
        1 << 20
    }
}

/// Connects as soon as somebody listens.
async fn connect(endpoint: &Endpoint) -> Channel {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(cause) => assert!(Instant::now() < deadline, "nobody listens: {cause}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Controller and node of the driver, in this process; they get on while an answer is waited for.
pub struct Plugins {
    runtime: Runtime,
    pub folder: PathBuf,
    channels: [Channel; 2],
}

impl Plugins {
    pub fn new(endpoints: &[&str]) -> Self {
        Self::with_token(endpoints, None)
    }

    /// With a token in a file of this name in their folder.
    pub fn with_token(endpoints: &[&str], token: Option<&str>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "csi-api-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Relaxed)
        );
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let api = ApiOptions {
            endpoints: endpoints.iter().map(|&url| url.to_owned()).collect(),
            token_file: token.map(|name| folder.join(name)),
            credentials: None,
        };
        let controller = ControllerOptions {
            socket: folder.join("controller"),
            api: api.clone(),
            blocks: BlockStyle::Variable,
            kubernetes: None,
        };
        let node = NodeOptions {
            socket: folder.join("node"),
            api,
            node: "worker".to_owned(),
            work_dir: folder.join("work"),
            attach: Box::new(Bare),
        };
        runtime.spawn(csi::serve_controller(controller, std::future::pending()));
        runtime.spawn(csi::serve_node(node, std::future::pending()));
        let channels = ["controller", "node"].map(|kind| {
            let address = format!("unix://{}", folder.join(kind).display());
            let endpoint = Endpoint::from_shared(address).unwrap();
            runtime.block_on(connect(&endpoint))
        });
        Self {
            runtime,
            folder,
            channels,
        }
    }

    pub fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channels[0].clone())
    }

    pub fn groups(&self) -> GroupControllerClient<Channel> {
        GroupControllerClient::new(self.channels[0].clone())
    }

    pub fn metadata(&self) -> SnapshotMetadataClient<Channel> {
        SnapshotMetadataClient::new(self.channels[0].clone())
    }

    pub fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channels[1].clone())
    }

    pub fn identity(&self, kind: usize) -> IdentityClient<Channel> {
        IdentityClient::new(self.channels[kind].clone())
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn wait<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(answer).map(Response::into_inner)
    }
}

impl Drop for Plugins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
