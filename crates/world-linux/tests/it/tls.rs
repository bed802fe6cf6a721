//! Encrypted connections: who is let in, and what becomes of those who are not.

use crate::both::both;
use crate::members::Cluster;
use bytes::Bytes;
use futures_util::future::{join, join_all};
use identity::{Authority, Credentials};
use std::rc::Rc;
use std::sync::Arc;
use world::{Address, Caller, Duration, NetError, Role, Stream, World};
use world_linux::tls::{HANDSHAKES_MAX, encrypt};

const ANY: &str = "127.0.0.1:0";

/// Accepts with `server`, calls with `client`: what the client sees, and whom the server saw within a moment.
async fn meet(
    world: &World,
    server: Arc<Credentials>,
    client: Arc<Credentials>,
) -> (Result<(), NetError>, Option<Caller>) {
    let listening = encrypt(world, server).net.listen(&Address::from(ANY)).await;
    let listener = listening.unwrap();
    let address = listener.address();
    let calling = async {
        let stream = encrypt(world, client).net.connect(&address).await?;
        assert_eq!(
            stream.caller().unwrap().role,
            Role::Node,
            "only a node answers"
        );
        // TLS 1.3: the one who calls learns by the first read that he was refused.
        match world
            .timeout(Duration::from_millis(300), stream.read())
            .await
        {
            Ok(Err(refused)) => Err(refused),
            Ok(Ok(end)) => panic!("{end:?}"),
            Err(_) => Ok(()),
        }
    };
    let accepting = world.timeout(Duration::from_millis(300), listener.accept());
    let (called, accepted) = join(calling, accepting).await;
    let caller = accepted
        .ok()
        .map(|stream| stream.unwrap().caller().unwrap());
    (called, caller)
}

#[test]
fn members_and_clients_of_the_cluster_are_let_in_and_known() {
    both(|world, _| async move {
        let cluster = Cluster::new("in");
        for role in Role::ALL {
            let (called, seen) = meet(&world, cluster.node("n1"), cluster.client(role, "x")).await;
            assert_eq!(called, Ok(()));
            assert_eq!(seen, Some(Caller::new(role, "x".to_owned())));
        }
    });
}

#[test]
fn certificates_of_another_cluster_are_refused_with_the_reason() {
    both(|world, _| async move {
        let (cluster, other) = (Cluster::new("ours"), Cluster::new("theirs"));
        let (called, seen) = meet(&world, cluster.node("n1"), other.node("n2")).await;
        let Err(NetError::Untrusted { reason, .. }) = called else {
            panic!("{called:?}")
        };
        assert!(reason.contains("of another cluster"), "{reason}");
        assert_eq!(seen, None);
        // One that knows our authority without being known to it.
        let liar = cluster.signed_by(&other.authority, Role::Node, "n3", 1);
        let (called, seen) = meet(&world, cluster.node("n1"), liar).await;
        let text = called.unwrap_err().to_string();
        assert!(text.contains("does not believe our certificate"), "{text}");
        assert_eq!(seen, None);
    });
}

#[test]
fn expired_certificates_are_refused_on_both_sides() {
    both(|world, _| async move {
        let cluster = Cluster::new("expired");
        let late = cluster.signed_by(&cluster.authority, Role::Node, "late", 0);
        world.sleep(Duration::from_millis(1100)).await;
        let (called, seen) = meet(&world, cluster.node("n1"), late.clone()).await;
        let text = called.unwrap_err().to_string();
        assert!(text.contains("our certificate has expired"), "{text}");
        assert_eq!(seen, None);
        let (called, _) = meet(&world, late, cluster.node("n1")).await;
        let text = called.unwrap_err().to_string();
        assert!(text.contains("its certificate has expired"), "{text}");
    });
}

#[test]
fn a_client_that_plays_a_node_is_found_out() {
    both(|world, _| async move {
        let cluster = Cluster::new("role");
        let fake = cluster.client(Role::Client, "fake");
        let (called, _) = meet(&world, fake, cluster.node("n1")).await;
        let text = called.unwrap_err().to_string();
        assert!(
            text.contains("not that of a node") || text.contains("another role"),
            "{text}"
        );
    });
}

