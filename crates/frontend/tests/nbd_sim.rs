//! Whole NBD servers in the simulator: what clients may do, and what they do when they are broken.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "everything here is a test"
)]

mod support;

use blockdev::{BlockError, MemoryDevice};
use frontend::nbd::pdu::{command, command_flag, option, transmission_flag};
use frontend::nbd::{OpenError, Options, serve};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use support::{Client, Gate, Gated, OfShelf, Reply, Shelf};
use vocab::ByteCount;
use world::{Address, Duration, NetError, World};
use world_sim::{Host, Simulation};

const MINUTE: Duration = Duration::from_secs(60);

/// A server on one host and clients on another.
struct Scene {
    sim: Simulation,
    clients: Host,
    shelf: Rc<Shelf>,
    served: Rc<Cell<bool>>,
    options: Options,
}

fn address() -> Address {
    Address::from("server:10809")
}

fn scene_with(shelf: Rc<Shelf>, sim: world_sim::Options, options: Options) -> Scene {
    let sim = Simulation::new(7, sim);
    let (server, clients) = (sim.host("server"), sim.host("clients"));
    let (world, exports) = (server.world(), OfShelf(shelf.clone()));
    let (served, done) = (Rc::new(Cell::new(false)), options.clone());
    let sink = served.clone();
    server.spawn(async move {
        let listener = world.net.listen(&address()).await.unwrap();
        serve(world, listener, Rc::new(exports), done).await;
        sink.set(true);
    });
    sim.run_for(Duration::from_millis(10));
    Scene {
        sim,
        clients,
        shelf,
        served,
        options,
    }
}

fn scene(shelf: Rc<Shelf>) -> Scene {
    scene_with(shelf, world_sim::Options::default(), Options::default())
}

fn memory() -> MemoryDevice {
    MemoryDevice::new(ByteCount::mib(64))
}

fn gated() -> (Rc<Shelf>, Gate) {
    let gate = Gate::default();
    let device = Gated {
        inner: memory(),
        gate: gate.clone(),
    };
    (Shelf::with("v", device), gate)
}

impl Scene {
    fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        task: impl FnOnce(World) -> F,
    ) -> Rc<Cell<bool>> {
        let done = Rc::new(Cell::new(false));
        let (flag, future) = (done.clone(), task(self.clients.world()));
        self.clients.spawn(async move {
            future.await;
            flag.set(true);
        });
        done
    }

    /// Runs `task` on the clients' host to its end.
    fn run<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(World) -> F) {
        let done = self.spawn(task);
        assert!(
            self.sim.run_until(|| done.get(), 10 * MINUTE),
            "the client hangs"
        );
    }

    /// Runs until every device is closed.
    fn wait_for_closed(&self, opened: u32) {
        let shelf = self.shelf.clone();
        let closed = move || shelf.closed.get() == opened && shelf.opened.get() == opened;
        assert!(self.sim.run_until(closed, MINUTE), "a device stays open");
    }
}

