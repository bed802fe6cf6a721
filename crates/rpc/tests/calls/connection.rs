//! Order, loss, silence and bounds of one connection.

use crate::*;
use futures_util::future::join_all;
use rpc::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
use world_sim::Options;

fn pair(seed: u64, options: Options) -> (Simulation, Host, Host, Seen) {
    let sim = Simulation::new(seed, options);
    let (client, server) = (sim.host("client"), sim.host("server"));
    let seen = Seen::default();
    start_server(&server, &seen);
    sim.run_for(Duration::from_millis(1));
    (sim, client, server, seen)
}

fn rough_run(seed: u64) -> u64 {
    let (sim, client, server, seen) = pair(seed, Options::rough());
    seen.service.set(Duration::from_millis(3));
    let peer = peer(&client, &server);
    let world = client.world();
    let tasks = (0..20u64).map(move |task| {
        let (peer, world) = (peer.clone(), world.clone());
        async move {
            for round in 0..15 {
                let number = task * 100 + round;
                let len = world.rng.next_u64() % 60_000;
                let body = Bytes::from(vec![number as u8; len as usize]);
                let (reply, echo) = insist(&peer, number, body.clone()).await;
                assert_eq!(reply, allocation(number));
                assert_eq!(echo, body);
            }
        }
    });
    run(&sim, &client, join_all(tasks));
    sim.event_hash()
}

