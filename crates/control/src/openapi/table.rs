//! Every route: what it takes, what it answers, who may ask.

use super::accounts::{accounts, sessions};
use super::alerts::{alerts, targets};
use super::describe::{Describe, Described};
use super::groups::groups;
use super::kubernetes::kubernetes;
use api::ErrorKind::{
    Exists, Failed, InUse, NoSpace, NotFound, Refused, Throttled, Unauthenticated, Unavailable,
};
use api::Scope::{Admin, Client, Csi, Operator, Viewer};
use api::stream::ChangesAnswer;
use api::{
    AttachmentAnswer, AuthorityAnswer, BusiestAnswer, BusiestQuery, CapacityAnswer, CatalogAnswer,
    CatalogBackupAnswer, CatalogMoveAnswer, CatalogTarget, ClusterAnswer, ContainerAnswer,
    ContainerChange, ContainerQuery, ContainerSpec, DiffAnswer, DiskAnswer, DiskLight, DiskQuery,
    DiskReplacement, DiskSpec, EventQuery, EventsAnswer, GroupSnapshotAnswer, GroupSnapshotQuery,
    GroupSnapshotSpec, JoinAnswer, JoinRequest, JoinTokenAnswer, JoinTokenSpec, ListQuery,
    LogQuery, LogReport, LogReportAnswer, LogsAnswer, MemberAnswer, MemberChange, MetricsAnswer,
    MetricsQuery, RemoveQuery, ResiliencyAnswer, Retirement, Scope, SettingAnswer, SettingQuery,
    SnapshotAnswer, SpaceReportAnswer, StartedAnswer, StatusAnswer, StoreAnswer, StoreQuery,
    TaskAnswer, TaskQuery, TasksAnswer, TokenAnswer, TokenQuery, TokenSpec, VolumeAnswer,
    VolumeChange, VolumeSpec, http,
};
use utoipa::openapi::Required::{False, True};
use utoipa::openapi::path::HttpMethod::{Delete, Get, Patch, Post};

pub(super) const ALL: &[Scope] = &[Admin, Operator, Viewer, Csi];
const EVERYBODY: &[Scope] = &[Admin, Operator, Viewer, Csi, Client];
const ATTACHING: &[Scope] = &[Admin, Operator, Csi, Client];
pub(super) const LOOKING: &[Scope] = &[Admin, Operator, Viewer];
pub(super) const DRIVING: &[Scope] = &[Admin, Operator, Csi];
pub(super) const OPERATING: &[Scope] = &[Admin, Operator];
pub(super) const ADMIN: &[Scope] = &[Admin];

const VOLUME: &str = "Name of the volume, or `volume-` and its id";
const SNAPSHOT: &str = "Name of the snapshot, or `snapshot-` and its id";
const CONTAINER: &str = "Name of the container";
pub(super) const DONE: &str = "Done; nothing to tell";

/// All of them.
pub(super) fn operations() -> Vec<Described> {
    let groups = [
        cluster(),
        members(),
        scrubbing(),
        catalog(),
        disks(),
        groups(),
        insight(),
        logs(),
        tasks(),
        alerts(),
        targets(),
        kubernetes(),
        joining(),
        containers(),
        volumes(),
        volume_actions(),
        snapshots(),
        group_snapshots(),
        tokens(),
        accounts(),
        sessions(),
        beside(),
    ];
    let all = groups.into_iter().flatten();
    all.map(Describe::done).collect()
}

fn cluster() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/status", "status", "The whole cluster at a glance")
            .answer::<StatusAnswer>("Nodes, stores and volumes")
            .scopes(&[Admin, Operator, Viewer, Client]),
        Describe::new(
            Get,
            "/cluster",
            "cluster",
            "The nodes alone: what clients poll for addresses",
        )
        .answer::<ClusterAnswer>("The cluster and its nodes")
        .scopes(EVERYBODY),
        Describe::new(
            Get,
            "/capacity",
            "capacity",
            "What volumes with a policy can still write",
        )
        .query::<http::CapacityQuery>(&[])
        .answer::<CapacityAnswer>("Bytes for the policy asked about")
        .problems(&[NotFound])
        .scopes(ALL),
        Describe::new(
            Get,
            "/stream",
            "stream",
            "What changes, as server-sent events `changes` and `reset` with the revision of the catalog as id",
        )
        .events::<ChangesAnswer>("Events; the data of each is one of these")
        .scopes(LOOKING),
        Describe::new(Get, "/openapi.json", "openapi", "This document")
            .object("An OpenAPI 3.1 document")
            .scopes(EVERYBODY),
    ]
}