#[test]
fn written_bytes_are_read_by_every_connection() {
    let scene = scene(Shelf::with("v", memory()));
    scene.run(|world| async move {
        let mut one = Client::open(&world, &address(), "v").await.unwrap();
        let mut two = Client::open(&world, &address(), "v").await.unwrap();
        assert_eq!(one.size, 64 << 20);
        assert!(one.flags & transmission_flag::CAN_MULTI_CONN != 0);
        let data: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(one.write(12_345, &data).await.unwrap(), 0);
        one.request((command::FLUSH, 0), 5, (0, 0), &[])
            .await
            .unwrap();
        assert_eq!(
            one.reply().await.unwrap(),
            Reply::Simple {
                cookie: 5,
                error: 0
            }
        );
        assert!(two.read(12_345, 3_000_000).await.unwrap() == data);
        assert_eq!(
            two.read(12_340, 10).await.unwrap(),
            [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
        );
        for client in [&one, &two] {
            client
                .request((command::DISC, 0), 9, (0, 0), &[])
                .await
                .unwrap();
        }
        assert!(matches!(one.reply().await, Err(NetError::Lost(_))));
    });
    scene.wait_for_closed(2);
}

#[test]
fn clients_without_structured_replies_are_served() {
    let scene = scene(Shelf::with("v", memory()));
    scene.run(|world| async move {
        let mut client = Client::connect(&world, &address()).await.unwrap();
        client.go("v").await.unwrap();
        assert_eq!(client.flags & transmission_flag::SEND_DF, 0);
        assert_eq!(client.write(0, &[7; 4096]).await.unwrap(), 0);
        client
            .request((command::READ, 0), 3, (4090, 8), &[])
            .await
            .unwrap();
        assert_eq!(
            client.reply().await.unwrap(),
            Reply::Simple {
                cookie: 3,
                error: 0
            }
        );
        assert_eq!(client.bytes(8).await.unwrap()[..], [7, 7, 7, 7, 7, 7, 0, 0]);
        client
            .request((command::BLOCK_STATUS, 0), 4, (0, 8), &[])
            .await
            .unwrap();
        assert_eq!(client.outcome().await.unwrap(), 22);
    });
}

#[test]
fn info_keeps_the_device_for_go_and_gives_it_back_for_another_name() {
    let shelf = Shelf::with("v", memory());
    shelf
        .devices
        .borrow_mut()
        .insert("w".into(), Rc::new(memory()));
    let busy = OpenError::Busy("attached to node-2".into());
    shelf.refusals.borrow_mut().insert("busy".into(), busy);
    let scene = scene(shelf.clone());
    scene.run(|world| async move {
        let mut client = Client::connect(&world, &address()).await.unwrap();
        let info = |name: &str| [support::string(name), vec![0, 0]].concat();
        let list = client.option(option::LIST, &[]).await.unwrap();
        assert_eq!(list[0].1[..], *b"\0\0\0\x01vin memory");
        for (name, kind, opened, closed) in [
            ("v", 1, 1, 0),
            ("v", 1, 1, 0),
            ("w", 1, 2, 1),
            ("busy", 0x8000_0002u32, 2, 2),
            ("none", 0x8000_0006, 2, 2),
            ("v", 1, 3, 2),
        ] {
            let replies = client.option(option::INFO, &info(name)).await.unwrap();
            assert_eq!(replies.last().unwrap().0, kind, "{name}");
            assert_eq!(
                (shelf.opened.get(), shelf.closed.get()),
                (opened, closed),
                "{name}"
            );
        }
        client.go("v").await.unwrap();
        assert_eq!(shelf.opened.get(), 3);
        client.close();
    });
    scene.wait_for_closed(3);
}

#[test]
fn block_status_tells_holes_from_data() {
    let scene = scene(Shelf::with("v", memory()));
    scene.run(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        client.write(1 << 20, &[1; 8192]).await.unwrap();
        for (flags, expected) in [
            (
                0,
                [
                    [0, 0, 0, 1],
                    [0, 16, 0, 0],
                    [0, 0, 0, 3],
                    [0, 0, 32, 0],
                    [0; 4],
                    [0, 15, 224, 0],
                    [0, 0, 0, 3],
                ]
                .concat(),
            ),
            (
                command_flag::REQ_ONE,
                [[0, 0, 0, 1], [0, 16, 0, 0], [0, 0, 0, 3]].concat(),
            ),
        ] {
            client
                .request((command::BLOCK_STATUS, flags), 6, (0, 2 << 20), &[])
                .await
                .unwrap();
            let Reply::Chunk {
                done: true,
                kind: 5,
                payload,
                ..
            } = client.reply().await.unwrap()
            else {
                panic!("not a status");
            };
            assert_eq!(payload[..], expected);
        }
        // Long reads send holes as holes; what arrives is the same.
        let data = client.read(0, 2 << 20).await.unwrap();
        assert!(
            data[1 << 20..(1 << 20) + 8192]
                .iter()
                .all(|&byte| byte == 1)
        );
        assert_eq!(
            data.iter().filter(|&&byte| byte == 0).count(),
            (2 << 20) - 8192
        );
    });
}

#[test]
fn parts_of_one_block_written_by_many_connections_are_all_kept() {
    let scene = scene(Shelf::with("v", memory()));
    let mut writers = Vec::new();
    for writer in 0..8u8 {
        writers.push(scene.spawn(move |world| async move {
            let mut client = Client::open(&world, &address(), "v").await.unwrap();
            for round in 0..20u64 {
                let at = round * 4096 + u64::from(writer) * 512;
                assert_eq!(client.write(at, &[writer + 1; 512]).await.unwrap(), 0);
            }
        }));
    }
    let all = || writers.iter().all(|done| done.get());
    assert!(scene.sim.run_until(all, MINUTE));
    scene.run(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        let data = client.read(0, 20 * 4096).await.unwrap();
        for (at, byte) in data.iter().enumerate() {
            assert_eq!(usize::from(*byte), at % 4096 / 512 + 1, "byte {at}");
        }
    });
}

