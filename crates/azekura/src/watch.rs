//! `--watch`: show something again when it changes, or how far the tasks are that a change began.
//!
//! Nodes tell of changes by server-sent events (`GET /stream`), which a thread listens to; where they do not (a token that may not
//! listen, a node that cannot be reached) the same is looked at every two seconds.
//!
//! A change is asked for under an id of its own, in a thread, and its tasks are those that carry the id: so progress is
//! shown also of what is answered only when it is over.

use crate::cli::{
    AlertVerb, AuditVerb, CaVerb, CatalogVerb, Cli, ClusterVerb, ContainerVerb, DiskVerb, Form,
    GroupSnapshotVerb, KubernetesVerb, MemberVerb, MetricsVerb, NodeArgs, NodeVerb, SessionVerb,
    SnapshotVerb, StoreVerb, TargetVerb, TaskVerb, TokenVerb, UserVerb, Verb, VolumeVerb,
};
use crate::output::{CLEAR, say};
use crate::remote::{Endpoint, Remote, RemoteError};
use crate::tasks::{ended, line, plain_line};
use crate::{Usage, console};
use api::http::path;
use api::{ErrorKind, TaskAnswer, TasksAnswer};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Longest time between two looks while changes are told: figures change without anybody telling.
const TOLD_INTERVAL: Duration = Duration::from_secs(15);
/// The same while they are not.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Shortest time between two looks, however much changes.
const GAP: Duration = Duration::from_millis(500);
/// Pause before a node is asked again for its stream.
const COME_AGAIN: Duration = Duration::from_secs(1);
/// Tasks among which those of a change are looked for: the newest.
const TASKS_MAX: u32 = 200;

/// What `--watch` does with a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Shows it again.
    Looks,
    /// Follows its tasks.
    Changes,
    /// Nothing: it says why.
    Not(&'static str),
}

fn either(looks: bool) -> Watched {
    match looks {
        true => Watched::Looks,
        false => Watched::Changes,
    }
}

fn of_member(verb: &MemberVerb) -> Watched {
    either(matches!(verb, MemberVerb::Show { .. }))
}

fn of_node(arguments: &NodeArgs) -> Watched {
    match &arguments.verb {
        None => Watched::Not("it runs until it is told to stop"),
        Some(NodeVerb::Join(_)) => Watched::Not("it works on this machine"),
        Some(NodeVerb::List) => Watched::Looks,
        Some(NodeVerb::Member(verb)) => of_member(verb),
        Some(NodeVerb::Token(_) | NodeVerb::Approve { .. }) => Watched::Changes,
    }
}

fn of_cluster(verb: &ClusterVerb) -> Watched {
    match verb {
        ClusterVerb::Show | ClusterVerb::Settings { .. } | ClusterVerb::Api => Watched::Looks,
        ClusterVerb::Ca(verb) => either(matches!(verb, CaVerb::Show)),
        ClusterVerb::Init(_) | ClusterVerb::Credentials(_) => {
            Watched::Not("it works on this machine")
        }
    }
}

fn of_alert(verb: &AlertVerb) -> Watched {
    let looks = match verb {
        AlertVerb::List(_) | AlertVerb::Show { .. } => true,
        AlertVerb::Target(verb) => {
            matches!(verb, TargetVerb::List { .. } | TargetVerb::Show { .. })
        }
        AlertVerb::Acknowledge(_) | AlertVerb::Resolve(_) => false,
    };
    either(looks)
}

