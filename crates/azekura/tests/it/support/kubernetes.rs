//! As much of an API of Kubernetes as the driver needs: it keeps objects, tells whoever watches what becomes of them, and remembers what was
//! changed by others.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// Something that was done to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub what: String,
    /// Whom the volume was attached to at that moment.
    pub attached: String,
}

/// What became of an object, for those who watch.
struct Event {
    version: u64,
    kind: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    what: &'static str,
    object: Value,
}

#[derive(Default)]
struct State {
    /// By kind, in the plural, and name.
    objects: BTreeMap<(String, String), Value>,
    silent: BTreeSet<String>,
    changes: Vec<Change>,
    reasons: Vec<String>,
    /// How often each kind was listed.
    lists: BTreeMap<String, usize>,
    version: u64,
    events: Vec<Event>,
    /// Watches that would go on from before it are refused.
    oldest: u64,
    /// Watches that began before the last cut have ended.
    cuts: u64,
}

impl State {
    /// Notes an event of an object, with a version of its own.
    fn note(&mut self, kind: &str, what: &'static str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.events.push(Event {
            version: self.version,
            kind: kind.to_owned(),
            what,
            object: object.clone(),
        });
        object
    }
}

/// How long whoever watches waits for news at most.
const NEWS: Duration = Duration::from_millis(10);

/// The API.
#[derive(Clone)]
pub struct Kubernetes {
    state: Arc<Mutex<State>>,
    address: String,
}

/// What is asked: method, path below the version, and body.
struct Request {
    method: String,
    path: Vec<String>,
    query: String,
    body: Value,
}

impl Request {
    /// The value of a key of the query.
    fn asks(&self, key: &str) -> Option<&str> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(name, value)| (name == key).then_some(value))
    }
}

/// The version that it claims to have.
pub const VERSION: &str = "v1.35.2";

impl Kubernetes {
    /// Serves until the process ends. `attached` says whom the volume is attached to.
    pub fn start(attached: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self {
            state: Arc::default(),
            address: listener.local_addr().unwrap().to_string(),
        };
        let (server, attached) = (this.clone(), Arc::new(attached));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, attached) = (server.clone(), attached.clone());
                std::thread::spawn(move || {
                    // A client that goes away is no reason to fail.
                    let _ = server.converse(stream.unwrap(), &*attached);
                });
            }
        });
        let kubelets = this.clone();
        std::thread::spawn(move || {
            loop {
                kubelets.renew();
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        this
    }

    /// How a client finds it.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn add(&self, kind: &str, name: &str, mut object: Value) {
        let mut state = self.state();
        let key = (kind.to_owned(), name.to_owned());
        let what = match state.objects.contains_key(&key) {
            true => "MODIFIED",
            false => "ADDED",
        };
        object["metadata"]["name"] = json!(name);
        let object = state.note(kind, what, object);
        state.objects.insert(key, object);
    }

    /// Removes what was added.
    pub fn remove(&self, kind: &str, name: &str) {
        let mut state = self.state();
        let key = (kind.to_owned(), name.to_owned());
        let object = state.objects.remove(&key).expect("it is there");
        state.note(kind, "DELETED", object);
    }

    /// Ends all watches, and forgets what they could go on from.
    pub fn forget_events(&self) {
        let mut state = self.state();
        state.events.clear();
        state.oldest = state.version;
        state.cuts += 1;
    }

    /// A node and its lease.
    pub fn add_node(&self, name: &str) {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        self.add("nodes", name, json!({"spec": {}, "status": ready}));
        self.add("leases", name, json!({"spec": {}}));
        // A kubelet makes its lease with the time in it: of a node that has never been heard silence says nothing.
        self.renew();
    }

    /// The kubelet of a node no longer reaches this.
    pub fn silence(&self, node: &str) {
        self.state().silent.insert(node.to_owned());
    }

    pub fn wake(&self, node: &str) {
        self.state().silent.remove(node);
    }

    pub fn changes(&self) -> Vec<Change> {
        self.state().changes.clone()
    }

    /// How often a kind was listed.
    pub fn lists(&self, kind: &str) -> usize {
        self.state().lists.get(kind).copied().unwrap_or_default()
    }

    /// Reasons of the events, in order.
    pub fn reasons(&self) -> Vec<String> {
        self.state().reasons.clone()
    }

    /// What all kubelets do: they write the time into their leases.
    fn renew(&self) {
        let seconds = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() % 86_400;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let time = format!(
            "2026-01-01T{hours:02}:{minutes:02}:{:02}.000000Z",
            seconds % 60
        );
        let mut state = self.state();
        let silent = state.silent.clone();
        for ((kind, name), object) in &mut state.objects {
            if kind == "leases" && !silent.contains(name) {
                object["spec"]["renewTime"] = json!(time);
            }
        }
    }

    fn converse(
        &self,
        mut stream: TcpStream,
        attached: &dyn Fn() -> String,
    ) -> std::io::Result<()> {
        let request = read(&mut stream)?;
        if request.asks("watch") == Some("true") {
            return self.watch(&request, stream);
        }
        // Asked before the change is made, as nothing else is when it is not one.
        let attached = match request.method.as_str() {
            "GET" => String::new(),
            _ => attached(),
        };
        let (status, answer) = self.answer(&request, attached);
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + &text).as_bytes())
    }

    /// Tells what becomes of objects of a kind, in lines, until the time is up or the watch is cut.
    fn watch(&self, request: &Request, mut stream: TcpStream) -> std::io::Result<()> {
        let kind = request.path.first().cloned().unwrap_or_default();
        let number = |key: &str| request.asks(key)?.parse::<u64>().ok();
        let mut version = number("resourceVersion").unwrap_or(0);
        let end = Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(300));
        let (oldest, cuts) = {
            let state = self.state();
            (state.oldest, state.cuts)
        };
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n",
        )?;
        if version < oldest {
            let (_, status) = refusal(410);
            return writeln!(stream, "{}", json!({"type": "ERROR", "object": status}));
        }
        while Instant::now() < end {
            let mut lines = String::new();
            {
                let state = self.state();
                if state.cuts != cuts {
                    return Ok(());
                }
                let news = state
                    .events
                    .partition_point(|event| event.version <= version);
                for event in &state.events[news..] {
                    if event.kind == kind {
                        let event = json!({"type": event.what, "object": event.object});
                        lines += &format!("{event}\n");
                    }
                }
                version = state.version;
            }
            stream.write_all(lines.as_bytes())?;
            std::thread::sleep(NEWS);
        }
        Ok(())
    }

    fn answer(&self, request: &Request, attached: String) -> (u16, Value) {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        // Namespaces are not told apart but in what is listed.
        let path = match path[..] {
            ["namespaces", _, _, ..] => &path[2..],
            _ => &path[..],
        };
        let mut state = self.state();
        match (request.method.as_str(), path) {
            ("GET", ["version"]) => (200, json!({"gitVersion": VERSION})),
            ("GET", [kind]) => {
                *state.lists.entry((*kind).to_owned()).or_default() += 1;
                (200, list(&state, kind, request))
            }
            ("GET", [kind, name]) => {
                match state.objects.get(&((*kind).to_owned(), (*name).to_owned())) {
                    Some(object) => (200, object.clone()),
                    None => refusal(404),
                }
            }
            ("PATCH", ["nodes", name]) => taint(&mut state, name, &request.body, attached),
            ("DELETE", [kind @ ("pods" | "volumeattachments"), name]) => {
                delete(&mut state, kind, name, &request.body, attached)
            }
            ("POST", ["events"]) => {
                let reason = request.body["reason"].as_str().unwrap().to_owned();
                state.reasons.push(reason);
                (201, request.body.clone())
            }
            _ => refusal(405),
        }
    }
}