#[test]
fn a_client_that_dies_with_requests_in_flight_leaves_nothing_behind() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    gate.shut.set(true);
    scene.run(|world| async move {
        let client = Client::open(&world, &address(), "v").await.unwrap();
        for cookie in 0..40 {
            // Parts of one block: one request waits for the device, the others for its lock.
            client
                .request((command::WRITE, 0), cookie, (0, 5), b"12345")
                .await
                .unwrap();
        }
        client
            .request((command::READ, 0), 77, (0, 1 << 20), &[])
            .await
            .unwrap();
        world.sleep(Duration::from_millis(50)).await;
        client.close();
    });
    scene.wait_for_closed(1);
    assert_eq!((gate.waiting.get(), gate.waiting_most.get()), (0, 2));
    gate.open();
    scene.run(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        assert_eq!(client.write(1, b"abc").await.unwrap(), 0);
    });
}

#[test]
fn a_client_process_that_is_killed_leaves_nothing_behind() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    gate.shut.set(true);
    let _killed = scene.spawn(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        client
            .request((command::READ, 0), 77, (0, 1 << 20), &[])
            .await
            .unwrap();
        let _ = client.reply().await;
    });
    let waits = gate.clone();
    assert!(
        scene
            .sim
            .run_until(move || waits.waiting.get() == 1, MINUTE)
    );
    scene.clients.crash();
    scene.wait_for_closed(1);
    assert_eq!(gate.waiting.get(), 0);
}

#[test]
fn good_bye_waits_for_outstanding_requests() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    gate.shut.set(true);
    let opener = gate.clone();
    scene
        .sim
        .after(Duration::from_secs(2), move || opener.open());
    scene.run(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        client
            .request((command::WRITE, 0), 3, (0, 4096), &[9; 4096])
            .await
            .unwrap();
        client
            .request((command::DISC, 0), 4, (0, 0), &[])
            .await
            .unwrap();
        assert_eq!(
            client.reply().await.unwrap(),
            Reply::Simple {
                cookie: 3,
                error: 0
            }
        );
        assert!(client.reply().await.is_err());
    });
    scene.wait_for_closed(1);
}

#[test]
fn a_device_that_never_answers_does_not_keep_a_connection_open_after_good_bye() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    gate.shut.set(true);
    scene.run(|world| async move {
        let client = Client::open(&world, &address(), "v").await.unwrap();
        client
            .request((command::FLUSH, 0), 3, (0, 0), &[])
            .await
            .unwrap();
        client
            .request((command::DISC, 0), 4, (0, 0), &[])
            .await
            .unwrap();
        world.sleep(Duration::from_secs(31)).await;
        client.close();
    });
    scene.wait_for_closed(1);
}

#[test]
fn requests_in_flight_are_bounded_and_all_answered() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    gate.shut.set(true);
    let opener = gate.clone();
    scene
        .sim
        .after(Duration::from_secs(5), move || opener.open());
    scene.run(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        for cookie in 0..400 {
            client
                .request((command::READ, 0), cookie, (cookie * 4096, 4096), &[])
                .await
                .unwrap();
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..400 {
            let Reply::Chunk {
                cookie, payload, ..
            } = client.reply().await.unwrap()
            else {
                panic!("a simple reply");
            };
            assert_eq!(payload.len(), 4096 + 8);
            assert!(seen.insert(cookie));
        }
    });
    assert_eq!(gate.waiting_most.get(), 128);
}

#[test]
fn bytes_in_flight_are_bounded_while_the_client_reads_nothing() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    gate.shut.set(true);
    let opener = gate.clone();
    scene
        .sim
        .after(Duration::from_secs(5), move || opener.open());
    scene.run(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        for cookie in 0..20 {
            let df = command_flag::DF;
            client
                .request((command::READ, df), cookie, (0, 16 << 20), &[])
                .await
                .unwrap();
        }
        world.sleep(Duration::from_secs(10)).await;
        for _ in 0..20 {
            let Reply::Chunk { payload, .. } = client.reply().await.unwrap() else {
                panic!("a simple reply");
            };
            assert_eq!(payload.len(), (16 << 20) + 8);
        }
    });
    assert!(gate.waiting_most.get() <= 4, "{}", gate.waiting_most.get());
}

