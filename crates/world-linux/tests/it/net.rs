//! Connections over TCP and local sockets, plain and encrypted, with both reactors.

use crate::both::Scratch;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use std::cell::Cell;
use std::rc::Rc;
use world::{Address, Duration, NetError, Stream, World};
use world_linux::tls::encrypt;

/// The addresses to listen on.
fn addresses() -> (Scratch, Vec<Address>) {
    let scratch = Scratch::new("s");
    // Local sockets' paths have at most 107 bytes, which a target directory may exceed.
    let name = scratch.0.file_name().unwrap();
    let scratch = Scratch(std::env::temp_dir().join(name));
    let local = Address(format!("unix:{}", scratch.0.display()));
    (scratch, vec![Address::from("127.0.0.1:0"), local])
}

/// Runs a test on the network as it is and on the encrypted one.
fn everywhere<F: Future<Output = ()> + 'static>(test: impl Fn(World) -> F) {
    crate::both::both(|world, _| test(world));
    let node = crate::members::Cluster::new("net").node("n1");
    crate::both::both(|world, _| test(encrypt(&world, node.clone())));
}

/// Answers every byte with itself until the end of the stream.
async fn echo(stream: Rc<dyn Stream>) {
    loop {
        match stream.read().await {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => stream.write(vec![bytes]).await.unwrap(),
            Err(_) => return,
        }
    }
}

async fn serve_echo(world: &World, address: &Address) -> Address {
    let listener = world.net.listen(address).await.unwrap();
    let bound = listener.address();
    let server = world.clone();
    world.spawn(async move {
        while let Ok(stream) = listener.accept().await {
            server.spawn(echo(stream));
        }
    });
    bound
}

async fn read_exactly(stream: &Rc<dyn Stream>, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let more = stream.read().await.unwrap();
        assert!(!more.is_empty(), "ended after {} of {len}", bytes.len());
        bytes.extend_from_slice(&more);
    }
    assert_eq!(bytes.len(), len);
    bytes
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|index| (index / 7) as u8).collect()
}

/// A connected pair.
async fn pair(world: &World, address: &Address) -> (Rc<dyn Stream>, Rc<dyn Stream>) {
    let listener = world.net.listen(address).await.unwrap();
    let bound = listener.address();
    let (near, far) = join(world.net.connect(&bound), listener.accept()).await;
    (near.unwrap(), far.unwrap())
}

#[test]
fn messages_of_any_size_come_back() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let bound = serve_echo(&world, &address).await;
            let stream = world.net.connect(&bound).await.unwrap();
            for len in [1, 100, 4096, 70_000, 1 << 20, 5 << 20, 3] {
                let message = pattern(len);
                let write = stream.write(vec![message.clone()]);
                let (written, read) = join(write, read_exactly(&stream, len)).await;
                written.unwrap();
                assert!(read == message);
            }
        }
    });
}

#[test]
fn parts_are_gathered_in_order() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let (near, far) = pair(&world, &address).await;
            let message = pattern(3 << 20);
            // 3,000 parts, more than one system call takes, of 0 to 2 KiB, and one of 1 MiB.
            let mut parts = vec![Bytes::new(), message.slice(..1 << 20)];
            let mut at = 1 << 20;
            for index in 0.. {
                let end = (at + index % 2048).min(message.len());
                parts.push(message.slice(at..end));
                at = end;
                if at == message.len() {
                    break;
                }
            }
            assert!(parts.len() > 2000);
            let (written, read) = join(near.write(parts), read_exactly(&far, message.len())).await;
            written.unwrap();
            assert!(read == message);
            near.write(vec![]).await.unwrap();
            near.write(vec![Bytes::new()]).await.unwrap();
        }
    });
}

#[test]
fn many_connections_at_once() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let bound = serve_echo(&world, &address).await;
            let talks = (0..300usize).map(|number| {
                let (world, bound) = (world.clone(), bound.clone());
                async move {
                    let stream = world.net.connect(&bound).await.unwrap();
                    for round in 0..5 {
                        let message = pattern(number * 10 + round + 1);
                        stream.write(vec![message.clone()]).await.unwrap();
                        assert!(read_exactly(&stream, message.len()).await == message);
                    }
                }
            });
            join_all(talks).await;
        }
    });
}

#[test]
fn close_wakes_a_reader_and_tells_the_peer() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let (near, far) = pair(&world, &address).await;
            let reader = near.clone();
            let read = async move { reader.read().await };
            let close = async {
                world.sleep(Duration::from_millis(5)).await;
                near.close();
            };
            let (read, ()) = join(read, close).await;
            assert!(matches!(read, Err(NetError::Lost(_))), "{read:?}");
            assert_eq!(far.read().await, Ok(Bytes::new()));
            assert_eq!(far.read().await, Ok(Bytes::new()));
            assert!(near.read().await.is_err());
            assert!(near.write(vec![pattern(1)]).await.is_err());
        }
    });
}