/// Resiliency, space and events.
fn insight() -> Vec<Describe> {
    vec![
        Describe::new(
            Get,
            "/resiliency",
            "resiliency",
            "How much loss the cluster can take now",
        )
        .answer::<ResiliencyAnswer>("The verdict and what it rests on")
        .scopes(LOOKING),
        Describe::new(Get, "/space", "space", "Where the space goes")
            .answer::<SpaceReportAnswer>("Volumes, snapshots, containers and stores")
            .scopes(LOOKING),
        Describe::new(Get, "/events", "events", "What happened in the cluster")
            .query::<EventQuery>(&[])
            .answer::<EventsAnswer>("Events, oldest first")
            .scopes(LOOKING),
        Describe::new(
            Get,
            "/metrics/query",
            "metrics-query",
            "Figures over time of the cluster, a node, store, container or volume",
        )
        .query::<MetricsQuery>(&[])
        .answer::<MetricsAnswer>("Metrics by steps")
        .problems(&[NotFound])
        .scopes(LOOKING),
        Describe::new(
            Get,
            "/metrics/busiest",
            "busiest",
            "Nodes, and volumes by how busy they are now",
        )
        .query::<BusiestQuery>(&[])
        .answer::<BusiestAnswer>("The busiest volumes first")
        .scopes(LOOKING),
    ]
}

/// What the nodes' programs say.
fn logs() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/logs", "logs", "Recent lines of the nodes' logs")
            .query::<LogQuery>(&[])
            .answer::<LogsAnswer>("The newest lines that were asked for, oldest first; to a driver, of those that it told")
            .problems(&[NotFound])
            .scopes(ALL),
        Describe::new(
            Post,
            "/logs",
            "log-report",
            "Keeps lines of a driver's programs for a while: for the driver. A repeat changes nothing",
        )
        .body::<LogReport>(True)
        .answer::<LogReportAnswer>("How many of them are new")
        .problems(&[Throttled])
        .scopes(DRIVING),
        Describe::new(
            Get,
            "/logs/follow",
            "log-follow",
            "Lines of the nodes' logs as they come, as server-sent events `lines`; the id of each is the time of the newest line so far. \
             No `to` and no `limit`; without `from`, from now on",
        )
        .query::<LogQuery>(&[])
        .events::<LogsAnswer>("Events; the data of each is one of these. A line may come twice after a new beginning")
        .problems(&[NotFound])
        .scopes(LOOKING),
    ]
}

/// What takes time.
fn tasks() -> Vec<Describe> {
    const TASK: &str = "Id of the task";
    vec![
        Describe::new(Get, "/tasks", "task-list", "Tasks, the newest first")
            .query::<TaskQuery>(&[])
            .answer::<TasksAnswer>("Tasks, and how many are open")
            .scopes(LOOKING),
        Describe::new(Get, "/tasks/{id}", "task-show", "One task")
            .named("id", TASK)
            .answer::<TaskAnswer>("The task")
            .problems(&[NotFound])
            .scopes(LOOKING),
        Describe::new(
            Post,
            "/tasks/{id}/cancel",
            "task-cancel",
            "Has a task stop, if it is of a kind that can",
        )
        .named("id", TASK)
        .answer::<TaskAnswer>("The task; it ends a moment later")
        .problems(&[NotFound, Refused])
        .scopes(OPERATING),
    ]
}