/// What `--watch` does with a verb. Every verb is named here, so that a new one is not forgotten.
pub fn watched(verb: &Verb) -> Watched {
    const HERE: Watched = Watched::Not("it works on this machine");
    match verb {
        Verb::Status | Verb::Resiliency | Verb::Space | Verb::Capacity(_) => Watched::Looks,
        Verb::Events(_) | Verb::Logs(_) => Watched::Not("it has --follow"),
        Verb::Top(_) => Watched::Not("it goes on by itself"),
        Verb::Metrics(MetricsVerb::Export | MetricsVerb::Query(_)) => Watched::Looks,
        Verb::Metrics(MetricsVerb::Busiest { .. }) => Watched::Looks,
        Verb::Audit(AuditVerb::List(_) | AuditVerb::Show { .. }) => Watched::Looks,
        Verb::Task(TaskVerb::Watch { .. }) => Watched::Not("it watches already"),
        Verb::Task(verb) => either(matches!(verb, TaskVerb::List(_) | TaskVerb::Show { .. })),
        Verb::Container(verb) => either(matches!(
            verb,
            ContainerVerb::List { .. } | ContainerVerb::Show { .. }
        )),
        Verb::Volume(verb) => either(matches!(
            verb,
            VolumeVerb::List { .. } | VolumeVerb::Show { .. }
        )),
        Verb::Snapshot(verb) => either(matches!(
            verb,
            SnapshotVerb::List { .. } | SnapshotVerb::Show { .. } | SnapshotVerb::Diff { .. }
        )),
        Verb::GroupSnapshot(verb) => either(matches!(
            verb,
            GroupSnapshotVerb::List { .. } | GroupSnapshotVerb::Show { .. }
        )),
        Verb::Token(verb) => either(matches!(
            verb,
            TokenVerb::List { .. } | TokenVerb::Show { .. }
        )),
        Verb::User(verb) => either(matches!(
            verb,
            UserVerb::List { .. } | UserVerb::Show { .. }
        )),
        Verb::Session(verb) => either(matches!(verb, SessionVerb::Show | SessionVerb::List { .. })),
        Verb::Kubernetes(verb) => either(!matches!(verb, KubernetesVerb::Forget { .. })),
        Verb::Store(StoreVerb::List { .. }) => Watched::Looks,
        Verb::Store(StoreVerb::Scrub { .. }) => Watched::Changes,
        Verb::Store(StoreVerb::Member(verb)) => of_member(verb),
        Verb::Disk(DiskVerb::Format(_) | DiskVerb::Show { .. }) => HERE,
        Verb::Disk(verb) => either(matches!(verb, DiskVerb::List { .. })),
        Verb::Catalog(verb) if !verb.asks_a_node() => HERE,
        Verb::Catalog(CatalogVerb::Backup { .. }) => Watched::Not("it is one file"),
        Verb::Catalog(verb) => either(matches!(verb, CatalogVerb::Status)),
        Verb::Node(arguments) => of_node(arguments),
        Verb::Cluster(verb) => of_cluster(verb),
        Verb::Alert(verb) => of_alert(verb),
        Verb::Group(_) => Watched::Looks,
        Verb::Clone(arguments) => either(arguments.verb.is_some()),
        Verb::Completion { .. } | Verb::Csi(_) | Verb::Attach(_) | Verb::Detach(_) => HERE,
        Verb::Preflight(_) | Verb::SupportBundle(_) | Verb::Bench(_) | Verb::AttachGuard(_) => HERE,
    }
}

/// Carries a verb out with `--watch`.
///
/// # Errors
/// What the node says, when a task did not succeed, and when there is nothing to watch.
pub fn watch(endpoint: Endpoint<'_>, cli: Cli) -> anyhow::Result<String> {
    let kind = watched(&cli.verb);
    if let Watched::Not(reason) = kind {
        return Err(Usage(format!("this verb takes no --watch: {reason}")).into());
    }
    let form = match cli.output {
        Form::Json => Form::JsonLine,
        other => other,
    };
    let bell = Bell::new(Remote::new(endpoint)?, cli.watch_interval);
    let remote = Remote::new(endpoint)?;
    match kind {
        Watched::Looks => again_and_again(&remote, &cli.verb, form, &bell),
        _ => follow(remote, cli.verb, form, &bell),
    }
}

/// Rings when somebody should look.
struct Bell {
    rings: Receiver<()>,
    interval: Option<Duration>,
}

/// Listens to what changes until nobody wants to know, or nobody tells.
fn listen(remote: &Remote, rings: &Sender<()>) {
    loop {
        match remote.listen(&path(&["stream"])) {
            Ok(stream) => {
                let lines = BufReader::new(stream).lines();
                for line in lines.map_while(Result::ok) {
                    if line.starts_with("event:") && rings.send(()).is_err() {
                        return;
                    }
                }
            }
            Err(RemoteError::Refused(error)) if error.kind != ErrorKind::Unavailable => return,
            Err(_) => {}
        }
        // Whatever happened while nobody listened is to be seen.
        if rings.send(()).is_err() {
            return;
        }
        std::thread::sleep(COME_AGAIN);
    }
}

impl Bell {
    fn new(remote: Remote, interval: Option<Duration>) -> Self {
        let (sender, rings) = mpsc::channel();
        std::thread::spawn(move || listen(&remote, &sender));
        let interval = interval.map(|wanted| wanted.max(GAP));
        Self { rings, interval }
    }

