//! Every route: what it takes, what it answers, who may ask.

use super::describe::{Describe, Described};
use api::ErrorKind::{
    Exists, Failed, InUse, NoSpace, NotFound, Refused, Unauthenticated, Unavailable,
};
use api::Scope::{Admin, Client, Csi, Viewer};
use api::{
    AttachmentAnswer, AuthorityAnswer, CapacityAnswer, ClusterAnswer, ContainerAnswer,
    ContainerChange, ContainerSpec, DiffAnswer, EventQuery, EventsAnswer, GroupSnapshotAnswer,
    GroupSnapshotSpec, JoinAnswer, JoinRequest, JoinTokenAnswer, JoinTokenSpec, ListQuery,
    MemberAnswer, MemberChange, RemoveQuery, ResiliencyAnswer, Retirement, Scope, SnapshotAnswer,
    SpaceReportAnswer, StatusAnswer, TokenAnswer, TokenSpec, VolumeAnswer, VolumeChange,
    VolumeSpec, http,
};
use utoipa::openapi::Required::{False, True};
use utoipa::openapi::path::HttpMethod::{Delete, Get, Patch, Post};

const ALL: &[Scope] = &[Admin, Viewer, Csi];
const EVERYBODY: &[Scope] = &[Admin, Viewer, Csi, Client];
const ATTACHING: &[Scope] = &[Admin, Csi, Client];
const LOOKING: &[Scope] = &[Admin, Viewer];
const DRIVING: &[Scope] = &[Admin, Csi];
const ADMIN: &[Scope] = &[Admin];

const VOLUME: &str = "Name of the volume, or `volume-` and its id";
const SNAPSHOT: &str = "Name of the snapshot, or `snapshot-` and its id";
const CONTAINER: &str = "Name of the container";
const DONE: &str = "Done; nothing to tell";

/// All of them.
pub(super) fn operations() -> Vec<Described> {
    let groups = [
        cluster(),
        members(),
        insight(),
        joining(),
        containers(),
        volumes(),
        volume_actions(),
        snapshots(),
        group_snapshots(),
        tokens(),
        beside(),
    ];
    let all = groups.into_iter().flatten();
    all.map(Describe::done).collect()
}

fn cluster() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/status", "status", "The whole cluster at a glance")
            .answer::<StatusAnswer>("Nodes, stores and volumes")
            .scopes(&[Admin, Viewer, Client]),
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
        Describe::new(Get, "/openapi.json", "openapi", "This document")
            .object("An OpenAPI 3.1 document")
            .scopes(EVERYBODY),
    ]
}

/// Space and events.
fn insight() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/space", "space", "Where the space goes")
            .answer::<SpaceReportAnswer>("Volumes, snapshots, containers and stores")
            .scopes(LOOKING),
        Describe::new(Get, "/events", "events", "What happened in the cluster")
            .query::<EventQuery>(&[])
            .answer::<EventsAnswer>("Events, oldest first")
            .scopes(LOOKING),
    ]
}

fn members() -> Vec<Describe> {
    const NODE: &str = "Name of the node";
    const STORE: &str = "Id of the store";
    let show = |path, id, what: &'static str, name, about| {
        Describe::new(Get, path, id, what)
            .named(name, about)
            .answer::<MemberAnswer>("What ties it to the cluster")
            .problems(&[NotFound])
            .scopes(LOOKING)
    };
    let set = |path, id, what: &'static str, name, about| {
        Describe::new(Patch, path, id, what)
            .named(name, about)
            .body::<MemberChange>(True)
            .answer::<MemberAnswer>("What ties it to the cluster now")
            .problems(&[NotFound, Refused])
            .scopes(ADMIN)
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
        Describe::new(
            Get,
            "/resiliency",
            "resiliency",
            "How much loss the cluster can take now",
        )
        .answer::<ResiliencyAnswer>("The verdict and what it rests on")
        .scopes(LOOKING),
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

fn containers() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/containers", "container-list", "Every container")
            .list::<ContainerAnswer>("Containers, by name")
            .scopes(ALL),
        Describe::new(
            Post,
            "/containers",
            "container-create",
            "Creates a container; with scope csi its name begins with `csi-`",
        )
        .body::<ContainerSpec>(True)
        .answer::<ContainerAnswer>("The container")
        .problems(&[Exists, Refused])
        .scopes(DRIVING),
        Describe::new(
            Patch,
            "/containers/{name}",
            "container-set",
            "Changes a container; what is absent stays",
        )
        .named("name", CONTAINER)
        .body::<ContainerChange>(True)
        .answer::<ContainerAnswer>("The container as it is now")
        .problems(&[NotFound, Refused])
        .scopes(ADMIN),
        Describe::new(
            Delete,
            "/containers/{name}",
            "container-delete",
            "Deletes an empty container",
        )
        .named("name", CONTAINER)
        .object(DONE)
        .problems(&[NotFound, Refused])
        .scopes(ADMIN),
    ]
}

fn volumes() -> Vec<Describe> {
    vec![
        Describe::new(Get, "/volumes", "volume-list", "Volumes")
            .query::<ListQuery>(&["volume"])
            .list::<VolumeAnswer>("Volumes by name, or a page of them by id")
            .scopes(ALL),
        Describe::new(
            Post,
            "/volumes",
            "volume-create",
            "Creates a volume, or with `from` a clone",
        )
        .body::<VolumeSpec>(True)
        .answer::<VolumeAnswer>("The volume")
        .problems(&[NotFound, Exists, Refused, NoSpace])
        .scopes(DRIVING),
        Describe::new(Get, "/volumes/{name}", "volume-show", "One volume")
            .named("name", VOLUME)
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
        .object(DONE)
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
            .answer::<VolumeAnswer>("The volume as it is now")
            .problems(&[NoSpace])
            .scopes(DRIVING),
        action(
            "restore",
            "Gives a detached volume the contents of one of its snapshots",
        )
        .body::<http::Restore>(True)
        .answer::<VolumeAnswer>("The volume as it is now")
        .scopes(ADMIN),
        action(
            "drain",
            "Writes everything in the volume's log out into extents",
        )
        .answer::<VolumeAnswer>("The volume as it is now")
        .problems(&[NoSpace])
        .scopes(ADMIN),
        action(
            "attach",
            "Gives a client the right to use the volume; the same client again changes nothing",
        )
        .body::<http::Attach>(True)
        .answer::<AttachmentAnswer>("Who may use the volume now")
        .problems(&[InUse])
        .scopes(ATTACHING),
        action(
            "detach",
            "Takes the right away, and returns once the client's sessions are fenced",
        )
        .body::<http::Detach>(False)
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
        .object(DONE)
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
        .object(DONE)
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
            "Every token, without its secret",
        )
        .list::<TokenAnswer>("Tokens, by name")
        .scopes(ADMIN),
        Describe::new(Post, "/tokens", "token-create", "Makes a token")
            .body::<TokenSpec>(True)
            .answer::<TokenAnswer>("The token; its secret is in this answer and never again")
            .problems(&[NotFound, Exists])
            .scopes(ADMIN),
        Describe::new(
            Delete,
            "/tokens/{name}",
            "token-delete",
            "Deletes a token: it is refused from now on",
        )
        .named("name", "Name of the token")
        .object(DONE)
        .problems(&[NotFound])
        .scopes(ADMIN),
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
            "The cluster's state for Prometheus",
        )
        .text("Prometheus text, exposition format 0.0.4")
        .scopes(&[Admin, Viewer, Client]),
        Describe::outside(Get, "/healthz", "healthz", "Whether the server answers").text("`ok`"),
    ]
}
