//! A volume that is attached: its clients are killed and come back, and are sent away in the middle of their writes
//! (invariant 3).
//!
//! Two moments end what a client may do: a detach that was answered, and a newer session of the same client that was
//! opened. What the client had under way has happened by then or never will, and nothing it asks for later succeeds.

use crate::bugs::Planted;
use crate::check::within_bound;
use crate::clients::{Done, Lane, Pace, Shared, Subject, open_as};
use crate::cluster::Cluster;
use crate::manage::operate;
use api::answer::Answer;
use api::operation::Operation;
use client::RemoteDevice;
use futures_util::future::{Either, select};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use vocab::AttachmentGeneration;
use workload::oracle::{Checked, Trouble};
use world::sync::Notify;
use world::{Duration, World};
use world_sim::SimRng;

/// How long a client tries to open its volume before something else is done.
const OPEN_PATIENCE: Duration = Duration::from_secs(8);
/// How long a process stands still before another one comes in its place: what it had under way is answered.
const STANDSTILL: Duration = Duration::from_millis(500);
/// Requests that a client makes at once.
const LANES: usize = 3;
/// Refusals after which a client that was sent away gives up.
const REFUSALS_MAX: u32 = 40;

/// The right of some lanes to use the volume, and how they end.
#[derive(Clone, Default)]
struct Pass {
    /// Nothing asked from now on may succeed.
    revoked: Rc<Cell<bool>>,
    /// The process stands still between two requests.
    still: Rc<Cell<bool>>,
    /// The process dies.
    killed: Notify,
}

/// Who is attached.
struct Holder {
    name: String,
    /// Id of its sessions.
    id: u64,
    generation: AttachmentGeneration,
    pass: Pass,
}

/// The volume and its clients.
pub struct Attached {
    /// The volume with its history; nobody else uses it.
    pub subject: Subject,
    rng: SimRng,
    /// For deaths of owners, which came later.
    deaths: SimRng,
    holder: Option<Holder>,
    /// The last change of the attachment was not answered.
    doubtful: bool,
    /// Something that sends everybody away may still be under way.
    strays: bool,
    clients: u64,
}

impl Attached {
    /// Whether a seed has such a volume.
    #[must_use]
    pub fn draw(seed: u64) -> bool {
        SimRng::named(seed, "attachments").chance(0.35)
    }

    /// Of a volume that exists.
    pub fn new(subject: Subject, seed: u64) -> Self {
        Self {
            subject,
            rng: SimRng::named(seed, "attachments, steps"),
            deaths: SimRng::named(seed, "attachments, deaths of owners"),
            holder: None,
            doubtful: false,
            strays: false,
            clients: 0,
        }
    }

    /// Something happens to the attachment; says what. Nothing but one operation is under way at a time.
    ///
    /// # Errors
    /// A right that was given twice.
    pub fn step(&mut self, cluster: &Cluster, shared: &Shared) -> Result<String, String> {
        if self.doubtful {
            return Ok(self.detach(cluster, None));
        }
        let Some(name) = self.holder.as_ref().map(|holder| holder.name.clone()) else {
            return Ok(self.attach(cluster, shared));
        };
        match self.rng.below(10) {
            0..4 => Ok(self.detach(cluster, Some(name))),
            4..8 => Ok(self.come_back(cluster, shared)),
            8 if !self.strays => self.intrude(cluster),
            _ => Ok("the attached client goes on".to_owned()),
        }
    }

    fn attach_as(&self, cluster: &Cluster, client: &str) -> Option<Result<Answer, String>> {
        let operation = Operation::Attach {
            volume: self.subject.name.clone(),
            client: client.to_owned(),
            read_only: false,
            shared: false,
        };
        operate(cluster, &self.rng, operation)
    }

    fn attach(&mut self, cluster: &Cluster, shared: &Shared) -> String {
        self.clients += 1;
        let name = format!("client{}", self.clients);
        let answer = match self.attach_as(cluster, &name) {
            Some(Ok(Answer::Attachment(answer))) => answer,
            other => {
                self.doubtful = true;
                return format!("{name} is not attached: {other:?}");
            }
        };
        let generation = answer.generations.get(&name).copied().unwrap_or_default();
        self.holder = Some(Holder {
            name: name.clone(),
            id: self.clients,
            generation: AttachmentGeneration(generation),
            pass: Pass::default(),
        });
        let opened = self.come_back(cluster, shared);
        format!("{name} is attached; {opened}")
    }

    /// Takes the right away, in the middle of whatever the client does.
    fn detach(&mut self, cluster: &Cluster, client: Option<String>) -> String {
        let said = format!("detach of {client:?}");
        let of_all = client.is_none();
        let volume = self.subject.name.clone();
        let operation = Operation::Detach { volume, client };
        match operate(cluster, &self.rng, operation) {
            Some(Ok(_)) => {
                self.doubtful = false;
                self.revoke();
                self.holder = None;
                said
            }
            other => {
                self.doubtful = true;
                self.strays |= of_all;
                format!("{said}: {other:?}")
            }
        }
    }

    fn revoke(&mut self) {
        let Some(holder) = &mut self.holder else {
            return;
        };
        std::mem::take(&mut holder.pass).revoked.set(true);
        self.subject.history.borrow_mut().on_fenced();
    }

