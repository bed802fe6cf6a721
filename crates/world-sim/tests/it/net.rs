//! What connections do in fair weather, behind partitions and in crashes.

use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use world::{Address, Duration, NetError, Stream, World};
use world_sim::{Host, Latency, Link, NetOptions, Options, Simulation};

const SECOND: Duration = Duration::from_secs(1);

type Received = Rc<RefCell<Vec<Result<Bytes, NetError>>>>;

fn quiet() -> Options {
    let net = NetOptions {
        split: 0.0,
        merge: 0.0,
        ..NetOptions::default()
    };
    Options {
        net,
        ..Options::default()
    }
}

/// Two hosts, a connection between them, and everything that `there` receives on it.
struct Pair {
    sim: Simulation,
    here: Host,
    there: Host,
    mine: Rc<dyn Stream>,
    theirs: Rc<dyn Stream>,
}

fn connected(seed: u64, options: Options) -> Pair {
    let sim = Simulation::new(seed, options);
    let (here, there) = (sim.host("here"), sim.host("there"));
    let (mine, theirs) = connect(&sim, &here, &there, "there:80");
    Pair {
        sim,
        here,
        there,
        mine,
        theirs,
    }
}

fn connect(
    sim: &Simulation,
    here: &Host,
    there: &Host,
    address: &str,
) -> (Rc<dyn Stream>, Rc<dyn Stream>) {
    let ends = Rc::new(RefCell::new((None, None)));
    let (world, sink, name) = (there.world(), ends.clone(), Address::from(address));
    let bound = name.clone();
    there.spawn(async move {
        let listener = world.net.listen(&bound).await.unwrap();
        sink.borrow_mut().1 = Some(listener.accept().await.unwrap());
    });
    let (world, sink) = (here.world(), ends.clone());
    here.spawn(async move {
        loop {
            if let Ok(stream) = world.net.connect(&name).await {
                sink.borrow_mut().0 = Some(stream);
                return;
            }
            world.sleep(Duration::from_millis(1)).await;
        }
    });
    let ready = || ends.borrow().0.is_some() && ends.borrow().1.is_some();
    assert!(sim.run_until(ready, 10 * SECOND));
    let (mine, theirs) = ends.take();
    (mine.unwrap(), theirs.unwrap())
}

fn collect(host: &Host, stream: &Rc<dyn Stream>) -> Received {
    let received: Received = Rc::default();
    let (sink, stream) = (received.clone(), stream.clone());
    host.spawn(async move {
        loop {
            let piece = stream.read().await;
            let end = piece.as_ref().map_or(true, Bytes::is_empty);
            sink.borrow_mut().push(piece);
            if end {
                return;
            }
        }
    });
    received
}

fn send(host: &Host, stream: &Rc<dyn Stream>, bytes: impl Into<Bytes>) {
    let (stream, bytes) = (stream.clone(), bytes.into());
    host.spawn(async move {
        let _ = stream.write(vec![bytes]).await;
    });
}

fn data(received: &Received) -> Vec<u8> {
    let received = received.borrow();
    let pieces = received.iter().filter_map(|piece| piece.as_ref().ok());
    pieces.flat_map(|piece| piece.to_vec()).collect()
}

fn ended(received: &Received) -> bool {
    matches!(received.borrow().last(), Some(Ok(piece)) if piece.is_empty())
}

fn lost(received: &Received) -> bool {
    matches!(received.borrow().last(), Some(Err(NetError::Lost(_))))
}

#[test]
fn streams_arrive_in_order_however_they_are_cut() {
    let net = NetOptions {
        split: 0.5,
        merge: 0.5,
        window_bytes: 10_000,
        ..NetOptions::default()
    };
    let options = Options {
        net,
        ..Options::default()
    };
    let pair = connected(1, options);
    let received = collect(&pair.there, &pair.theirs);
    let text: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    let (stream, parts) = (pair.mine.clone(), Bytes::from(text.clone()));
    pair.here.spawn(async move {
        for start in (0..parts.len()).step_by(2000) {
            let middle = start + 700;
            let both = vec![
                parts.slice(start..middle),
                parts.slice(middle..start + 2000),
            ];
            stream.write(both).await.unwrap();
        }
        stream.close();
    });
    assert!(pair.sim.run_until(|| ended(&received), 60 * SECOND));
    assert_eq!(data(&received), text);
    let lengths: Vec<usize> = received.borrow().iter().flatten().map(Bytes::len).collect();
    assert!(lengths.iter().any(|len| ![0, 700, 1300].contains(len)));
}