fn members() -> Vec<Describe> {
    const NODE: &str = "Name of the node";
    const STORE: &str = "Id of the store";
    let show = |path, id, what: &'static str, name, about| {
        Describe::new(Get, path, id, what)
            .named(name, about)
            .tagged()
            .known()
            .answer::<MemberAnswer>("What ties it to the cluster")
            .problems(&[NotFound])
            .scopes(LOOKING)
    };
    let set = |path, id, what: &'static str, name, about| {
        Describe::new(Patch, path, id, what)
            .named(name, about)
            .body::<MemberChange>(True)
            .tagged()
            .conditional()
            .answer::<MemberAnswer>("What ties it to the cluster now")
            .problems(&[NotFound, Refused])
            .scopes(OPERATING)
    };
    let remove = |path, id, what: &'static str, name, about| {
        Describe::new(Delete, path, id, what)
            .named(name, about)
            .query::<RemoveQuery>(&[])
            .object(DONE)
            .problems(&[NotFound, Refused])
            .scopes(ADMIN)
    };
    vec![
        show("/nodes/{name}", "node-show", "One node", "name", NODE),
        set(
            "/nodes/{name}",
            "node-set",
            "Drains a node, or excuses it for a while",
            "name",
            NODE,
        ),
        remove(
            "/nodes/{name}",
            "node-remove",
            "Forgets a node that is drained, or lost for good",
            "name",
            NODE,
        ),
        Describe::new(Get, "/stores", "store-list", "Every store")
            .query::<StoreQuery>(&[])
            .list::<StoreAnswer>("Stores, by id")
            .scopes(LOOKING),
        settings(),
        show("/stores/{id}", "store-show", "One store", "id", STORE),
        set(
            "/stores/{id}",
            "store-set",
            "Drains a store, or excuses it for a while",
            "id",
            STORE,
        ),
        remove(
            "/stores/{id}",
            "store-remove",
            "Forgets a store that is drained, or lost for good",
            "id",
            STORE,
        ),
    ]
}

fn settings() -> Describe {
    Describe::new(Get, "/settings", "setting-list", "What the nodes run with")
        .query::<SettingQuery>(&[])
        .list::<SettingAnswer>("Settings, by key and node; of nodes that answer")
        .scopes(LOOKING)
}

/// Reading a store from beginning to end.
fn scrubbing() -> Vec<Describe> {
    vec![
        Describe::new(
            Post,
            "/stores/{id}/scrub",
            "store-scrub",
            "Reads every copy of a store and makes good what has rotted",
        )
        .named("id", "Id of the store")
        .answer::<StartedAnswer>("Begun; the task ends when all of them are read")
        .problems(&[NotFound, Refused])
        .scopes(OPERATING),
    ]
}

fn catalog() -> Vec<Describe> {
    vec![
        Describe::new(
            Get,
            "/catalog",
            "catalog-show",
            "Where the catalog is, who keeps it, and how they are",
        )
        .answer::<CatalogAnswer>("The catalog")
        .scopes(LOOKING),
        Describe::new(
            Get,
            "/catalog/backup",
            "catalog-backup",
            "All rows of the catalog at one moment",
        )
        .answer::<CatalogBackupAnswer>("A file to keep; hashes of tokens are in it")
        .scopes(ADMIN),
        Describe::new(
            Post,
            "/catalog/move",
            "catalog-move",
            "Moves the catalog of a single process to etcd while it is used",
        )
        .body::<CatalogTarget>(True)
        .answer::<CatalogMoveAnswer>("Where it is now")
        .problems(&[Refused])
        .scopes(ADMIN),
    ]
}

fn disks() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/disks", "disk-list", "The disks of all nodes")
            .query::<DiskQuery>(&[])
            .list::<DiskAnswer>("Disks, by node and store")
            .scopes(LOOKING),
        Describe::new(
            Post,
            "/disks",
            "disk-add",
            "Makes disks of a node a new store, which takes part at once",
        )
        .body::<DiskSpec>(True)
        .list::<DiskAnswer>("The disks of the new store")
        .problems(&[NotFound, Refused])
        .scopes(OPERATING),
        Describe::new(
            Post,
            "/disks/{store}/replace",
            "disk-replace",
            "Puts other disks in the place of a store's that are dead or empty",
        )
        .named("store", "Id of the store")
        .body::<DiskReplacement>(True)
        .list::<DiskAnswer>("The disks of the store")
        .problems(&[NotFound, Refused])
        .scopes(ADMIN),
        Describe::new(
            Post,
            "/disks/{store}/locate",
            "disk-locate",
            "Switches the lights that show where disks of a store are",
        )
        .named("store", "Id of the store")
        .body::<DiskLight>(True)
        .list::<DiskAnswer>("The disks of the store")
        .problems(&[NotFound, Refused])
        .scopes(OPERATING),
    ]
}