#[test]
fn close_wakes_a_writer() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let (near, _far) = pair(&world, &address).await;
            // More than the sockets' buffers take, and nobody reads.
            let write = near.write(vec![pattern(64 << 20)]);
            let close = async {
                world.sleep(Duration::from_millis(20)).await;
                near.close();
            };
            let (written, ()) = join(write, close).await;
            assert!(matches!(written, Err(NetError::Lost(_))));
        }
    });
}

#[test]
fn a_dropped_connection_ends_for_the_peer_also_with_calls_in_flight() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let (near, far) = pair(&world, &address).await;
            assert!(near.read().now_or_never().is_none());
            near.write(vec![pattern(10)]).await.unwrap();
            drop(near);
            assert_eq!(read_exactly(&far, 10).await, pattern(10));
            assert_eq!(far.read().await, Ok(Bytes::new()));
        }
    });
}

#[test]
fn a_dropped_read_loses_no_bytes() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let (near, far) = pair(&world, &address).await;
            let mut received = Vec::new();
            for byte in 0..50u8 {
                if let Some(read) = far.read().now_or_never() {
                    received.extend_from_slice(&read.unwrap());
                }
                near.write(vec![Bytes::from(vec![byte])]).await.unwrap();
                world.sleep(Duration::from_micros(200)).await;
                if byte % 3 == 0 {
                    received.extend_from_slice(&far.read().await.unwrap());
                }
            }
            near.close();
            while received.len() < 50 {
                let more = far.read().await.unwrap();
                assert!(!more.is_empty());
                received.extend_from_slice(&more);
            }
            assert_eq!(received, (0..50).collect::<Vec<u8>>());
        }
    });
}

#[test]
fn a_dropped_write_is_still_sent_as_a_whole() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let (near, far) = pair(&world, &address).await;
            let message = pattern(32 << 20);
            let halves = vec![message.slice(..5), message.slice(5..)];
            assert!(near.write(halves).now_or_never().is_none());
            let next = near.write(vec![Bytes::from_static(b"next")]);
            let (written, read) = join(next, read_exactly(&far, message.len() + 4)).await;
            written.unwrap();
            assert!(read[..message.len()] == message);
            assert_eq!(&read[message.len()..], b"next");
        }
    });
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let listener = world.net.listen(&address).await.unwrap();
            assert!(listener.accept().now_or_never().is_none());
            let near = world.net.connect(&listener.address()).await.unwrap();
            near.write(vec![pattern(5)]).await.unwrap();
            let far = listener.accept().await.unwrap();
            assert_eq!(read_exactly(&far, 5).await, pattern(5));
        }
    });
}

#[test]
fn nobody_listens_after_the_listener_is_dropped() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let listener = world.net.listen(&address).await.unwrap();
            assert!(listener.accept().now_or_never().is_none());
            let bound = listener.address();
            drop(listener);
            world.sleep(Duration::from_millis(5)).await;
            let refused = world.net.connect(&bound).await.err().unwrap();
            // The file of a local address is gone with its listener.
            let local = bound.0.starts_with("unix:");
            match refused {
                NetError::Refused { address } if !local => assert_eq!(address, bound.0),
                NetError::Unreachable { address, .. } if local => assert_eq!(address, bound.0),
                other => panic!("{other}"),
            }
            // The address is free again.
            world.net.listen(&bound).await.unwrap();
        }
    });
}

#[test]
fn addresses_that_cannot_work_are_refused_with_the_reason() {
    everywhere(|world| async move {
        for address in [
            "nonsense",
            "unix:/nonexistent/dir/socket",
            "256.1.1.1:1",
            ":",
            "unix:",
        ] {
            let address = Address::from(address);
            let error = world.net.connect(&address).await.err().unwrap();
            assert!(
                matches!(
                    error,
                    NetError::Unreachable { .. } | NetError::Refused { .. }
                ),
                "{address}: {error}"
            );
            let error = world.net.listen(&address).await.err();
            let refused = matches!(error, Some(NetError::CannotListen { .. }));
            assert!(refused, "{address}: {error:?}");
        }
        let first = world
            .net
            .listen(&Address::from("127.0.0.1:0"))
            .await
            .unwrap();
        let second = world.net.listen(&first.address()).await.err();
        assert!(matches!(second, Some(NetError::CannotListen { .. })));
    });
}

#[test]
fn host_names_are_looked_up() {
    everywhere(|world| async move {
        let bound = serve_echo(&world, &Address::from("127.0.0.1:0")).await;
        let (_, port) = bound.0.rsplit_once(':').unwrap();
        let named = Address(format!("localhost:{port}"));
        let stream = world.net.connect(&named).await.unwrap();
        stream.write(vec![pattern(9)]).await.unwrap();
        assert_eq!(read_exactly(&stream, 9).await, pattern(9));
    });
}