#[test]
fn connections_overtake_each_other() {
    let mut overtaken = false;
    for seed in 0..20 {
        let pair = connected(seed, quiet());
        let (mine, theirs) = connect(&pair.sim, &pair.here, &pair.there, "there:81");
        let order = Rc::new(RefCell::new(Vec::new()));
        for (stream, tag) in [(&pair.theirs, 1), (&theirs, 2)] {
            let (stream, order) = (stream.clone(), order.clone());
            pair.there.spawn(async move {
                stream.read().await.unwrap();
                order.borrow_mut().push(tag);
            });
        }
        let first = pair.mine.clone();
        pair.here.spawn(async move {
            first.write(vec![Bytes::from_static(b"1")]).await.unwrap();
            mine.write(vec![Bytes::from_static(b"2")]).await.unwrap();
            std::future::pending::<()>().await;
        });
        pair.sim.run_for(SECOND);
        overtaken |= *order.borrow() == [2, 1];
        assert_eq!(order.borrow().len(), 2);
    }
    assert!(overtaken);
}

#[test]
fn a_writer_waits_while_the_reader_does_not_read() {
    let mut options = quiet();
    options.net.window_bytes = 64 << 10;
    let pair = connected(2, options);
    let written = Rc::new(Cell::new(0));
    let (stream, count) = (pair.mine.clone(), written.clone());
    pair.here.spawn(async move {
        for _ in 0..100 {
            stream
                .write(vec![Bytes::from(vec![1; 4096])])
                .await
                .unwrap();
            count.set(count.get() + 1);
        }
    });
    pair.sim.run_for(10 * SECOND);
    assert_eq!(written.get(), 16);
    let received = collect(&pair.there, &pair.theirs);
    pair.sim.run_for(10 * SECOND);
    assert_eq!(written.get(), 100);
    assert_eq!(data(&received).len(), 409_600);
}

#[test]
fn bytes_sent_before_a_close_arrive_and_bytes_sent_after_it_are_reset() {
    let pair = connected(3, quiet());
    let received = collect(&pair.there, &pair.theirs);
    let stream = pair.mine.clone();
    pair.here.spawn(async move {
        stream
            .write(vec![Bytes::from(vec![5; 1000])])
            .await
            .unwrap();
        stream.close();
    });
    assert!(pair.sim.run_until(|| ended(&received), SECOND));
    assert_eq!(data(&received), vec![5; 1000]);
    send(&pair.there, &pair.theirs, vec![6; 10]);
    pair.sim.run_for(SECOND);
    let late = collect(&pair.there, &pair.theirs);
    let own = collect(&pair.here, &pair.mine);
    pair.sim.run_for(SECOND);
    assert!(lost(&late) && lost(&own));
}

#[test]
fn dropping_a_stream_closes_it() {
    let Pair {
        sim,
        there,
        mine,
        theirs,
        ..
    } = connected(4, quiet());
    let received = collect(&there, &theirs);
    drop(mine);
    assert!(sim.run_until(|| ended(&received), SECOND));
}

#[test]
fn a_one_way_partition_swallows_one_direction_until_it_heals() {
    let pair = connected(5, quiet());
    let there = collect(&pair.there, &pair.theirs);
    let here = collect(&pair.here, &pair.mine);
    pair.sim.partition(&pair.here, &pair.there);
    send(&pair.here, &pair.mine, vec![1; 100]);
    send(&pair.there, &pair.theirs, vec![2; 100]);
    pair.sim.run_for(5 * SECOND);
    assert_eq!(data(&there).len(), 0);
    assert_eq!(data(&here), vec![2; 100]);
    pair.sim.heal(&pair.here, &pair.there);
    pair.sim.run_for(3 * SECOND);
    assert_eq!(data(&there), vec![1; 100]);
    send(&pair.there, &pair.theirs, vec![3; 100]);
    pair.sim.run_for(100 * SECOND);
    assert_eq!(data(&here).len(), 200);
    assert!(pair.sim.counters().stalls > 0);
}