fn containers() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/containers", "container-list", "Every container")
            .query::<ContainerQuery>(&[])
            .list::<ContainerAnswer>("Containers, by name")
            .scopes(ALL),
        Describe::new(
            Post,
            "/containers",
            "container-create",
            "Creates a container; with scope csi its name begins with `csi-`",
        )
        .body::<ContainerSpec>(True)
        .tagged()
        .answer::<ContainerAnswer>("The container")
        .problems(&[Exists, Refused])
        .scopes(DRIVING),
        Describe::new(Get, "/containers/{name}", "container-show", "One container")
            .named("name", CONTAINER)
            .tagged()
            .known()
            .answer::<ContainerAnswer>("The container")
            .problems(&[NotFound])
            .scopes(ALL),
        Describe::new(
            Patch,
            "/containers/{name}",
            "container-set",
            "Changes a container; what is absent stays",
        )
        .named("name", CONTAINER)
        .body::<ContainerChange>(True)
        .tagged()
        .conditional()
        .answer::<ContainerAnswer>("The container as it is now")
        .problems(&[NotFound, Refused])
        .scopes(OPERATING),
        Describe::new(
            Delete,
            "/containers/{name}",
            "container-delete",
            "Deletes an empty container",
        )
        .named("name", CONTAINER)
        .conditional()
        .object(DONE)
        .problems(&[NotFound, Refused])
        .scopes(OPERATING),
    ]
}

fn volumes() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/volumes", "volume-list", "Volumes")
            .query::<ListQuery>(&["volume"])
            .list::<VolumeAnswer>(
                "Volumes by name, or a page of them by id or in the order asked for",
            )
            .scopes(ALL),
        Describe::new(
            Post,
            "/volumes",
            "volume-create",
            "Creates a volume, or with `from` a clone",
        )
        .body::<VolumeSpec>(True)
        .tagged()
        .answer::<VolumeAnswer>("The volume")
        .problems(&[NotFound, Exists, Refused, NoSpace])
        .scopes(DRIVING),
        Describe::new(Get, "/volumes/{name}", "volume-show", "One volume")
            .named("name", VOLUME)
            .tagged()
            .known()
            .answer::<VolumeAnswer>("The volume")
            .problems(&[NotFound])
            .scopes(EVERYBODY),
        Describe::new(
            Patch,
            "/volumes/{name}",
            "volume-set",
            "Changes labels, description and limits; what is absent stays",
        )
        .named("name", VOLUME)
        .body::<VolumeChange>(True)
        .tagged()
        .conditional()
        .answer::<VolumeAnswer>("The volume as it is now")
        .problems(&[NotFound, Refused])
        .scopes(DRIVING),
        Describe::new(
            Delete,
            "/volumes/{name}",
            "volume-delete",
            "Deletes a volume that nobody has attached; its snapshots stay",
        )
        .named("name", VOLUME)
        .conditional()
        .answer::<StartedAnswer>("Deleted; the task ends when its space is back")
        .problems(&[NotFound, InUse, Refused])
        .scopes(DRIVING),
    ]
}

