//! Refusals, and what the server makes of bytes that are no good.

use crate::*;
use rpc::FrameReader;
use wire::{Frame, FrameKind};
use world::Stream;
use world_sim::Options;

fn pair(seed: u64) -> (Simulation, Host, Host, Seen) {
    let sim = Simulation::new(seed, Options::default());
    let (client, server) = (sim.host("client"), sim.host("server"));
    let seen = Seen::default();
    start_server(&server, &seen);
    sim.run_for(Duration::from_millis(1));
    (sim, client, server, seen)
}

fn bytes_of(kind: FrameKind, id: u64, head: &impl serde::Serialize) -> Vec<u8> {
    let frame = Frame::encode(kind, id, head, Vec::new());
    frame.parts.iter().flat_map(|part| part.to_vec()).collect()
}

/// Sends raw bytes and returns every reply until the end of the stream, or until `wanted` have come.
async fn talk(world: World, bytes: Vec<u8>, wanted: usize) -> (Vec<Reply>, bool) {
    let connected = world.net.connect(&Address::from("server:1")).await;
    let stream: Rc<dyn Stream> = connected.unwrap();
    stream.write(vec![bytes.into()]).await.unwrap();
    let (mut reader, mut replies) = (FrameReader::default(), Vec::new());
    while let Ok(chunk) = stream.read().await {
        if chunk.is_empty() {
            return (replies, true);
        }
        reader.push(chunk);
        while let Some(frame) = reader.next_frame().unwrap() {
            if frame.header.kind == FrameKind::Reply {
                replies.push(frame.header.decode_head(&frame.head).unwrap());
            }
        }
        if replies.len() >= wanted {
            return (replies, false);
        }
    }
    (replies, true)
}

/// A hello as it is on the wire.
fn greeting() -> Vec<u8> {
    bytes_of(FrameKind::Hello, 0, &(hello(9), false))
}

#[test]
fn a_peer_of_another_cluster_is_refused_by_name() {
    let (sim, client, _, seen) = pair(1);
    let mut other = hello(2);
    other.cluster = "elsewhere".into();
    let peer = Peer::new(client.world(), Address::from("server:1"), other);
    match run(&sim, &client, peer.call(write(1), Vec::new())) {
        Err(RpcError::Refused { reason, .. }) => {
            assert!(
                reason.contains("\"test\"") && reason.contains("\"elsewhere\""),
                "{reason}"
            );
        }
        answer => panic!("{answer:?}"),
    }
    assert!(seen.arrived.borrow().is_empty() && seen.closed.borrow().is_empty());
}

#[test]
fn releases_that_know_one_level_talk_and_others_are_told_both() {
    let known = |mut hello: Hello, levels: &str| {
        hello.levels = levels.parse().unwrap();
        hello
    };
    for (server, caller, talk) in [
        ("1-2", "2-3", true),
        ("2-3", "1-2", true),
        ("2-3", "1", false),
        ("1", "2-3", false),
    ] {
        let sim = Simulation::new(1, Options::default());
        let (client, host) = (sim.host("client"), sim.host("server"));
        start_server_as(&host, &Seen::default(), known(hello(1), server));
        sim.run_for(Duration::from_millis(1));
        let peer = Peer::new(
            client.world(),
            Address::from("server:1"),
            known(hello(2), caller),
        );
        match run(&sim, &client, peer.call(write(1), Vec::new())) {
            Ok(_) => {
                assert!(talk, "{server} {caller}");
                assert_eq!(peer.remote().unwrap().levels, server.parse().unwrap());
            }
            Err(RpcError::Refused { reason, .. }) => {
                assert!(!talk, "{server} {caller}: {reason}");
                let words = |levels: &str| levels.replace('-', " to ");
                assert!(
                    reason.contains(&words(server)) && reason.contains(&words(caller)),
                    "{reason}"
                );
            }
            answer => panic!("{answer:?}"),
        }
    }
}

/// A server that greets as releases did before they sent levels.
fn early_server(sim: &Simulation) -> (Host, Host) {
    let (client, server) = (sim.host("client"), sim.host("server"));
    let world = server.world();
    server.spawn(async move {
        let listener = world.net.listen(&Address::from("server:1")).await.unwrap();
        let stream = listener.accept().await.unwrap();
        stream.write(vec![greeting().into()]).await.unwrap();
        world.sleep(SECOND * 9).await;
    });
    sim.run_for(Duration::from_millis(1));
    (client, server)
}