#[test]
fn a_long_partition_ends_the_senders_connection_only() {
    for direction in 0..2 {
        let pair = connected(6, quiet());
        let there = collect(&pair.there, &pair.theirs);
        let here = collect(&pair.here, &pair.mine);
        // Direction 1: data gets through, but its acknowledgements do not.
        match direction {
            0 => pair.sim.partition(&pair.here, &pair.there),
            _ => pair.sim.partition(&pair.there, &pair.here),
        }
        send(&pair.here, &pair.mine, vec![1; 100]);
        pair.sim.run_for(60 * SECOND);
        assert_eq!(data(&there).len(), 100 * direction);
        assert!(lost(&here));
        assert!(!lost(&there));
        assert_eq!(pair.sim.counters().retransmit_timeouts, 1);
        pair.sim.heal_all();
        pair.sim.run_for(SECOND);
        send(&pair.there, &pair.theirs, vec![1; 100]);
        pair.sim.run_for(SECOND);
        assert!(
            lost(&there),
            "the answer to an unknown connection is a reset"
        );
    }
}

#[test]
fn an_idle_connection_survives_a_partition() {
    let pair = connected(7, quiet());
    let there = collect(&pair.there, &pair.theirs);
    pair.sim.isolate(&pair.here);
    pair.sim.run_for(1000 * SECOND);
    pair.sim.heal_all();
    send(&pair.here, &pair.mine, vec![1; 100]);
    pair.sim.run_for(SECOND);
    assert_eq!(data(&there).len(), 100);
}

fn connect_result(sim: &Simulation, host: &Host, to: &str, limit: Duration) -> Option<String> {
    let result = Rc::new(RefCell::new(None));
    let (world, sink, to) = (host.world(), result.clone(), Address::from(to));
    host.spawn(async move {
        let outcome = world.net.connect(&to).await;
        let text = outcome.map_or_else(|error| error.to_string(), |_| "connected".to_owned());
        *sink.borrow_mut() = Some(text);
    });
    sim.run_until(|| result.borrow().is_some(), limit);
    result.take()
}

async fn listen_forever(world: World, address: &'static str) {
    let listener = world.net.listen(&address.into()).await.unwrap();
    let mut streams = Vec::new();
    while let Ok(stream) = listener.accept().await {
        streams.push(stream);
    }
}

#[test]
fn connects_are_refused_hang_or_find_no_host() {
    let sim = Simulation::new(8, quiet());
    let (here, there) = (sim.host("here"), sim.host("there"));
    let refused = connect_result(&sim, &here, "there:80", SECOND).unwrap();
    assert!(refused.contains("refused"), "{refused}");
    let unknown = connect_result(&sim, &here, "nowhere:80", SECOND).unwrap();
    assert!(unknown.contains("unknown host"), "{unknown}");
    let malformed = connect_result(&sim, &here, "nonsense", SECOND).unwrap();
    assert!(malformed.contains("host:port"), "{malformed}");
    there.spawn(listen_forever(there.world(), "0.0.0.0:80"));
    sim.run_for(SECOND);
    sim.partition(&there, &here);
    assert_eq!(connect_result(&sim, &here, "there:80", 20 * SECOND), None);
    sim.heal_all();
    let connected = connect_result(&sim, &here, "there:80", SECOND).unwrap();
    assert_eq!(connected, "connected");
    there.crash();
    let refused = connect_result(&sim, &here, "there:80", SECOND).unwrap();
    assert!(refused.contains("refused"), "{refused}");
    there.power_loss();
    assert_eq!(connect_result(&sim, &here, "there:80", SECOND / 4), None);
    let failed = connect_result(&sim, &here, "there:80", 60 * SECOND).unwrap();
    assert!(failed.contains("no route") || failed.contains("timed out"));
    assert!(sim.counters().connects_failed >= 5);
}

#[test]
fn port_zero_gives_a_free_port_and_a_taken_one_is_refused() {
    let sim = Simulation::new(9, quiet());
    let host = sim.host("a");
    let world = host.world();
    let done = Rc::new(Cell::new(false));
    let flag = done.clone();
    host.spawn(async move {
        let first = world.net.listen(&"a:0".into()).await.unwrap();
        let second = world.net.listen(&"127.0.0.1:0".into()).await.unwrap();
        assert_ne!(first.address(), second.address());
        let again = world.net.listen(&first.address()).await;
        assert!(matches!(again, Err(NetError::CannotListen { .. })));
        let foreign = world.net.listen(&"b:1".into()).await;
        assert!(matches!(foreign, Err(NetError::CannotListen { .. })));
        let address = first.address();
        drop(first);
        let first = world.net.listen(&address).await.unwrap();
        world.net.connect(&first.address()).await.unwrap();
        first.accept().await.unwrap();
        let local = world.net.listen(&"unix:/run/x".into()).await.unwrap();
        world.net.connect(&"unix:/run/x".into()).await.unwrap();
        local.accept().await.unwrap();
        flag.set(true);
    });
    assert!(sim.run_until(|| done.get(), SECOND));
}