#[test]
fn every_call_is_answered_with_its_own_reply_on_a_rough_network() {
    for seed in 0..30 {
        rough_run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    assert_eq!(rough_run(5), rough_run(5));
}

#[test]
fn requests_start_in_the_order_of_the_calls() {
    for seed in 0..10 {
        let (sim, client, server, seen) = pair(seed, Options::default());
        seen.service.set(Duration::from_millis(5));
        let peer = peer(&client, &server);
        let body = || vec![Bytes::from_static(&[1; 700]), Bytes::from_static(&[2; 333])];
        // The first ones wait for the connection, and all of them are more than the window.
        let calls: Vec<_> = (0..3000)
            .map(|number| peer.call(write(number), body()))
            .collect();
        let answers = run(&sim, &client, join_all(calls));
        for (number, answer) in answers.into_iter().enumerate() {
            let (reply, echo) = answer.unwrap();
            assert_eq!((reply, echo.len()), (allocation(number as u64), 1033));
        }
        let arrived: Vec<u64> = seen.arrived.borrow().iter().map(|entry| entry.1).collect();
        assert_eq!(arrived, (0..3000).collect::<Vec<_>>());
    }
}

#[test]
fn calls_in_flight_are_lost_with_the_server_and_later_ones_find_its_next_life() {
    let (sim, client, server, seen) = pair(3, Options::default());
    seen.held.set(true);
    let peer = peer(&client, &server);
    let calls: Vec<_> = (0..50)
        .map(|number| peer.call(write(number), Vec::new()))
        .collect();
    let answers = start(&client, join_all(calls));
    assert!(sim.run_until(|| seen.running.get() == 50, SECOND));
    server.crash();
    for answer in finish(&sim, &answers, SECOND) {
        assert!(matches!(answer, Err(RpcError::Lost { .. })), "{answer:?}");
    }
    let refused = run(&sim, &client, peer.call(write(60), Vec::new()));
    assert!(matches!(refused, Err(RpcError::Unreachable { .. })));
    server.restart();
    seen.held.set(false);
    start_server(&server, &seen);
    assert!(run(&sim, &client, peer.call(write(61), Vec::new())).is_ok());
    assert!(!seen.arrived.borrow().iter().any(|entry| entry.1 == 60));
}

#[test]
fn a_partition_ends_calls_within_seconds_and_a_heal_lets_them_through() {
    for seed in 0..5 {
        let (sim, client, server, seen) = pair(seed, Options::default());
        let peer = peer(&client, &server);
        run(&sim, &client, peer.call(write(0), Vec::new())).unwrap();
        sim.partition_both(&client, &server);
        let lost = start(&client, peer.call(write(1), Vec::new()));
        let lost = finish(&sim, &lost, 8 * SECOND);
        assert!(matches!(lost, Err(RpcError::Lost { .. })), "{lost:?}");
        let unreachable = start(&client, peer.call(write(2), Vec::new()));
        let unreachable = finish(&sim, &unreachable, 4 * SECOND);
        assert!(matches!(unreachable, Err(RpcError::Unreachable { .. })));
        sim.heal_all();
        run(&sim, &client, async move {
            insist(&peer, 3, Bytes::new()).await
        });
        // The server gives the old connection up too.
        assert!(sim.run_until(|| seen.closed.borrow().len() == 1, 40 * SECOND));
    }
}

#[test]
fn a_stopped_server_is_given_up_after_five_silent_seconds() {
    let (sim, client, server, _) = pair(1, Options::default());
    let peer = peer(&client, &server);
    run(&sim, &client, peer.call(write(0), Vec::new())).unwrap();
    server.pause();
    let before = sim.now();
    let lost = start(&client, peer.call(write(1), Vec::new()));
    assert!(matches!(
        finish(&sim, &lost, 9 * SECOND),
        Err(RpcError::Lost { .. })
    ));
    assert!(sim.now().since(before) >= Duration::from_millis(4_900));
}

#[test]
fn an_idle_connection_notices_a_dead_server_without_any_call() {
    let (sim, client, server, _) = pair(1, Options::default());
    let peer = peer(&client, &server);
    run(&sim, &client, peer.call(write(0), Vec::new())).unwrap();
    sim.run_for(20 * SECOND);
    assert_eq!(peer.remote().unwrap().node, NodeId(1));
    server.power_loss();
    assert!(sim.run_until(|| peer.remote().is_none(), 9 * SECOND));
}

#[test]
fn a_slow_request_is_not_mistaken_for_silence() {
    let (sim, client, server, seen) = pair(1, Options::default());
    seen.held.set(true);
    let peer = peer(&client, &server);
    let slow = start(&client, peer.call(write(0), Vec::new()));
    sim.run_for(60 * SECOND);
    assert!(slow.borrow().is_none());
    seen.held.set(false);
    seen.release.notify_all();
    finish(&sim, &slow, SECOND).unwrap();
}

#[test]
fn a_client_that_was_stopped_keeps_a_connection_that_is_alive() {
    let (sim, client, server, seen) = pair(1, Options::default());
    let peer = peer(&client, &server);
    run(&sim, &client, peer.call(write(0), Vec::new())).unwrap();
    seen.service.set(Duration::from_millis(1));
    let call = start(&client, peer.call(write(1), Vec::new()));
    sim.run_for(Duration::from_micros(50));
    client.pause();
    sim.run_for(8 * SECOND);
    client.resume();
    finish(&sim, &call, SECOND).unwrap();
}

#[test]
fn callers_wait_at_the_bound_of_requests_in_flight() {
    let (sim, client, server, seen) = pair(2, Options::default());
    seen.held.set(true);
    let peer = peer(&client, &server);
    let calls: Vec<_> = (0..3000)
        .map(|number| peer.call(write(number), Vec::new()))
        .collect();
    let answers = start(&client, join_all(calls));
    sim.run_for(30 * SECOND);
    assert_eq!(seen.running.get(), IN_FLIGHT_MAX);
    seen.held.set(false);
    seen.release.notify_all();
    let answers = finish(&sim, &answers, 10 * SECOND);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(seen.running_max.get(), IN_FLIGHT_MAX);
    assert_eq!(seen.arrived.borrow().len(), 3000);
}

#[test]
fn callers_wait_at_the_bound_of_bytes_in_flight() {
    let (sim, client, server, seen) = pair(2, Options::default());
    seen.held.set(true);
    let peer = peer(&client, &server);
    let body = Bytes::from(vec![5; 3 << 20]);
    let call = |number| peer.call(write(number), vec![body.clone()]);
    let calls: Vec<_> = (0..40).map(call).collect();
    let answers = start(&client, join_all(calls));
    sim.run_for(10 * SECOND);
    assert_eq!(seen.running.get(), IN_FLIGHT_BYTES_MAX / (3 << 20));
    seen.held.set(false);
    seen.release.notify_all();
    let answers = finish(&sim, &answers, 10 * SECOND);
    assert!(answers.into_iter().all(|answer| answer.unwrap().1 == body));
    assert!(seen.bytes_max.get() <= IN_FLIGHT_BYTES_MAX);
}

#[test]
fn a_dropped_call_is_withdrawn_when_it_was_not_sent() {
    let (sim, client, server, seen) = pair(2, Options::default());
    let peer = peer(&client, &server);
    let first = peer.call(write(1), Vec::new());
    drop(peer.call(write(2), Vec::new()));
    let third = peer.call(write(3), Vec::new());
    run(&sim, &client, async move {
        (first.await.unwrap(), third.await.unwrap())
    });
    let arrived: Vec<u64> = seen.arrived.borrow().iter().map(|entry| entry.1).collect();
    assert_eq!(arrived, [1, 3]);
}

#[test]
fn a_message_above_the_bound_is_not_sent() {
    let (sim, client, server, seen) = pair(2, Options::default());
    let peer = peer(&client, &server);
    let body = vec![Bytes::from(vec![0; wire::MESSAGE_BYTES_MAX])];
    let answer = run(&sim, &client, peer.call(write(1), body));
    assert!(matches!(answer, Err(RpcError::TooLarge { .. })));
    assert!(seen.arrived.borrow().is_empty());
}

#[test]
fn a_closed_peer_fails_its_calls_and_the_server_learns_of_it() {
    let (sim, client, server, seen) = pair(2, Options::default());
    seen.held.set(true);
    let peer = peer(&client, &server);
    let call = start(&client, peer.call(write(1), Vec::new()));
    assert!(sim.run_until(|| seen.running.get() == 1, SECOND));
    peer.close();
    let closed = finish(&sim, &call, SECOND);
    assert!(matches!(closed, Err(RpcError::Closed { .. })));
    let later = run(&sim, &client, peer.call(write(2), Vec::new()));
    assert!(matches!(later, Err(RpcError::Closed { .. })));
    assert!(sim.run_until(|| seen.closed.borrow().len() == 1, SECOND));
    // What had started runs to its end.
    seen.held.set(false);
    seen.release.notify_all();
    assert!(sim.run_until(|| seen.running.get() == 0, SECOND));
}

#[test]
fn a_single_use_peer_never_reconnects() {
    let (sim, client, server, seen) = pair(2, Options::default());
    seen.held.set(true);
    let address = Address::from("server:1");
    let peer = Peer::single_use(client.world(), address, hello(0));
    let call = start(&client, peer.call(write(1), Vec::new()));
    assert!(sim.run_until(|| seen.running.get() == 1, SECOND));
    server.crash();
    server.restart();
    start_server(&server, &seen);
    assert!(matches!(
        finish(&sim, &call, 2 * SECOND),
        Err(RpcError::Lost { .. })
    ));
    let later = run(&sim, &client, peer.call(write(2), Vec::new()));
    assert!(matches!(later, Err(RpcError::Closed { .. })));
    assert_eq!(seen.arrived.borrow().len(), 1);
}