    /// Waits until it is time to look: something changed, or enough time has passed.
    fn wait(&self) {
        let begin = Instant::now();
        let told = self.interval.unwrap_or(TOLD_INTERVAL);
        match self.rings.recv_timeout(told) {
            Ok(()) => std::thread::sleep(GAP.saturating_sub(begin.elapsed())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(self.interval.unwrap_or(LOOK_INTERVAL));
            }
        }
        while self.rings.try_recv().is_ok() {}
    }
}

/// Whether looking again may help.
fn passes(error: &anyhow::Error) -> bool {
    let said = error.downcast_ref::<RemoteError>();
    said.is_some_and(|said| said.to_operation_error().kind == ErrorKind::Unavailable)
}

/// Shows what a verb answers whenever that is another answer, until the reader goes away.
fn again_and_again(
    remote: &Remote,
    verb: &Verb,
    form: Form,
    bell: &Bell,
) -> anyhow::Result<String> {
    let redraws = form == Form::Table && std::io::stdout().is_terminal();
    let (mut shown, mut missed) = (None, false);
    loop {
        match console(remote, verb.clone(), form) {
            Ok(text) if shown.as_ref() != Some(&text) => {
                let (before, after) = match (form, redraws) {
                    (Form::Table, true) => (CLEAR, ""),
                    (Form::Table, false) => ("", "\n"),
                    _ => ("", ""),
                };
                if !say(&format!("{before}{text}{after}")) {
                    return Ok(String::new());
                }
                (shown, missed) = (Some(text), false);
            }
            Ok(_) => missed = false,
            Err(error) if shown.is_some() && passes(&error) => {
                if !std::mem::replace(&mut missed, true) {
                    eprintln!("azekura: {error:#}; looking again");
                }
            }
            Err(error) => return Err(error),
        }
        bell.wait();
    }
}

/// A word that no other request has.
fn request_id() -> anyhow::Result<String> {
    use std::io::Read;
    let mut random = [0_u8; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("cli-{:016x}", u64::from_ne_bytes(random)))
}

/// The tasks of one request, as far as they were seen.
struct Tasks<'a> {
    remote: &'a Remote,
    request: String,
    known: BTreeSet<u64>,
}

impl<'a> Tasks<'a> {
    fn of(remote: &'a Remote, request: String) -> Self {
        Self {
            remote,
            request,
            known: BTreeSet::new(),
        }
    }

    /// Fails where nobody may look at them: whatever else is wrong now may be over when it matters.
    fn check(mut self) -> anyhow::Result<()> {
        match self.look() {
            Err(error) if is_forbidden(&error) => Err(anyhow::Error::from(error)
                .context("nothing was asked for: who watches must be allowed to see tasks")),
            _ => Ok(()),
        }
    }

    /// All of them as they are now, the oldest first.
    fn look(&mut self) -> Result<Vec<TaskAnswer>, RemoteError> {
        let text = format!("{}?limit={TASKS_MAX}", path(&["tasks"]));
        let newest = self.remote.get::<TasksAnswer>(&text)?.tasks;
        let own = |task: &TaskAnswer| task.request == self.request;
        let mut tasks: Vec<TaskAnswer> = newest
            .into_iter()
            .filter(|task| own(task) || self.known.contains(&task.id))
            .collect();
        for id in &self.known {
            if tasks.iter().all(|task| task.id != *id) {
                tasks.push(self.remote.get(&path(&["tasks", &id.to_string()]))?);
            }
        }
        tasks.sort_by_key(|task| task.id);
        self.known.extend(tasks.iter().map(|task| task.id));
        Ok(tasks)
    }
}

fn is_forbidden(error: &RemoteError) -> bool {
    let kind = error.to_operation_error().kind;
    matches!(kind, ErrorKind::Forbidden | ErrorKind::Unauthenticated)
}

/// How far tasks are: drawn on a terminal, lines elsewhere.
struct Progress {
    form: Form,
    draws: bool,
    drawn: usize,
    said: Vec<TaskAnswer>,
}

impl Progress {
    fn new(form: Form) -> Self {
        Self {
            form,
            draws: form == Form::Table && std::io::stderr().is_terminal(),
            drawn: 0,
            said: Vec::new(),
        }
    }

    /// What is to be written of tasks, given what was said of them before. Pure but for the memory of it.
    fn text(&mut self, tasks: &[TaskAnswer]) -> String {
        let new = |task: &&TaskAnswer| !self.said.contains(task);
        let changed: Vec<TaskAnswer> = tasks.iter().filter(new).cloned().collect();
        if changed.is_empty() {
            return String::new();
        }
        let text = match (self.form, self.draws) {
            (Form::Table, true) => {
                let up = match self.drawn {
                    0 => String::new(),
                    lines => format!("\x1b[{lines}A\x1b[J"),
                };
                self.drawn = tasks.len();
                up + &tasks.iter().map(line).collect::<String>()
            }
            (Form::Table, false) => changed.iter().map(plain_line).collect(),
            (form, _) => changed
                .iter()
                .map(|task| crate::output::render(task, form))
                .collect(),
        };
        self.said = tasks.to_vec();
        text
    }