fn volume_actions() -> Vec<Describe> {
    let action = |action: &str, summary: &str| {
        let path = format!("/volumes/{{name}}/{action}");
        let id = match action {
            "attach" | "detach" => action.to_owned(),
            other => format!("volume-{other}"),
        };
        Describe::new(Post, &path, &id, summary)
            .named("name", VOLUME)
            .problems(&[NotFound, Refused])
    };
    vec![
        action("resize", "Grows a volume while it is in use")
            .body::<http::Resize>(True)
            .tagged()
            .conditional()
            .answer::<VolumeAnswer>("The volume as it is now")
            .problems(&[NoSpace])
            .scopes(DRIVING),
        action(
            "restore",
            "Gives a detached volume the contents of one of its snapshots",
        )
        .body::<http::Restore>(True)
        .tagged()
        .conditional()
        .answer::<VolumeAnswer>("The volume as it is now")
        .scopes(OPERATING),
        action(
            "drain",
            "Writes everything in the volume's log out into extents",
        )
        .tagged()
        .answer::<VolumeAnswer>("The volume as it is now")
        .problems(&[NoSpace])
        .scopes(OPERATING),
        action(
            "release",
            "Ends the quarantine of a volume whose cause is gone, so that any node may open it",
        )
        .tagged()
        .answer::<VolumeAnswer>("The volume as it is now")
        .scopes(OPERATING),
        action(
            "attach",
            "Gives a client the right to use the volume; the same client again changes nothing",
        )
        .body::<http::Attach>(True)
        .conditional()
        .answer::<AttachmentAnswer>("Who may use the volume now")
        .problems(&[InUse])
        .scopes(ATTACHING),
        action(
            "detach",
            "Takes the right away, and returns once the client's sessions are fenced",
        )
        .body::<http::Detach>(False)
        .conditional()
        .answer::<AttachmentAnswer>("Who may use the volume now")
        .scopes(ATTACHING),
    ]
}

fn snapshots() -> Vec<Describe> {
    vec![
        Describe::new(
            Get,
            "/volumes/{name}/snapshots",
            "volume-snapshot-list",
            "Snapshots of a volume",
        )
        .named("name", VOLUME)
        .query::<ListQuery>(&["volume"])
        .list::<SnapshotAnswer>("Snapshots, oldest first")
        .problems(&[NotFound])
        .scopes(ALL),
        Describe::new(
            Post,
            "/volumes/{name}/snapshots",
            "snapshot-create",
            "Takes a snapshot",
        )
        .named("name", VOLUME)
        .body::<http::SnapshotName>(True)
        .answer::<SnapshotAnswer>("The snapshot")
        .problems(&[NotFound, Exists, Refused])
        .scopes(DRIVING),
        Describe::new(
            Delete,
            "/volumes/{name}/snapshots/{snapshot}",
            "snapshot-delete",
            "Deletes a snapshot",
        )
        .named("name", VOLUME)
        .named("snapshot", SNAPSHOT)
        .answer::<StartedAnswer>("Deleted; the task ends when its space is back")
        .problems(&[NotFound, Refused])
        .scopes(DRIVING),
        Describe::new(
            Get,
            "/volumes/{name}/diff",
            "snapshot-diff",
            "What changed between two states of a volume",
        )
        .named("name", VOLUME)
        .query::<http::DiffQuery>(&[])
        .answer::<DiffAnswer>("Ranges by offset")
        .problems(&[NotFound, Refused])
        .scopes(ALL),
        Describe::new(
            Get,
            "/snapshots",
            "snapshot-list",
            "Snapshots of all volumes",
        )
        .query::<ListQuery>(&[])
        .list::<SnapshotAnswer>("Snapshots, oldest first")
        .problems(&[NotFound])
        .scopes(ALL),
        Describe::new(Get, "/snapshots/{id}", "snapshot-show", "One snapshot")
            .named("id", "Id of the snapshot, with or without `snapshot-`")
            .answer::<SnapshotAnswer>("The snapshot")
            .problems(&[NotFound])
            .scopes(ALL),
    ]
}