#[test]
fn a_caller_refuses_a_server_of_before_that_does_not_know_better() {
    let sim = Simulation::new(1, Options::default());
    let (client, _server) = early_server(&sim);
    let mut own = hello(2);
    own.levels = "2-3".parse().unwrap();
    let peer = Peer::new(client.world(), Address::from("server:1"), own);
    match run(&sim, &client, peer.call(write(1), Vec::new())) {
        Err(RpcError::Refused { reason, .. }) => {
            assert!(reason.contains("level 1, ours 2 to 3"), "{reason}");
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn a_server_of_before_levels_were_sent_counts_as_the_first() {
    let sim = Simulation::new(1, Options::default());
    let (client, server) = early_server(&sim);
    let peer = peer(&client, &server);
    let _unanswered = peer.call(write(1), Vec::new());
    sim.run_for(SECOND);
    assert_eq!(peer.remote().unwrap().levels, vocab::Levels::FIRST);
}

#[test]
fn a_caller_of_another_version_is_told_both_versions() {
    let (sim, client, _, _) = pair(1);
    let mut bytes = greeting();
    bytes[4] = 99;
    let (replies, ended) = run(&sim, &client, talk(client.world(), bytes, 9));
    let [Reply::Refused(reason)] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert!(reason.contains("version 99") && ended, "{reason}");
}

#[test]
fn a_server_of_another_version_is_named_in_the_error() {
    let sim = Simulation::new(1, Options::default());
    let (client, server) = (sim.host("client"), sim.host("server"));
    let world = server.world();
    server.spawn(async move {
        let listener = world.net.listen(&Address::from("server:1")).await.unwrap();
        let stream = listener.accept().await.unwrap();
        let mut bytes = greeting();
        bytes[4] = 99;
        stream.write(vec![bytes.into()]).await.unwrap();
        world.sleep(SECOND).await;
    });
    sim.run_for(Duration::from_millis(1));
    let peer = peer(&client, &server);
    match run(&sim, &client, peer.call(write(1), Vec::new())) {
        Err(RpcError::Refused { reason, .. }) => assert!(reason.contains("99"), "{reason}"),
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn whoever_does_not_start_with_a_hello_is_refused() {
    let (sim, client, _, seen) = pair(1);
    let request = bytes_of(FrameKind::Request, 1, &write(1));
    let (replies, ended) = run(&sim, &client, talk(client.world(), request, 9));
    assert!(matches!(&replies[..], [Reply::Refused(_)]) && ended);
    let (replies, ended) = run(
        &sim,
        &client,
        talk(
            client.world(),
            b"GET / HTTP/1.1\r\n\r\n, and so on and so forth".to_vec(),
            9,
        ),
    );
    assert!(matches!(&replies[..], [Reply::Refused(_)]) && ended);
    assert!(seen.arrived.borrow().is_empty());
}

#[test]
fn a_silent_caller_is_disconnected() {
    let (sim, client, _, _) = pair(1);
    let before = sim.now();
    let (replies, ended) = run(&sim, &client, talk(client.world(), vec![b'A'], 9));
    assert!(replies.is_empty() && ended);
    assert!(sim.now().since(before) <= 6 * SECOND);
}

#[test]
fn an_unknown_request_is_refused_and_the_connection_goes_on() {
    let (sim, client, _, seen) = pair(1);
    let mut bytes = greeting();
    bytes.extend(bytes_of(FrameKind::Request, 1, &200u8));
    bytes.extend(bytes_of(FrameKind::Request, 2, &write(2)));
    bytes.extend(bytes_of(FrameKind::Request, 3, &Request::Ping));
    let (replies, ended) = run(&sim, &client, talk(client.world(), bytes, 3));
    assert!(!ended);
    assert!(matches!(&replies[0], Reply::Refused(_)));
    assert!(replies.contains(&allocation(2)) && replies.contains(&Reply::Pong));
    assert_eq!(seen.arrived.borrow().len(), 1);
}

#[test]
fn a_damaged_frame_ends_the_connection() {
    let (sim, client, _, seen) = pair(1);
    let mut bytes = greeting();
    let mut request = bytes_of(FrameKind::Request, 1, &write(2));
    let last = request.len() - 1;
    request[last] ^= 1;
    bytes.extend(request);
    let (replies, ended) = run(&sim, &client, talk(client.world(), bytes, 9));
    assert!(replies.is_empty() && ended);
    assert!(seen.arrived.borrow().is_empty());
    assert!(sim.run_until(|| seen.closed.borrow().len() == 1, SECOND));
}

#[test]
fn the_server_stops_reading_a_caller_that_ignores_the_bounds() {
    let (sim, client, _, seen) = pair(1);
    seen.held.set(true);
    let mut bytes = greeting();
    for id in 1..=3000 {
        bytes.extend(bytes_of(FrameKind::Request, id, &write(id)));
    }
    let replies = start(&client, talk(client.world(), bytes, 3000));
    sim.run_for(10 * SECOND);
    assert_eq!(seen.running.get(), rpc::IN_FLIGHT_MAX + 1);
    seen.held.set(false);
    seen.release.notify_all();
    let (replies, _) = finish(&sim, &replies, 10 * SECOND);
    assert_eq!(replies.len(), 3000);
    assert!(seen.running_max.get() <= rpc::IN_FLIGHT_MAX + 1);
}

#[test]
fn flipped_bits_never_give_a_wrong_reply() {
    for seed in 0..20 {
        let mut options = Options::default();
        options.net.corrupt = 0.02;
        let sim = Simulation::new(seed, options);
        let (client, server) = (sim.host("client"), sim.host("server"));
        let seen = Seen::default();
        start_server(&server, &seen);
        let peer = peer(&client, &server);
        run(&sim, &client, async move {
            for number in 0..100 {
                // A flip in the length of a frame may make the server wait for more: bounded by silence.
                let mut answered = false;
                for _ in 0..50 {
                    match peer.call(write(number), Vec::new()).await {
                        Ok((reply, _)) => {
                            assert_eq!(reply, allocation(number));
                            answered = true;
                            break;
                        }
                        Err(RpcError::TooLarge { .. } | RpcError::Closed { .. }) => panic!(),
                        Err(_) => {}
                    }
                }
                assert!(answered);
            }
        });
    }
}