#[test]
fn errors_of_the_device_reach_the_client() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    scene.run(move |world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        for (error, value) in [
            (BlockError::NoSpace("quota of container-1".into()), 28),
            (BlockError::Gone("fenced".into()), 108),
            (BlockError::Failed("no store answers".into()), 5),
            (BlockError::ReadOnly, 1),
        ] {
            *gate.error.borrow_mut() = Some(error.clone());
            assert_eq!(client.write(0, &[1; 4096]).await.unwrap(), value);
            client
                .request((command::READ, 0), 8, (0, 4096), &[])
                .await
                .unwrap();
            let Reply::Chunk {
                done: true,
                kind: 0x8001,
                payload,
                ..
            } = client.reply().await.unwrap()
            else {
                panic!("not an error chunk");
            };
            assert_eq!(payload[6..], *error.to_string().as_bytes());
        }
        *gate.error.borrow_mut() = None;
        gate.read_only.set(true);
        assert_eq!(client.write(0, &[1; 4096]).await.unwrap(), 1);
        let reader = Client::open(&world, &address(), "v").await.unwrap();
        assert_eq!(reader.flags & 0b0110_0010, transmission_flag::READ_ONLY);
    });
}

#[test]
fn mistakes_in_requests_are_answered_and_the_connection_goes_on() {
    let scene = scene(Shelf::with("v", memory()));
    scene.run(|world| async move {
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        let end = 64 << 20;
        for (what, place, payload, value) in [
            ((42, 0), (0, 0), &[][..], 22),
            ((command::READ, 1 << 14), (0, 512), &[], 22),
            ((command::READ, 0), (end, 512), &[], 22),
            ((command::READ, 0), (0, 33 << 20), &[], 75),
            ((command::WRITE, 0), (end - 1, 2), &[1, 2], 28),
            ((command::WRITE, 0), (u64::MAX, 2), &[1, 2], 28),
            ((command::TRIM, 0), (end, 512), &[], 22),
            ((command::WRITE_ZEROES, 0), (end, u32::MAX), &[], 28),
            (
                (command::WRITE_ZEROES, command_flag::FAST_ZERO),
                (0, 512),
                &[],
                95,
            ),
            ((command::BLOCK_STATUS, 0), (0, 0), &[], 22),
            ((command::FLUSH, 0), (1, 0), &[], 22),
            ((command::WRITE, 0), (0, 1), &[1], 0),
        ] {
            client.request(what, 1, place, payload).await.unwrap();
            assert_eq!(client.outcome().await.unwrap(), value, "{what:?} {place:?}");
        }
        client.send(vec![0; 28]).await.unwrap();
        assert!(client.reply().await.is_err(), "a wrong magic number closes");
    });
    scene.wait_for_closed(1);
}

#[test]
fn slow_handshakes_are_ended() {
    let scene = scene(Shelf::with("v", memory()));
    scene.run(|world| async move {
        let mut silent = Client::connect(&world, &address()).await.unwrap();
        let info = [support::string("v"), vec![0, 0]].concat();
        silent.option(option::INFO, &info).await.unwrap();
        let before = world.now();
        assert!(silent.bytes(1).await.is_err());
        let waited = world.now().since(before);
        assert!(waited > Duration::from_secs(29) && waited < Duration::from_secs(32));
    });
    scene.wait_for_closed(1);
}

#[test]
fn connections_beyond_the_maximum_are_closed_at_once() {
    let options = Options {
        connections_max: 2,
        ..Options::default()
    };
    let scene = scene_with(
        Shelf::with("v", memory()),
        world_sim::Options::default(),
        options,
    );
    scene.run(|world| async move {
        let one = Client::open(&world, &address(), "v").await.unwrap();
        let _two = Client::open(&world, &address(), "v").await.unwrap();
        assert!(Client::connect(&world, &address()).await.is_err());
        one.close();
        world.sleep(Duration::from_secs(1)).await;
        assert!(Client::open(&world, &address(), "v").await.is_ok());
    });
}