fn group_snapshots() -> Vec<Describe> {
    const ID: &str = "Id of the group snapshot";
    vec![
        Describe::new(
            Get,
            "/group-snapshots",
            "group-snapshot-list",
            "Group snapshots",
        )
        .query::<GroupSnapshotQuery>(&[])
        .list::<GroupSnapshotAnswer>("Group snapshots, oldest first")
        .scopes(ALL),
        Describe::new(
            Post,
            "/group-snapshots",
            "group-snapshot-create",
            "Takes one point in time of several volumes",
        )
        .body::<GroupSnapshotSpec>(True)
        .answer::<GroupSnapshotAnswer>("The group snapshot, of now or of before")
        .problems(&[NotFound, Exists, Refused])
        .scopes(DRIVING),
        Describe::new(
            Get,
            "/group-snapshots/{id}",
            "group-snapshot-show",
            "One group snapshot",
        )
        .named("id", ID)
        .answer::<GroupSnapshotAnswer>("The group snapshot")
        .problems(&[NotFound])
        .scopes(ALL),
        Describe::new(
            Delete,
            "/group-snapshots/{id}",
            "group-snapshot-delete",
            "Deletes a group snapshot with its members",
        )
        .named("id", ID)
        .answer::<StartedAnswer>("Deleted; the task ends when the space of all members is back")
        .problems(&[NotFound, Refused])
        .scopes(DRIVING),
    ]
}

fn tokens() -> Vec<Describe> {
    vec![
        Describe::new(
            Get,
            "/tokens",
            "token-list",
            "Tokens without their secrets: every one for an administrator, for other users who have logged in their own",
        )
        .query::<TokenQuery>(&[])
        .list::<TokenAnswer>("Tokens, by name")
        .scopes(LOOKING),
        Describe::new(
            Post,
            "/tokens",
            "token-create",
            "Makes a token; users who have logged in and are no administrators make personal ones",
        )
        .body::<TokenSpec>(True)
        .tagged()
        .answer::<TokenAnswer>("The token; its secret is in this answer and never again")
        .problems(&[NotFound, Exists, Refused])
        .keyless()
        .scopes(LOOKING),
        Describe::new(
            Get,
            "/tokens/{name}",
            "token-show",
            "One token without its secret: one's own, or as an administrator any",
        )
        .named("name", "Name of the token")
        .tagged()
        .known()
        .answer::<TokenAnswer>("The token")
        .problems(&[NotFound])
        .scopes(LOOKING),
        Describe::new(
            Delete,
            "/tokens/{name}",
            "token-delete",
            "Deletes a token, which is refused from now on: one's own, or as an administrator any",
        )
        .named("name", "Name of the token")
        .conditional()
        .object(DONE)
        .problems(&[NotFound])
        .scopes(LOOKING),
    ]
}

fn joining() -> Vec<Describe> {
    vec![
        Describe::new(
            Post,
            "/join-tokens",
            "join-token-create",
            "Makes a token that lets one node join",
        )
        .body::<JoinTokenSpec>(False)
        .answer::<JoinTokenAnswer>("The token; its secret is in this answer and never again")
        .problems(&[Refused])
        .keyless()
        .scopes(ADMIN),
        Describe::new(
            Post,
            "/join",
            "node-join",
            "Lets a node join that has a token",
        )
        .body::<JoinRequest>(True)
        .answer::<JoinAnswer>("Its certificate and its part of the configuration")
        .problems(&[Exists, Refused, Unauthenticated, Unavailable, Failed])
        .scopes(&[]),
        Describe::new(
            Get,
            "/authority",
            "authority-show",
            "Who signs certificates, and what nodes show",
        )
        .answer::<AuthorityAnswer>("The authorities and the nodes' certificates")
        .problems(&[Refused])
        .scopes(LOOKING),
        Describe::new(
            Post,
            "/authority/rotate",
            "authority-rotate",
            "Has a new authority sign from now on",
        )
        .answer::<AuthorityAnswer>("The authorities and the nodes' certificates")
        .problems(&[Refused])
        .scopes(ADMIN),
        Describe::new(
            Post,
            "/authority/retire",
            "authority-retire",
            "Drops authorities that sign no more",
        )
        .body::<Retirement>(False)
        .answer::<AuthorityAnswer>("The authorities and the nodes' certificates")
        .problems(&[Refused])
        .scopes(ADMIN),
    ]
}

fn beside() -> Vec<Describe> {
    vec![
        Describe::outside(
            Get,
            "/metrics",
            "metrics",
            "What this node counts, for Prometheus",
        )
        .text("Prometheus text, exposition format 0.0.4")
        .scopes(&[Admin, Operator, Viewer, Client]),
        Describe::outside(Get, "/healthz", "healthz", "Whether the server answers").text("`ok`"),
    ]
}
