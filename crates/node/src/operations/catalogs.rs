//! The catalog as a whole: copies of it, and its move to other servers while the node runs.

use super::{Result, catalog_error};
use crate::host::Host;
use crate::tasks::{kind, new_task};
use api::{
    Answer, CatalogAnswer, CatalogBackupAnswer, CatalogMemberAnswer, CatalogMoveAnswer,
    CatalogSeatAnswer, CatalogTarget, ErrorKind, OperationError,
};
use catalog::SeatRow;
use catalog::dump::{BACKUP, seal};
use catalog::kv::{KvMember, KvMembers};
use std::fmt;
use std::rc::Rc;
use world::LocalBoxFuture;

/// A catalog that was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it is now, for people.
    pub place: String,
    /// Rows that were moved.
    pub rows: u64,
    /// Milliseconds during which it answered nobody.
    pub paused_ms: u64,
}

/// Where the catalog of this process is, and how it gets elsewhere.
pub trait CatalogPlace: fmt::Debug {
    /// The table `catalog` of the configuration of a node that joins (TOML); nothing: no other process can reach it.
    fn table(&self) -> Option<String>;

    /// Moves the catalog while it is used; without endpoints to an etcd that this node begins. When it returns, everybody in
    /// this process uses the new one, and so does the next start. Dropping the future leaves open whether it is moved.
    ///
    /// # Errors
    /// For people. Nothing has changed then; a retry is safe.
    fn move_to(
        &self,
        endpoints: Vec<String>,
        prefix: String,
    ) -> LocalBoxFuture<'static, std::result::Result<Moved, String>>;
}

/// Endpoints of one catalog.
const ENDPOINTS_MAX: usize = 16;

impl Host {
    /// What a node that joins is told of the catalog.
    pub(crate) fn present_catalog_table(&self) -> Option<String> {
        let place = self.options.catalog_place.as_ref();
        place.and_then(|place| place.table())
    }

    pub(super) async fn show_catalog(&self) -> Result<Answer> {
        let asked = self.catalog.kv().members().await;
        let members = asked.map_err(|error| OperationError::unavailable(error.to_string()))?;
        let own = self.is_own_etcd(members.cluster).await;
        // Without a majority neither rows nor whose etcd it is can be read; who keeps it is told all the same.
        let seats = self.seat_rows().await.unwrap_or_default();
        let seats = seats.iter().map(|row| self.describe_seat(row));
        Ok(Answer::Catalog(CatalogAnswer {
            place: if members.embedded { "file" } else { "etcd" }.to_owned(),
            supervised: !members.embedded && own.unwrap_or(false),
            tolerates: members
                .tolerates()
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            members: describe_members(&members),
            seats: seats.collect(),
        }))
    }

    fn describe_seat(&self, row: &SeatRow) -> CatalogSeatAnswer {
        let state = match (row.member, row.lost) {
            (None, _) => "free",
            (Some(_), false) => "member",
            (Some(_), true) => "lost",
        };
        CatalogSeatAnswer {
            node: self.members.node_name(row.id),
            client: row.client.clone(),
            peer: row.peer.clone(),
            state: state.to_owned(),
            problem: row.problem.clone(),
        }
    }

    pub(super) async fn back_up_catalog(&self) -> Result<Answer> {
        let dumped = self.catalog.dump().await.map_err(catalog_error)?;
        let cluster = self.options.cluster.clone();
        // 100,000 volumes are some 200 MB of text: not on the shard.
        let sealing = move || {
            let text = seal(BACKUP, &cluster, dumped.revision, &dumped.rows);
            CatalogBackupAnswer {
                cluster,
                revision: dumped.revision,
                rows: dumped.rows.len() as u64,
                text,
            }
        };
        Ok(Answer::CatalogBackup(self.world.offload(sealing).await))
    }

    /// Goes on when nobody waits for it any more.
    pub(super) async fn move_catalog(self: &Rc<Self>, target: CatalogTarget) -> Result<Answer> {
        check_target(&target)?;
        let Some(place) = self.options.catalog_place.clone() else {
            return Err(refused(
                "the catalog of this node cannot be moved while it runs",
            ));
        };
        let host = self.clone();
        let (promise, outcome) = world::sync::promise();
        let work = self.still_on_behalf(async move {
            let _held = host.moving.lock().await;
            let task = new_task(kind::CATALOG_MOVE, "cluster", "cluster/0".to_owned());
            let moving = place.move_to(target.endpoints, target.prefix);
            promise.fulfil(host.as_task(task, "the catalog has moved", moving).await);
        });
        self.spawn(work);
        let stopping = || OperationError::unavailable("the node is stopping; repeat it then");
        let moved = outcome.await.ok_or_else(stopping)?.map_err(refused)?;
        tracing::info!(
            place = moved.place,
            rows = moved.rows,
            "the catalog has moved"
        );
        Ok(Answer::CatalogMoved(CatalogMoveAnswer {
            place: moved.place,
            rows: moved.rows,
            paused_ms: moved.paused_ms,
            table: self.present_catalog_table().unwrap_or_default(),
        }))
    }
}

fn refused(reason: impl Into<String>) -> OperationError {
    OperationError::new(ErrorKind::Refused, reason)
}

/// Members for people. Pure.
fn describe_members(members: &KvMembers) -> Vec<CatalogMemberAnswer> {
    let ahead = members
        .all()
        .map(|member| member.applied)
        .max()
        .unwrap_or(0);
    let describe = |(member, votes): (&KvMember, bool)| CatalogMemberAnswer {
        name: member.name.clone(),
        leads: member.leads,
        votes,
        address: member.clients.first().cloned(),
        version: Some(member.version.clone()).filter(|version| !version.is_empty()),
        bytes: member.bytes,
        bytes_used: member.bytes_used,
        behind: (member.problem.is_none() && member.applied > 0)
            .then(|| ahead.saturating_sub(member.applied)),
        alarms: member.alarms.clone(),
        problem: member.problem.clone(),
    };
    let voters = members.members.iter().map(|member| (member, true));
    let learners = members.learners.iter().map(|member| (member, false));
    voters.chain(learners).map(describe).collect()
}

fn check_target(target: &CatalogTarget) -> Result<()> {
    let url = |url: &String| {
        let rest = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.contains(':'))
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let prefix = &target.prefix;
    let count = match target.supervised {
        true => 0..=0,
        false => 1..=ENDPOINTS_MAX,
    };
    let good = count.contains(&target.endpoints.len())
        && target.endpoints.iter().all(url)
        && (2..=128).contains(&prefix.len())
        && prefix.starts_with('/')
        && prefix.ends_with('/')
        && prefix.bytes().all(plain);
    match good {
        true => Ok(()),
        false => Err(OperationError::bad_request(format!(
            "say 1 to {ENDPOINTS_MAX} `endpoints` such as http://10.0.0.1:2379, or none and `supervised`, and a `prefix` such \
             as /azekura/"
        ))),
    }
}