#[test]
fn peers_of_a_crashed_process_see_an_end_or_a_reset() {
    let (mut ends, mut resets) = (0, 0);
    for seed in 0..40 {
        let pair = connected(seed, quiet());
        let here = collect(&pair.here, &pair.mine);
        pair.there.crash();
        pair.sim.run_for(SECOND);
        ends += u32::from(ended(&here));
        resets += u32::from(lost(&here));
    }
    assert_eq!(ends + resets, 40);
    assert!(ends > 5 && resets > 5, "{ends} {resets}");
}

#[test]
fn peers_of_a_host_without_power_notice_by_timeout_or_its_return() {
    let pair = connected(10, quiet());
    let here = collect(&pair.here, &pair.mine);
    pair.there.power_loss();
    send(&pair.here, &pair.mine, vec![1; 100]);
    pair.sim.run_for(10 * SECOND);
    assert!(here.borrow().is_empty());
    pair.there.restart();
    pair.sim.run_for(5 * SECOND);
    assert!(lost(&here));

    let pair = connected(11, quiet());
    let here = collect(&pair.here, &pair.mine);
    pair.there.power_loss();
    pair.sim.run_for(1000 * SECOND);
    assert!(here.borrow().is_empty(), "an idle peer notices nothing");
    send(&pair.here, &pair.mine, vec![1; 100]);
    pair.sim.run_for(60 * SECOND);
    assert!(lost(&here));
}

#[test]
fn a_paused_host_still_receives_into_its_buffers() {
    let pair = connected(12, quiet());
    let there = collect(&pair.there, &pair.theirs);
    pair.sim.run_for(SECOND);
    pair.there.pause();
    let (stream, written) = (pair.mine.clone(), Rc::new(Cell::new(false)));
    let flag = written.clone();
    pair.here.spawn(async move {
        stream
            .write(vec![Bytes::from(vec![1; 1000])])
            .await
            .unwrap();
        flag.set(true);
    });
    pair.sim.run_for(10 * SECOND);
    assert!(written.get());
    assert!(there.borrow().is_empty());
    pair.there.resume();
    pair.sim.run_for(SECOND);
    assert_eq!(data(&there).len(), 1000);
}

#[test]
fn resets_and_bit_flips_happen_when_asked_for() {
    let mut options = quiet();
    options.net.reset = 0.01;
    let pair = connected(13, options);
    let there = collect(&pair.there, &pair.theirs);
    let (stream, failed) = (pair.mine.clone(), Rc::new(Cell::new(false)));
    let flag = failed.clone();
    pair.here.spawn(async move {
        while stream.write(vec![Bytes::from(vec![1; 100])]).await.is_ok() {}
        flag.set(true);
    });
    assert!(
        pair.sim
            .run_until(|| failed.get() && lost(&there), 60 * SECOND)
    );
    assert_eq!(data(&there).len() % 100, 0, "a prefix, without gaps");

    let mut options = quiet();
    options.net.corrupt = 1.0;
    let pair = connected(14, options);
    let there = collect(&pair.there, &pair.theirs);
    send(&pair.here, &pair.mine, vec![0; 100]);
    pair.sim.run_for(SECOND);
    let ones: u32 = data(&there).iter().map(|byte| byte.count_ones()).sum();
    assert_eq!(ones, 1);
}

#[test]
fn links_have_their_own_latency_and_rate() {
    let pair = connected(15, quiet());
    let link = Link {
        latency: Some(Latency::micros(100_000, 0)),
        bytes_per_second: Some(1_000_000),
    };
    pair.sim.set_link(&pair.here, &pair.there, link);
    let there = collect(&pair.there, &pair.theirs);
    let start = pair.sim.now();
    send(&pair.here, &pair.mine, vec![1; 500_000]);
    pair.sim
        .run_until(|| data(&there).len() == 500_000, 10 * SECOND);
    let took = pair.sim.now().since(start);
    assert!(took > Duration::from_millis(600) && took < Duration::from_millis(700));
}