#[test]
fn plain_and_encrypted_ends_do_not_meet() {
    both(|world, _| async move {
        let cluster = Cluster::new("plain");
        let safe = encrypt(&world, cluster.node("n1"));
        // A plain caller at an encrypted port: nobody is handed out, and he learns that it is over.
        let listener = safe.net.listen(&Address::from(ANY)).await.unwrap();
        let bare = world.net.connect(&listener.address()).await.unwrap();
        bare.write(vec![Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")])
            .await
            .unwrap();
        let accept = world.timeout(Duration::from_millis(200), listener.accept());
        let (accepted, alert) = join(accept, bare.read()).await;
        assert!(accepted.is_err());
        assert_eq!(alert.unwrap()[0], 21, "an alert record");
        // An encrypted caller at a plain port that answers, and at one that hangs up.
        for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
            let listener = world.net.listen(&Address::from(ANY)).await.unwrap();
            let address = listener.address();
            let accept = async {
                let stream = listener.accept().await.unwrap();
                assert!(!stream.read().await.unwrap().is_empty());
                let _ = stream.write(vec![Bytes::from(answer)]).await;
                stream.close();
            };
            let ((), called) = join(accept, safe.net.connect(&address)).await;
            let text = called.err().unwrap().to_string();
            assert!(text.contains("does that side encrypt, too"), "{text}");
        }
        // What is not of the cluster goes by a door of its own.
        let door = safe.net.listen_plain(&Address::from(ANY)).await.unwrap();
        let (near, far) = join(world.net.connect(&door.address()), door.accept()).await;
        near.unwrap()
            .write(vec![Bytes::from_static(b"x")])
            .await
            .unwrap();
        let far = far.unwrap();
        assert_eq!(far.read().await.unwrap(), "x");
        assert_eq!(far.caller(), None);
    });
}

/// Carries bytes between two streams until `bytes` went to the server.
async fn relay(near: Rc<dyn Stream>, far: Rc<dyn Stream>, mut bytes: usize) {
    let back = async {
        while let Ok(chunk) = far.read().await {
            if chunk.is_empty() || near.write(vec![chunk]).await.is_err() {
                break;
            }
        }
    };
    let forth = async {
        while bytes > 0 {
            let Ok(mut chunk) = near.read().await else {
                break;
            };
            chunk.truncate(bytes);
            bytes -= chunk.len();
            if chunk.is_empty() || far.write(vec![chunk]).await.is_err() {
                break;
            }
        }
        far.close();
        near.close();
    };
    join(back, forth).await;
}

#[test]
fn a_handshake_that_is_cut_anywhere_ends_both_sides() {
    both(|world, _| async move {
        let cluster = Cluster::new("cut");
        let safe = encrypt(&world, cluster.node("n1"));
        let listener = safe.net.listen(&Address::from(ANY)).await.unwrap();
        // A hello has about 250 bytes, the client's part some 2,300.
        for bytes in [0, 1, 5, 100, 240, 300, 700, 1200] {
            let between = world.net.listen(&Address::from(ANY)).await.unwrap();
            let middle = between.address();
            let carry = async {
                let near = between.accept().await.unwrap();
                let far = world.net.connect(&listener.address()).await.unwrap();
                relay(near, far, bytes).await;
            };
            let call = async {
                let stream = safe.net.connect(&middle).await?;
                stream.read().await
            };
            let ((), called) = join(carry, call).await;
            assert!(
                called.is_err() || called == Ok(Bytes::new()),
                "{bytes}: {called:?}"
            );
            let accept = world.timeout(Duration::from_millis(50), listener.accept());
            assert!(accept.await.is_err(), "handed out after {bytes} bytes");
        }
    });
}

#[test]
fn callers_that_do_nothing_keep_nobody_out_and_are_let_go() {
    both(|world, _| async move {
        let cluster = Cluster::new("slow");
        let safe = encrypt(&world, cluster.node("n1"));
        let listener = safe.net.listen(&Address::from(ANY)).await.unwrap();
        let address = listener.address();
        let idle = (0..HANDSHAKES_MAX + 20).map(|_| world.net.connect(&address));
        let idle: Vec<_> = join_all(idle)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let (called, accepted) = join(safe.net.connect(&address), listener.accept()).await;
        assert!(called.is_ok() && accepted.is_ok());
        // The oldest were given up at once, the others after their time.
        let waited = world.now();
        for stream in &idle {
            assert!(stream.read().await.map_or(true, |end| end.is_empty()));
        }
        let waited = world.now().since(waited);
        assert!(waited < Duration::from_secs(8), "{waited:?}");
    });
}

#[test]
fn a_changed_byte_ends_the_connection() {
    both(|world, _| async move {
        let cluster = Cluster::new("changed");
        let safe = encrypt(&world, cluster.node("n1"));
        let listener = safe.net.listen(&Address::from(ANY)).await.unwrap();
        let between = world.net.listen(&Address::from(ANY)).await.unwrap();
        let middle = between.address();
        let server = listener.address();
        let bare = world.clone();
        world.spawn(async move {
            let near = between.accept().await.unwrap();
            let far = bare.net.connect(&server).await.unwrap();
            let (reader, writer) = (far.clone(), near.clone());
            bare.spawn(async move {
                while let Ok(chunk) = reader.read().await {
                    if chunk.is_empty() || writer.write(vec![chunk]).await.is_err() {
                        break;
                    }
                }
            });
            while let Ok(chunk) = near.read().await {
                let mut chunk = chunk.to_vec();
                // Only the message below is as long.
                if chunk.len() > 8_000 {
                    chunk[7_000] ^= 1;
                }
                if chunk.is_empty() || far.write(vec![chunk.into()]).await.is_err() {
                    break;
                }
            }
        });
        let (near, far) = join(safe.net.connect(&middle), listener.accept()).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        near.write(vec![Bytes::from(vec![7; 9_000])]).await.unwrap();
        let read = far.read().await;
        assert!(matches!(read, Err(NetError::Lost(_))), "{read:?}");
        assert!(far.read().await.is_err(), "and stays ended");
    });
}

#[test]
fn no_other_version_of_tls_and_no_resumption_are_on_offer() {
    let cluster = Cluster::new("version");
    let loaded = cluster.node("n1").current();
    assert_eq!(
        loaded.server.send_tls13_tickets, 0,
        "nothing to resume with"
    );
    assert!(!loaded.server.session_storage.can_cache());
    // The protocol has no renegotiation (RFC 8446, 4.1.2); a hello inside of a connection ends it.
    let mut near = loaded.call().unwrap();
    let mut far = loaded.answer().unwrap();
    let mut hello = Vec::new();
    near.write_tls(&mut hello).unwrap();
    far.read_tls(&mut &hello[..]).unwrap();
    far.process_new_packets().unwrap();
    far.read_tls(&mut &hello[..]).unwrap();
    assert!(far.process_new_packets().is_err());
}

#[test]
fn a_successor_is_believed_across_a_connection_by_those_who_know_its_predecessor() {
    both(|world, _| async move {
        let cluster = Cluster::new("successor");
        let new = cluster.authority.successor("test").unwrap();
        let old_client = cluster.client(Role::Client, "h1");
        let node = cluster.signed_by(&new, Role::Node, "n1", 1);
        let (called, seen) = meet(&world, node, old_client).await;
        assert_eq!(called, Ok(()));
        assert!(seen.is_some());
        let _: Authority = new;
    });
}

#[test]
fn an_open_connection_is_doubted_when_its_authority_is_believed_no_more() {
    both(|world, _| async move {
        let cluster = Cluster::new("doubt");
        let (server, client) = (cluster.node("n1"), cluster.client(Role::Client, "x"));
        let listening = encrypt(&world, server.clone())
            .net
            .listen(&Address::from(ANY))
            .await;
        let listener = listening.unwrap();
        let address = listener.address();
        let world = encrypt(&world, client);
        let (called, accepted) = join(world.net.connect(&address), listener.accept()).await;
        let (near, far) = (called.unwrap(), accepted.unwrap());
        assert!(near.is_believed() && far.is_believed());
        let other = Authority::make("test").unwrap();
        let authorities = server.folder().join(identity::AUTHORITIES_FILE);
        identity::write_public(&authorities, other.certificate()).unwrap();
        server.current();
        assert!(!far.is_believed());
        assert!(
            near.is_believed(),
            "whom one called oneself is looked at when one calls again"
        );
    });
}
