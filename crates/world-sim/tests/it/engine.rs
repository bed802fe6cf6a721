//! Time, tasks, lives and determinism.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use world::{Duration, PAGE, TimedOut};
use world_sim::{Counters, Host, Options, SimRng, Simulation};

const SECOND: Duration = Duration::from_secs(1);

/// A small cluster that writes, talks, crashes and times out.
fn busy_run(seed: u64) -> (u64, Counters) {
    let sim = Simulation::new(seed, Options::rough());
    let server = sim.host("server");
    let disk = server.add_disk("d", 1 << 24);
    serve(&server, &disk);
    for name in ["one", "two", "three"] {
        talk(&sim.host(name));
    }
    let rng = sim.rng();
    for _ in 0..5 {
        sim.run_steps(rng.range(100..2000), SECOND);
        match rng.below(3) {
            0 => server.crash(),
            1 => server.power_loss(),
            _ => sim.isolate(&server),
        }
        sim.run_for(rng.duration(Duration::ZERO..SECOND));
        server.restart();
        sim.heal_all();
        serve(&server, &disk);
    }
    sim.run_for(SECOND);
    sim.record(disk.peek(0, 16 * PAGE));
    (sim.event_hash(), sim.counters())
}

fn serve(host: &Host, disk: &world_sim::SimDisk) {
    let (world, disk) = (host.world(), disk.open());
    host.spawn(async move {
        let listener = world.net.listen(&"server:7".into()).await.unwrap();
        loop {
            let Ok(stream) = listener.accept().await else {
                return;
            };
            let disk = disk.clone();
            world.spawn(async move {
                while let Ok(bytes) = stream.read().await {
                    if bytes.is_empty() {
                        return;
                    }
                    let page = world::Buf::copy_of(&bytes[..1]).freeze();
                    disk.write(u64::from(bytes[0]) % 16 * 4096, page)
                        .await
                        .unwrap();
                    if stream.write(vec![bytes]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn talk(host: &Host) {
    let world = host.world();
    host.spawn(async move {
        loop {
            let connect = world.net.connect(&"server:7".into());
            let Ok(Ok(stream)) = world.timeout(SECOND, connect).await else {
                continue;
            };
            loop {
                let bytes = world.rng.next_u64().to_le_bytes().to_vec();
                let exchange = async {
                    stream.write(vec![bytes.into()]).await?;
                    stream.read().await
                };
                match world.timeout(SECOND / 10, exchange).await {
                    Ok(Ok(bytes)) if !bytes.is_empty() => {}
                    _ => break,
                }
            }
        }
    });
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_seed_another_one() {
    let first = busy_run(11);
    assert_eq!(first, busy_run(11));
    assert_ne!(first.0, busy_run(12).0);
    let counters = first.1;
    assert!(
        counters.deliveries > 1000 && counters.disk_writes > 1000,
        "{counters:?}"
    );
    assert!(counters.power_losses + counters.crashes > 0, "{counters:?}");
}

#[test]
fn every_seed_repeats_itself() {
    let hashes: Vec<u64> = (100..110).map(|seed| busy_run(seed).0).collect();
    let again: Vec<u64> = (100..110).map(|seed| busy_run(seed).0).collect();
    assert_eq!(hashes, again);
    let distinct: std::collections::BTreeSet<u64> = hashes.into_iter().collect();
    assert_eq!(distinct.len(), 10);
}

#[test]
fn shuffling_can_be_switched_off() {
    let options = Options {
        shuffle: false,
        ..Options::default()
    };
    let sim = Simulation::new(1, options);
    let host = sim.host("a");
    let order = Rc::new(RefCell::new(Vec::new()));
    for task in 0..20 {
        let order = order.clone();
        host.spawn(async move { order.borrow_mut().push(task) });
    }
    sim.run_for(SECOND);
    assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
}

#[test]
fn shuffling_changes_the_order_of_ready_tasks() {
    let sim = Simulation::new(1, Options::default());
    let host = sim.host("a");
    let order = Rc::new(RefCell::new(Vec::new()));
    for task in 0..20 {
        let order = order.clone();
        host.spawn(async move { order.borrow_mut().push(task) });
    }
    sim.run_for(SECOND);
    assert_ne!(*order.borrow(), (0..20).collect::<Vec<_>>());
    assert_eq!(order.borrow().len(), 20);
}

#[test]
fn timers_fire_in_order_and_never_early() {
    let sim = Simulation::new(2, Options::default());
    let host = sim.host("a");
    let fired = Rc::new(RefCell::new(Vec::new()));
    for milliseconds in [30, 10, 20] {
        let (world, fired) = (host.world(), fired.clone());
        host.spawn(async move {
            let start = world.now();
            world.sleep(Duration::from_millis(milliseconds)).await;
            assert!(world.now().since(start) >= Duration::from_millis(milliseconds));
            fired.borrow_mut().push(milliseconds);
        });
    }
    sim.run_for(SECOND);
    assert_eq!(*fired.borrow(), [10, 20, 30]);
    assert_eq!(sim.now(), world::Time(1_000_000_000));
}

#[test]
fn timeouts_end_futures_and_dropped_timers_never_fire() {
    let sim = Simulation::new(3, Options::default());
    let host = sim.host("a");
    let world = host.world();
    let rounds = Rc::new(Cell::new(0));
    let counter = rounds.clone();
    host.spawn(async move {
        let never = std::future::pending::<()>();
        assert_eq!(world.timeout(SECOND, never).await, Err(TimedOut));
        for _ in 0..10_000 {
            let soon = world.sleep(Duration::from_micros(10));
            assert_eq!(world.timeout(1000 * SECOND, soon).await, Ok(()));
            counter.set(counter.get() + 1);
        }
    });
    sim.run_for(10 * SECOND);
    assert_eq!(rounds.get(), 10_000);
    sim.run_for(2000 * SECOND);
    assert_eq!(sim.counters().timers, 10_001);
}

#[test]
fn offloaded_work_takes_time_and_returns_its_result() {
    let sim = Simulation::new(4, Options::default());
    let host = sim.host("a");
    let world = host.world();
    let result = Rc::new(Cell::new(0));
    let sink = result.clone();
    host.spawn(async move { sink.set(world.offload(|| 6 * 7).await) });
    assert!(sim.run_until(|| result.get() == 42, SECOND));
    assert!(sim.now() > world::Time(10_000));
}

#[test]
fn a_paused_host_stands_still_while_time_goes_on() {
    let sim = Simulation::new(5, Options::default());
    let host = sim.host("a");
    let world = host.world();
    let ticks = Rc::new(Cell::new(0));
    let counter = ticks.clone();
    host.spawn(async move {
        loop {
            world.sleep(Duration::from_millis(10)).await;
            counter.set(counter.get() + 1);
        }
    });
    host.pause();
    sim.run_for(SECOND);
    assert_eq!(ticks.get(), 0);
    assert!(host.is_paused());
    host.resume();
    sim.run_for(SECOND);
    assert!((90..=100).contains(&ticks.get()), "{}", ticks.get());
}

#[test]
fn clocks_drift_apart_and_wall_clocks_jump() {
    let sim = Simulation::new(6, Options::default());
    let (fast, slow) = (sim.host("fast"), sim.host("slow"));
    fast.set_clock_drift(100_000);
    slow.set_clock_drift(-500_000);
    let elapsed = |host: &Host| {
        let world = host.world();
        let start = world.now();
        move || world.now().since(start)
    };
    let (fast_clock, slow_clock) = (elapsed(&fast), elapsed(&slow));
    let woken = Rc::new(Cell::new(world::Time(0)));
    let (sink, observer, world) = (woken.clone(), sim.clone(), slow.world());
    slow.spawn(async move {
        world.sleep(SECOND).await;
        sink.set(observer.now());
    });
    sim.run_for(10 * SECOND);
    assert_eq!(fast_clock(), 11 * SECOND);
    assert_eq!(slow_clock(), 5 * SECOND);
    assert!(woken.get() >= world::Time(2_000_000_000));
    assert!(woken.get() < world::Time(2_001_000_000));
    let before = fast.world().clock.unix_ms();
    fast.jump_wall_clock(-5000);
    assert_eq!(fast.world().clock.unix_ms(), before - 5000);
}

#[test]
fn a_timer_set_before_the_clock_slowed_down_is_not_early() {
    let sim = Simulation::new(7, Options::default());
    let host = sim.host("a");
    let world = host.world();
    host.spawn(async move {
        let start = world.now();
        world.sleep(SECOND).await;
        assert!(world.now().since(start) >= SECOND);
    });
    sim.run_for(SECOND / 2);
    host.set_clock_drift(-500_000);
    sim.run_for(SECOND);
    assert_eq!(sim.counters().timers, 0);
    sim.run_for(SECOND);
    assert_eq!(sim.counters().timers, 1);
}

#[test]
fn a_crash_drops_all_tasks_and_a_power_loss_changes_the_boot_id() {
    struct Guard(Rc<Cell<u32>>, world::World);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            self.1.spawn(async { panic!("a dead host runs nothing") });
        }
    }
    let sim = Simulation::new(8, Options::default());
    let host = sim.host("a");
    let dropped = Rc::new(Cell::new(0));
    let boot = host.boot_id();
    for _ in 0..3 {
        let guard = Guard(dropped.clone(), host.world());
        host.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
    }
    sim.run_for(SECOND);
    host.crash();
    assert_eq!(dropped.get(), 3);
    assert!(!host.is_up());
    host.restart();
    assert!(host.is_up());
    assert_eq!(host.boot_id(), boot);
    host.power_loss();
    host.restart();
    assert_ne!(host.boot_id(), boot);
    sim.run_for(SECOND);
}

#[test]
fn a_task_may_crash_its_own_host() {
    let sim = Simulation::new(9, Options::default());
    let host = sim.host("a");
    let myself = host.clone();
    host.spawn(async move {
        myself.crash();
        std::future::ready(()).await;
        myself.restart();
        std::future::pending::<()>().await;
        unreachable!("this life is over");
    });
    sim.run_for(SECOND);
    assert!(host.is_up());
}

#[test]
#[should_panic(expected = "host spinner polled its tasks")]
fn a_spinning_task_fails_the_run() {
    let sim = Simulation::new(10, Options::default());
    let host = sim.host("spinner");
    host.spawn(std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    }));
    sim.run_for(1000 * SECOND);
}

#[test]
fn scheduled_faults_happen_at_their_time() {
    let sim = Simulation::new(11, Options::default());
    let host = sim.host("a");
    let victim = host.clone();
    sim.after(SECOND, move || victim.crash());
    assert!(sim.run_until(|| !host.is_up(), 2 * SECOND));
    assert_eq!(sim.now(), world::Time(1_000_000_000));
}

#[test]
fn a_dropped_simulation_frees_its_tasks() {
    let token = Rc::new(());
    {
        let sim = Simulation::new(12, Options::default());
        let host = sim.host("a");
        let (held, world) = (token.clone(), host.world());
        host.spawn(async move {
            let _held = held;
            world.sleep(1000 * SECOND).await;
        });
        sim.run_for(SECOND);
        assert_eq!(Rc::strong_count(&token), 2);
    }
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
fn scenario_streams_differ_and_repeat() {
    let draws = |seed: u64| {
        let sim = Simulation::new(seed, Options::default());
        let streams: [SimRng; 2] = [sim.rng(), sim.rng()];
        streams.map(|stream| stream.next_u64())
    };
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
    assert_ne!(draws(1)[0], draws(1)[1]);
}