#[test]
fn a_shutdown_answers_what_runs_and_closes_everything() {
    let (shelf, gate) = gated();
    let scene = scene(shelf);
    gate.shut.set(true);
    let (opener, shutdown) = (gate.clone(), scene.options.shutdown.clone());
    scene
        .sim
        .after(Duration::from_secs(2), move || shutdown.request());
    scene
        .sim
        .after(Duration::from_secs(3), move || opener.open());
    scene.run(|world| async move {
        let _greeted = Client::connect(&world, &address()).await.unwrap();
        let mut client = Client::open(&world, &address(), "v").await.unwrap();
        client
            .request((command::WRITE, 0), 3, (0, 4096), &[9; 4096])
            .await
            .unwrap();
        assert_eq!(
            client.reply().await.unwrap(),
            Reply::Simple {
                cookie: 3,
                error: 0
            }
        );
        assert!(client.reply().await.is_err());
        assert!(Client::connect(&world, &address()).await.is_err());
    });
    scene.wait_for_closed(1);
    let served = scene.served.clone();
    assert!(scene.sim.run_until(|| served.get(), MINUTE));
}

#[test]
fn many_connections_with_random_requests_agree_with_memory() {
    // Every connection owns an eighth of the device; requests are of any length and alignment.
    const SHARE: u64 = 256 << 10;
    let scene = scene_with(
        Shelf::with("v", memory()),
        world_sim::Options::rough(),
        Options::default(),
    );
    let failures = Rc::new(RefCell::new(Vec::new()));
    let mut done = Vec::new();
    for owner in 0..8u64 {
        let failures = failures.clone();
        done.push(scene.spawn(move |world| async move {
            let result = random_requests(&world, owner * SHARE + 100, SHARE).await;
            // Rough networks reset connections; that ends this client and nothing else.
            if let Ok(Err(text)) = result {
                failures.borrow_mut().push(text);
            }
        }));
    }
    assert!(
        scene
            .sim
            .run_until(|| done.iter().all(|done| done.get()), 60 * MINUTE)
    );
    assert_eq!(*failures.borrow(), Vec::<String>::new());
}

async fn random_requests(
    world: &World,
    start: u64,
    len: u64,
) -> Result<Result<(), String>, NetError> {
    let mut client = Client::open(world, &address(), "v").await?;
    let mut oracle = vec![0u8; usize::try_from(len).unwrap()];
    for round in 0..60u32 {
        let at = world.rng.next_u64() % len;
        let bytes = (world.rng.next_u64() % 20_000).min(len - at);
        let range = usize::try_from(at).unwrap()..usize::try_from(at + bytes).unwrap();
        let count = u32::try_from(bytes).unwrap();
        match world.rng.next_u64() % 3 {
            0 => {
                let zeroes = (command::WRITE_ZEROES, command_flag::FUA);
                client.request(zeroes, 1, (start + at, count), &[]).await?;
                client.outcome().await?;
                oracle[range].fill(0);
            }
            1 => {
                let value = (round % 250) as u8 + 1;
                oracle[range.clone()].fill(value);
                client.write(start + at, &oracle[range]).await?;
            }
            _ => {
                if client.read(start + at, count.max(1)).await?[..range.len()] != oracle[range] {
                    return Ok(Err(format!("{count} bytes at {at} differ")));
                }
            }
        }
    }
    Ok(Ok(()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn fuzz_servers_survive_arbitrary_clients_and_close_their_devices(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..6),
        stage in 0u8..3,
    ) {
        let scene = scene(Shelf::with("v", memory()));
        scene.run(move |world| async move {
            let client = match stage {
                0 => Client::connect(&world, &address()).await.unwrap(),
                _ => Client::open(&world, &address(), "v").await.unwrap(),
            };
            for mut bytes in noise {
                if stage == 2 && bytes.len() >= 28 {
                    // A plausible request: the magic number, few flags, a known command, a small place.
                    bytes[..4].copy_from_slice(&frontend::nbd::pdu::REQUEST_MAGIC.to_be_bytes());
                    (bytes[4], bytes[6], bytes[7]) = (0, 0, bytes[7] % 9);
                    bytes[16..21].fill(0);
                    bytes[24..26].fill(0);
                }
                if client.send(bytes).await.is_err() {
                    break;
                }
            }
            world.sleep(Duration::from_millis(5)).await;
            client.close();
        });
        scene.sim.run_for(Duration::from_secs(40));
        prop_assert_eq!(scene.shelf.open_now(), 0);
        // And it still serves.
        scene.run(|world| async move {
            let mut client = Client::open(&world, &address(), "v").await.unwrap();
            assert_eq!(client.read(0, 8).await.unwrap().len(), 8);
        });
    }
}