fn refusal(code: u16) -> (u16, Value) {
    let status = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "No", "code": code});
    (code, status)
}

/// A page of what there is of a kind; the next one goes on behind its last name.
fn list(state: &State, kind: &str, request: &Request) -> Value {
    let selector = request.asks("fieldSelector").unwrap_or_default();
    let on_node = selector.strip_prefix("spec.nodeName%3D");
    let after = request.asks("continue").unwrap_or_default();
    let of_kind = state
        .objects
        .iter()
        .filter(|((of, name), _)| of == kind && name.as_str() > after)
        .map(|(_, object)| object);
    let mut items: Vec<&Value> = of_kind
        .filter(|object| on_node.is_none_or(|node| object["spec"]["nodeName"] == node))
        .collect();
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    let limit = request.asks("limit").and_then(|text| text.parse().ok());
    if let Some(limit) = limit.filter(|limit| *limit < items.len()) {
        items.truncate(limit);
        metadata["continue"] = items[limit - 1]["metadata"]["name"].clone();
    }
    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})
}

fn taint(state: &mut State, name: &str, change: &Value, attached: String) -> (u16, Value) {
    state.version += 1;
    let version = state.version;
    let Some(node) = state
        .objects
        .get_mut(&("nodes".to_owned(), name.to_owned()))
    else {
        return refusal(404);
    };
    if change["metadata"]["resourceVersion"] != node["metadata"]["resourceVersion"] {
        return refusal(409);
    }
    node["metadata"]["resourceVersion"] = json!(version.to_string());
    node["spec"]["taints"] = change["spec"]["taints"].clone();
    let node = node.clone();
    let value = node["spec"]["taints"][0]["value"]
        .as_str()
        .unwrap_or("nothing");
    let what = format!("node {name} tainted: {value}");
    state.changes.push(Change { what, attached });
    (200, node)
}

fn delete(
    state: &mut State,
    kind: &str,
    name: &str,
    body: &Value,
    attached: String,
) -> (u16, Value) {
    let key = (kind.to_owned(), name.to_owned());
    let Some(object) = state.objects.get(&key).cloned() else {
        return refusal(404);
    };
    if kind == "pods" && body["preconditions"]["uid"] != object["metadata"]["uid"] {
        return refusal(409);
    }
    state.objects.remove(&key);
    state.note(kind, "DELETED", object.clone());
    let what = match kind {
        "pods" => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            format!(
                "pod {namespace}/{name} deleted after {} s",
                body["gracePeriodSeconds"]
            )
        }
        _ => format!("volume attachment {name} deleted"),
    };
    state.changes.push(Change { what, attached });
    (200, object)
}

fn read(stream: &mut TcpStream) -> std::io::Result<Request> {
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
    let header = |line: &String| {
        let (key, value) = line.split_once(": ")?;
        (key.eq_ignore_ascii_case("content-length")).then(|| value.parse().ok())?
    };
    let length: usize = lines.iter().find_map(header).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = lines.first().map_or("", String::as_str).split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let below = [
        "/api/v1/",
        "/apis/storage.k8s.io/v1/",
        "/apis/coordination.k8s.io/v1/",
        "/",
    ];
    let path = below
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .unwrap_or_default();
    Ok(Request {
        method,
        path: path.split('/').map(str::to_owned).collect(),
        query: query.to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}
