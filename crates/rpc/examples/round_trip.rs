//! CPU time of one round trip, both sides together, without a kernel: two tasks on one executor over pipes in memory.
//!
//! `cargo run --release -p rpc --example round_trip`
#![allow(
    clippy::disallowed_methods,
    reason = "it measures the machine's real time"
)]

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rpc::{Connection, Handler, Hello, Peer, Reply, Request, serve};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;
use vocab::{Lba, NodeId};
use wire::{NodeReply, NodeRequest};
use world::sync::Queue;
use world::{
    Address, Clock, Executor, Listener, LocalBoxFuture, Net, NetError, Rng, Spawn, Stream, Time,
    World,
};

const ROUND_TRIPS: u64 = 400_000;

struct Pipe {
    incoming: Queue<Bytes>,
    outgoing: Queue<Bytes>,
}

impl Stream for Pipe {
    fn read(&self) -> LocalBoxFuture<'static, Result<Bytes, NetError>> {
        let incoming = self.incoming.clone();
        Box::pin(async move { Ok(incoming.pop().await.unwrap_or_default()) })
    }

    /// Copies, as a kernel would.
    fn write(&self, parts: Vec<Bytes>) -> LocalBoxFuture<'static, Result<(), NetError>> {
        self.outgoing.push(parts.concat().into());
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self) {
        self.incoming.close();
        self.outgoing.close();
    }
}

/// Everything but the network stands still.
struct Machine {
    executor: Executor,
    accepted: Queue<Rc<dyn Stream>>,
}

struct Handle(Rc<Machine>);

impl Clock for Handle {
    fn now(&self) -> Time {
        Time(0)
    }

    fn sleep_until(&self, _: Time) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn unix_ms(&self) -> u64 {
        0
    }
}

impl Rng for Handle {
    fn next_u64(&self) -> u64 {
        4
    }
}

impl Spawn for Handle {
    fn spawn(&self, task: LocalBoxFuture<'static, ()>) {
        self.0.executor.spawn(task);
    }

    fn offload(&self, work: Box<dyn FnOnce() + Send>) -> LocalBoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}

impl Listener for Handle {
    fn accept(&self) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        let accepted = self.0.accepted.clone();
        Box::pin(async move { accepted.pop().await.ok_or(NetError::Lost("closed".into())) })
    }

    fn address(&self) -> Address {
        Address::from("pipe")
    }
}

impl Net for Handle {
    fn connect(&self, _: &Address) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        let (incoming, outgoing) = (Queue::default(), Queue::default());
        self.0.accepted.push(Rc::new(Pipe {
            incoming: outgoing.clone(),
            outgoing: incoming.clone(),
        }));
        let stream: Rc<dyn Stream> = Rc::new(Pipe { incoming, outgoing });
        Box::pin(std::future::ready(Ok(stream)))
    }

    fn listen(&self, _: &Address) -> LocalBoxFuture<'static, Result<Rc<dyn Listener>, NetError>> {
        Box::pin(std::future::pending())
    }
}

struct Done {
    world: World,
    waits: bool,
}

impl Handler for Done {
    fn handle(
        &self,
        _: &Connection,
        _: Request,
        _: Bytes,
    ) -> LocalBoxFuture<'static, (Reply, Vec<Bytes>)> {
        let (world, waits) = (self.world.clone(), self.waits);
        Box::pin(async move {
            if waits {
                world.tasks.offload(Box::new(|| {})).await;
                let mut polled = false;
                std::future::poll_fn(|context| {
                    context.waker().wake_by_ref();
                    match std::mem::replace(&mut polled, true) {
                        true => std::task::Poll::Ready(()),
                        false => std::task::Poll::Pending,
                    }
                })
                .await;
            }
            (Reply::Node(Ok(NodeReply::Done)), Vec::new())
        })
    }

    fn closed(&self, _: u64) {}
}

async fn call_all(peer: Peer, depth: u64) {
    let body = Bytes::from(vec![7; 4096]);
    let call = |handle| {
        let request = NodeRequest::Write {
            handle,
            lba: Lba(handle),
            fua: false,
        };
        peer.call(Request::Node(request), vec![body.clone()])
    };
    let mut calls: FuturesUnordered<_> = (0..depth).map(&call).collect();
    for number in depth..ROUND_TRIPS + depth {
        let answer = calls.next().await.expect("there are always some");
        answer.expect("pipes do not break");
        if number < ROUND_TRIPS {
            calls.push(call(number));
        }
    }
}

fn measure(depth: u64, waits: bool) {
    let machine = Rc::new(Machine {
        executor: Executor::new(Box::new(|| {})),
        accepted: Queue::default(),
    });
    let handle = || Rc::new(Handle(machine.clone()));
    let world = World {
        clock: handle(),
        rng: handle(),
        tasks: handle(),
        net: handle(),
    };
    let hello = Hello {
        cluster: "c".into(),
        node: NodeId(1),
        start: 1,
        levels: vocab::Levels::OWN,
    };
    let handler = Rc::new(Done {
        world: world.clone(),
        waits,
    });
    world.spawn(serve(world.clone(), handle(), hello.clone(), handler));
    let peer = Peer::new(world.clone(), Address::from("pipe"), hello);
    let finished = Rc::new(Cell::new(false));
    let done = finished.clone();
    world.spawn(async move {
        call_all(peer, depth).await;
        done.set(true);
    });
    let before = Instant::now();
    while !finished.get() {
        assert!(machine.executor.run_ready(1024) > 0, "stalled");
    }
    let nanos = before.elapsed().as_nanos() as u64 / ROUND_TRIPS;
    let kind = if waits { "waiting" } else { "immediate" };
    println!("depth {depth:4}, {kind:9} handler, 4 KiB body: {nanos} ns per round trip");
    machine.executor.clear();
}

fn main() {
    for depth in [1, 8, 64, 512] {
        measure(depth, false);
        measure(depth, true);
    }
}