    /// A new session of the same client; the process of before may live on.
    fn come_back(&mut self, cluster: &Cluster, shared: &Shared) -> String {
        let Some(holder) = &self.holder else {
            return "nobody is attached".to_owned();
        };
        let dies = self.rng.chance(0.5);
        if dies {
            holder.pass.killed.notify_all();
        }
        let still = holder.pass.still.clone();
        let early = cluster.config.planted.is_some_and(Planted::is_early);
        let ends = !dies && !early && cluster.config.faults.crash && self.deaths.chance(0.4);
        if ends {
            // It has asked for nothing when the newer one comes, and its session is ended without a word.
            still.set(true);
            cluster.sim.run_for(STANDSTILL);
        }
        let (world, way) = (cluster.client.world(), cluster.way());
        let (id, generation) = (holder.id, holder.generation);
        let volume = self.subject.name.clone();
        let opening = async move {
            let opening = open_as(world.clone(), way, &volume, id, generation);
            let opened = world.timeout(OPEN_PATIENCE, opening).await;
            opened.map_err(|_| "it takes too long".to_owned())?
        };
        let said = format!("{} opens a session", holder.name);
        match cluster.run_on(&cluster.client, OPEN_PATIENCE * 2, opening) {
            Some(Ok(device)) => {
                self.revoke();
                self.start_lanes(cluster, shared, device);
                let death = match ends {
                    true => self.owner_dies(cluster),
                    false => String::new(),
                };
                still.set(false);
                format!("{said}, the one before died: {dies}{death}")
            }
            other => {
                still.set(false);
                format!("{said}: {:?}", other.map(|opened| opened.err()))
            }
        }
    }

    /// Before the process of before has asked for anything: only the catalog still knows that there is a newer one.
    fn owner_dies(&self, cluster: &Cluster) -> String {
        let epoch_at = |index: usize| {
            let host = cluster.nodes[index].running.borrow().clone()?;
            let volumes = host.volumes();
            let mut ours = volumes.iter().filter(|one| one.name() == self.subject.name);
            ours.next().map(|volume| (volume.epoch(), index))
        };
        // A former owner may not know yet that it is one.
        let owner = (0..cluster.nodes.len()).filter_map(epoch_at).max();
        let Some((_, index)) = owner else {
            return String::new();
        };
        cluster.crash(index);
        cluster.restart(index);
        format!(", its owner n{index} dies")
    }

    fn start_lanes(&self, cluster: &Cluster, shared: &Shared, device: RemoteDevice) {
        let Some(holder) = &self.holder else { return };
        let checked = Checked::new(Rc::new(device), self.subject.history.clone());
        for _ in 0..LANES {
            let lane = Lane {
                world: cluster.client.world(),
                checked: checked.clone(),
                shared: shared.clone(),
                rng: self.rng.fork(),
                name: self.subject.name.clone(),
            };
            let (pace, bypass) = (
                cluster.config.pace,
                cluster.config.volume.bypass_bytes as u64 / 4096,
            );
            let pass = holder.pass.clone();
            shared.busy.set(shared.busy.get() + 1);
            cluster.client.spawn(async move {
                let killed = pin!(pass.killed.notified());
                let worked = pin!(work(&lane, &pass, pace, bypass));
                if let Either::Left(((), _)) = select(killed, worked).await {
                    pass.revoked.set(true);
                }
                lane.shared.busy.set(lane.shared.busy.get() - 1);
            });
        }
    }

    /// Somebody else asks for the volume, which is taken.
    fn intrude(&mut self, cluster: &Cluster) -> Result<String, String> {
        match self.attach_as(cluster, "intruder") {
            Some(Ok(_)) => Err(format!("{} is attached to two clients", self.subject.name)),
            Some(Err(reason)) => Ok(format!("an intruder is refused: {reason}")),
            None => {
                self.doubtful = true;
                Ok("an intruder gets no answer".to_owned())
            }
        }
    }

    /// Once nothing is under way: nobody is attached any more, so that the checks can open the volume.
    ///
    /// # Errors
    /// When that is not possible within the bound.
    pub fn end(&mut self, cluster: &Cluster) -> Result<(), String> {
        within_bound(cluster, "detaching", || {
            let said = self.detach(cluster, None);
            if self.doubtful { Err(said) } else { Ok(()) }
        })
    }

    /// After a loss of power of everything: the clients are gone, their attachment is not.
    pub fn forget_clients(&mut self) {
        self.holder = None;
        self.doubtful = true;
    }
}

async fn work(lane: &Lane, pass: &Pass, pace: Pace, bypass_blocks: u64) {
    let mut refusals = 0;
    while !lane.shared.stop.get() && refusals < REFUSALS_MAX {
        while pass.still.get() {
            pause(&lane.world, 10).await;
        }
        let was_revoked = pass.revoked.get();
        match lane.request(bypass_blocks).await {
            Ok(done) if was_revoked && done != Done::Flushed => {
                let said = "succeeded, whose client had lost its right before it asked";
                lane.shared
                    .violate(format!("{}: {done:?} {said}", lane.name));
                return;
            }
            Ok(_) => lane.shared.done.set(lane.shared.done.get() + 1),
            Err(Trouble::Refused(error)) => {
                lane.shared.note_refusal(&error);
                refusals += u32::from(pass.revoked.get());
                pause(&lane.world, 20).await;
            }
            Err(Trouble::Violation(violation)) => {
                lane.shared.violate(format!("{}: {violation}", lane.name));
                return;
            }
        }
        let pause = pace.pause(&lane.rng, lane.shared.done.get());
        lane.world.sleep(pause).await;
    }
}

async fn pause(world: &World, millis: u64) {
    world.sleep(Duration::from_millis(millis)).await;
}