#[test]
fn local_sockets_left_behind_are_replaced_and_live_ones_are_not() {
    everywhere(|world| async move {
        let (scratch, addresses) = addresses();
        let address = &addresses[1];
        drop(std::os::unix::net::UnixListener::bind(&scratch.0).unwrap());
        assert!(scratch.0.exists());
        let listener = world.net.listen(address).await.unwrap();
        assert!(world.net.listen(address).await.is_err());
        world.net.connect(address).await.unwrap();
        drop(listener);
        assert!(!scratch.0.exists());
    });
}

#[test]
fn reads_and_writes_of_one_connection_do_not_wait_for_each_other() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let (near, far) = pair(&world, &address).await;
            let len = 20 << 20;
            let message = pattern(len);
            let done = Cell::new(0);
            let talk = |stream: Rc<dyn Stream>| {
                let (message, done) = (message.clone(), &done);
                async move {
                    let write = stream.write(vec![message.slice(..99), message.slice(99..)]);
                    let (written, read) = join(write, read_exactly(&stream, len)).await;
                    written.unwrap();
                    assert!(read == message);
                    done.set(done.get() + 1);
                }
            };
            join(talk(near), talk(far)).await;
            assert_eq!(done.get(), 2);
        }
    });
}

#[test]
fn a_connect_that_hangs_can_be_given_up() {
    everywhere(|world| async move {
        // A listener that never accepts: when its queue is full, further connections wait.
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        let (scratch, addresses) = addresses();
        for local in [false, true] {
            let family = if local {
                AddressFamily::UNIX
            } else {
                AddressFamily::INET
            };
            let listener = socket(family, SocketType::STREAM, None).unwrap();
            let address = if local {
                let path = rustix::net::SocketAddrUnix::new(&scratch.0).unwrap();
                bind(&listener, &path).unwrap();
                addresses[1].clone()
            } else {
                let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
                bind(&listener, &any).unwrap();
                let bound = getsockname(&listener).unwrap();
                Address(std::net::SocketAddr::try_from(bound).unwrap().to_string())
            };
            listen(&listener, 0).unwrap();
            let connects = (0..10).map(|_| {
                let connect = world.net.connect(&address);
                world.timeout(Duration::from_millis(50), connect)
            });
            let results = join_all(connects).await;
            assert!(results.iter().any(Result::is_err));
            drop(results);
        }
    });
}

/// Calls are dropped at random moments, connections end under them, and nothing hangs, panics or mixes
/// up bytes: each connection carries a counting sequence.
#[test]
fn calls_dropped_at_random_mix_nothing_up() {
    everywhere(|world| async move {
        let (_scratch, addresses) = addresses();
        for address in addresses {
            let talks = (0..20).map(|_| {
                let (world, address) = (world.clone(), address.clone());
                async move { impatient_talk(&world, &address).await }
            });
            // Local sockets have one path, so their talks follow each other.
            if address.0.starts_with("unix:") {
                for talk in talks.take(5) {
                    talk.await;
                }
            } else {
                join_all(talks).await;
            }
        }
    });
}

async fn impatient_talk(world: &World, address: &Address) {
    let (near, far) = pair(world, address).await;
    let message = |from: usize, len: usize| -> Bytes {
        (from..from + len)
            .map(|index| (index % 251) as u8)
            .collect()
    };
    let patience = |world: &World| Duration::from_micros(world.rng.next_u64() % 300);
    let (mut written, mut read) = (0, 0);
    for _ in 0..100 {
        let len = (world.rng.next_u64() % 30_000) as usize + 1;
        // A write that is given up while it waits for an earlier one does not happen: none has to.
        near.write(vec![]).await.unwrap();
        let parts = message(written, len);
        let half = len / 2;
        let write = near.write(vec![parts.slice(..half), parts.slice(half..)]);
        // Whether it is given up before or after it has started, it is polled once: it will be sent.
        let write = world.timeout(patience(world), write);
        let (_, more) = join(write, world.timeout(patience(world), far.read())).await;
        written += len;
        if let Ok(more) = more {
            let more = more.unwrap();
            assert!(more == message(read, more.len()));
            read += more.len();
        }
        // Less than the sockets' buffers take, so that the one above never waits for a reader.
        while written - read > 40_000 {
            let more = far.read().await.unwrap();
            assert!(more == message(read, more.len()));
            read += more.len();
        }
    }
    let _ = world.timeout(patience(world), near.read()).await;
    // What was given up and is not handed to the kernel yet may end with an encrypted connection.
    near.write(vec![]).await.unwrap();
    if world.rng.next_u64().is_multiple_of(2) {
        near.close();
    }
    drop(near);
    while read < written {
        let more = far.read().await.unwrap();
        assert!(!more.is_empty(), "{read} of {written}");
        assert!(more == message(read, more.len()));
        read += more.len();
    }
}