    /// Writes it; whether anybody reads.
    fn show(&mut self, tasks: &[TaskAnswer]) -> bool {
        let text = self.text(tasks);
        match self.form {
            _ if text.is_empty() => true,
            Form::Table => std::io::stderr().write_all(text.as_bytes()).is_ok(),
            _ => say(&text),
        }
    }
}

/// Carries a change out, and shows its tasks until they have ended.
fn follow(remote: Remote, verb: Verb, form: Form, bell: &Bell) -> anyhow::Result<String> {
    // Who may not see tasks is to hear it before anything is changed.
    Tasks::of(&remote, request_id()?).check()?;
    let request = request_id()?;
    let asking = remote.named(&request);
    let (sender, answered) = mpsc::channel();
    std::thread::spawn(move || {
        let result = console(&asking, verb, form);
        // Nobody waits for it any more when the watch has failed.
        let _ = sender.send((result, asking.begun()));
    });
    let mut tasks = Tasks::of(&remote, request);
    let mut progress = Progress::new(form);
    // Until it is answered: nothing tells this thread but the answer.
    let (result, begun) = loop {
        match answered.recv_timeout(GAP) {
            Ok(answer) => break answer,
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the request ended unanswered"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        // A look that fails says nothing about the request.
        if let Ok(now) = tasks.look() {
            progress.show(&now);
        }
    };
    let text = result?;
    if !say(&text) {
        return Ok(String::new());
    }
    tasks.known.extend(begun);
    progress.drawn = 0;
    loop {
        match tasks.look() {
            Ok(now) => {
                let read = progress.show(&now);
                if !read || now.iter().all(|task| !task.is_open()) {
                    return ended(&now);
                }
            }
            Err(error) if error.to_operation_error().kind == ErrorKind::Unavailable => {}
            Err(error) => return Err(error.into()),
        }
        bell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(done: u64, status: &str) -> TaskAnswer {
        TaskAnswer {
            id: 7,
            kind: "node-drain".to_owned(),
            entity: "node/b".to_owned(),
            status: status.to_owned(),
            done,
            total: 48,
            unit: "parts".to_owned(),
            message: "still there".to_owned(),
            ..TaskAnswer::default()
        }
    }

    fn progress(form: Form, draws: bool) -> Progress {
        Progress {
            form,
            draws,
            drawn: 0,
            said: Vec::new(),
        }
    }

    #[test]
    fn a_terminal_is_drawn_over_and_a_file_gets_lines() {
        let mut drawn = progress(Form::Table, true);
        let first = drawn.text(&[task(12, "running")]);
        assert!(
            first.contains("[#######.") && !first.contains('\x1b'),
            "{first}"
        );
        assert_eq!(drawn.text(&[task(12, "running")]), "", "nothing changed");
        let second = drawn.text(&[task(24, "running")]);
        assert!(second.starts_with("\x1b[1A\x1b[J"), "{second}");
        let mut plain = progress(Form::Table, false);
        assert_eq!(
            plain.text(&[task(12, "running")]),
            "task 7 (node-drain of node/b) 25% (12 of 48 parts): still there\n"
        );
        assert_eq!(
            plain.text(&[task(48, "succeeded")]),
            "task 7 (node-drain of node/b) succeeded: still there\n"
        );
    }

    #[test]
    fn programs_get_one_document_per_line_and_change() {
        let mut json = progress(Form::JsonLine, false);
        let text = json.text(&[task(12, "running")]) + &json.text(&[task(24, "running")]);
        let done: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<TaskAnswer>(line).unwrap().done)
            .collect();
        assert_eq!(done, [12, 24]);
    }

    #[test]
    fn a_bell_without_a_stream_rings_by_its_interval() {
        let (_, rings) = mpsc::channel();
        let interval = Some(Duration::from_millis(1));
        Bell { rings, interval }.wait();
        let (sender, rings) = mpsc::channel();
        sender.send(()).unwrap();
        sender.send(()).unwrap();
        let bell = Bell {
            rings,
            interval: None,
        };
        bell.wait();
        assert!(
            bell.rings.try_recv().is_err(),
            "what came together is one look"
        );
    }
}
