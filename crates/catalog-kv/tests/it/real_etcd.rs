//! The etcd backend against Debian's etcd: conformance, and members that die, hang and come back.
#![cfg(feature = "etcd")]

use crate::support::block_on;
use crate::support::conformance::{self, collect, commit};
use crate::support::etcd::{Etcd, connect, connect_within};
use catalog::kv::{Change, Kv, KvError, Op, Outcome, Revision};
use catalog_kv::etcd::{EtcdChange, EtcdKv, EtcdOptions};
use std::rc::Rc;
use world::{Duration, World};

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.to_owned(), value.as_bytes().to_vec())
}

/// Commits once the cluster works again. The same change may be made twice.
async fn commit_at_last(kv: &EtcdKv, world: &World, change: Op) -> Revision {
    for _ in 0..300 {
        match kv.txn(vec![], vec![change.clone()]).await {
            Ok(Outcome::Committed(revision)) => return revision,
            Err(KvError::Unavailable(_)) => world.sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
    }
    panic!("etcd does not come back");
}

fn values(changes: &[Change]) -> Vec<String> {
    let value = |change: &Change| match change {
        Change::Put(entry) => String::from_utf8(entry.value.clone()).unwrap(),
        Change::Deleted { key, .. } => format!("deleted {key}"),
    };
    let mut values: Vec<String> = changes.iter().map(value).collect();
    values.dedup();
    values
}

#[test]
fn real_etcd_conforms() {
    block_on(|world| async move {
        let etcd = Etcd::start("conforms", 1);
        let kv = etcd.connect(&world).await;
        let status = kv.status().await.expect("it has a leader");
        assert_eq!(status.leader, status.member);
        assert!(status.version.starts_with("3."), "{status:?}");
        conformance::run(Rc::new(kv), world).await;
    });
}

#[test]
fn real_etcd_killed_and_restarted_keeps_watch_and_lease() {
    block_on(|world| async move {
        let mut etcd = Etcd::start("restart", 1);
        let kv = etcd.connect(&world).await;
        let lease = kv.grant(Duration::from_secs(20)).await.expect("reachable");
        let alive = Op::PutLeased("w/alive".to_owned(), b"alive".to_vec(), lease);
        let start = commit(&kv, vec![alive]).await;
        let mut watch = kv.watch("w/", start - 1);
        commit(&kv, vec![put("w/a", "1")]).await;
        assert_eq!(
            values(&collect(&mut watch, &world, 2).await),
            ["alive", "1"]
        );
        commit(&kv, vec![put("w/a", "2")]).await;

        etcd.members[0].kill();
        let failed = kv.txn(vec![], vec![put("w/a", "never")]).await;
        assert!(matches!(failed, Err(KvError::Unavailable(_))), "{failed:?}");
        assert!(matches!(
            kv.renew(lease).await,
            Err(KvError::Unavailable(_))
        ));
        assert!(matches!(kv.get("w/a").await, Err(KvError::Unavailable(_))));
        etcd.members[0].start();

        commit_at_last(&kv, &world, put("w/a", "3")).await;
        kv.renew(lease).await.expect("restarts do not end leases");
        let mut seen = Vec::new();
        while seen.last().map(String::as_str) != Some("3") {
            seen.extend(values(&collect(&mut watch, &world, 1).await));
        }
        seen.dedup();
        assert_eq!(seen, ["2", "3"], "nothing is lost and nothing invented");
        kv.revoke(lease).await.expect("reachable");
        let gone = values(&collect(&mut watch, &world, 1).await);
        assert_eq!(gone, ["deleted w/alive"]);
    });
}

#[test]
fn real_etcd_says_which_members_answer_also_without_a_majority() {
    block_on(|world| async move {
        let mut etcd = Etcd::start("members", 3);
        // It is told of one endpoint only: the others are found by what they tell of themselves.
        let kv = connect(vec![etcd.endpoints()[0].clone()]);
        crate::support::etcd::wait_for_leader(&kv, &world).await;
        let mut seen = Vec::new();
        for lost in 0..3 {
            if lost > 0 {
                etcd.members[lost].kill();
            }
            for _ in 0..100 {
                let members = kv.members().await.expect("one answers");
                assert_eq!((members.embedded, members.members.len()), (false, 3));
                let tolerates = members.tolerates();
                if seen.last() != Some(&tolerates) {
                    seen.push(tolerates);
                }
                // Without a majority the one that is left knows no leader, and does not count.
                let expected = [Some(1), Some(0), None][lost];
                if tolerates == expected {
                    break;
                }
                world.sleep(Duration::from_millis(100)).await;
            }
        }
        assert_eq!(seen.last(), Some(&None));
        assert!(
            seen.contains(&Some(1)) && seen.contains(&Some(0)),
            "{seen:?}"
        );
        etcd.members[0].kill();
        assert!(matches!(kv.members().await, Err(KvError::Unavailable(_))));
    });
}

#[test]
fn real_etcd_cluster_survives_the_loss_of_any_member() {
    block_on(|world| async move {
        let mut etcd = Etcd::start("cluster", 3);
        let kv = etcd.connect(&world).await;
        let start = commit_at_last(&kv, &world, put("w/a", "start")).await;
        let mut watch = kv.watch("w/", start);
        let mut expected = Vec::new();
        for lost in 0..3 {
            etcd.members[lost].kill();
            let value = format!("without {lost}");
            commit_at_last(&kv, &world, put("w/a", &value)).await;
            expected.push(value);
            etcd.members[lost].start();
            // A member that has caught up again carries the majority when the next one goes.
            let own = connect(vec![etcd.endpoints()[lost].clone()]);
            crate::support::etcd::wait_for_leader(&own, &world).await;
        }
        let mut seen = Vec::new();
        while seen.last() != expected.last() {
            seen.extend(values(&collect(&mut watch, &world, 1).await));
            seen.dedup();
        }
        assert_eq!(seen, expected);
    });
}

#[test]
fn real_etcd_is_found_behind_dead_and_silent_endpoints() {
    block_on(|world| async move {
        let etcd = Etcd::start("endpoints", 1);
        drop(etcd.connect(&world).await);
        // Nothing listens on a port that only root could have opened for a service nobody runs.
        let dead = "127.0.0.1:1".to_owned();
        let live = etcd.endpoints().remove(0);
        let kv = connect(vec![dead, live.clone()]);
        let outcome = kv.txn(vec![], vec![put("a", "1")]).await;
        assert!(
            matches!(outcome, Ok(Outcome::Committed(_))),
            "refused connections are tried elsewhere: {outcome:?}"
        );

        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let kv = connect(vec![address.clone(), live.clone()]);
        assert!(kv.get("a").await.expect("reads are repeated").is_some());
        let kv = connect_within(vec![address, live], Duration::from_secs(1));
        let outcome = kv.txn(vec![], vec![put("a", "2")]).await;
        assert!(
            matches!(outcome, Err(KvError::Unavailable(_))),
            "{outcome:?}"
        );
        commit_at_last(&kv, &world, put("a", "3")).await;
        let mut watch = kv.watch("a", 0);
        assert_eq!(values(&collect(&mut watch, &world, 2).await), ["1", "3"]);
    });
}

#[test]
fn real_etcd_that_hangs_is_noticed_and_the_watch_goes_on() {
    use rustix::process::Signal;
    block_on(|world| async move {
        let etcd = Etcd::start("hangs", 3);
        drop(etcd.connect(&world).await);
        let kv = connect_within(etcd.endpoints(), Duration::from_secs(3));
        let start = commit_at_last(&kv, &world, put("w/a", "0")).await;
        let mut watch = kv.watch("w/", start);
        commit_at_last(&kv, &world, put("w/a", "1")).await;
        assert_eq!(values(&collect(&mut watch, &world, 1).await), ["1"]);
        for hung in 0..3 {
            etcd.members[hung].signal(Signal::STOP);
            let value = format!("without {hung}");
            commit_at_last(&kv, &world, put("w/a", &value)).await;
            let mut seen = Vec::new();
            while seen.last() != Some(&value) {
                seen = values(&collect(&mut watch, &world, 1).await);
            }
            etcd.members[hung].signal(Signal::CONT);
            let own = connect(vec![etcd.endpoints()[hung].clone()]);
            crate::support::etcd::wait_for_leader(&own, &world).await;
        }
    });
}

#[test]
fn real_etcd_compaction_ends_watches_that_lag() {
    block_on(|world| async move {
        let etcd = Etcd::start("compaction", 1);
        let kv = etcd.connect(&world).await;
        let first = commit(&kv, vec![put("a", "1")]).await;
        let second = commit(&kv, vec![put("a", "2")]).await;
        kv.compact(second).await.expect("reachable");
        kv.compact(second).await.expect("done already");
        let mut late = kv.watch("a", first - 1);
        for _ in 0..2 {
            let ended = late.next().await;
            assert_eq!(ended, Err(KvError::Compacted(first - 1)));
        }
        let mut current = kv.watch("a", second - 1);
        assert_eq!(values(&collect(&mut current, &world, 1).await), ["2"]);
    });
}

#[test]
fn real_etcd_namespaces_are_apart() {
    block_on(|world| async move {
        let etcd = Etcd::start("namespaces", 1);
        let ours = etcd.connect(&world).await;
        let theirs = EtcdKv::connect(EtcdOptions {
            endpoints: etcd.endpoints(),
            namespace: "test0".to_owned(),
            ..EtcdOptions::default()
        });
        let theirs = theirs.expect("a good address");
        let mut watch = ours.watch("", 0);
        commit(&theirs, vec![put("a", "theirs")]).await;
        assert_eq!(ours.get("a").await, Ok(None));
        assert!(
            ours.range("", None, 10)
                .await
                .expect("reachable")
                .entries
                .is_empty()
        );
        commit(&ours, vec![put("a", "ours")]).await;
        assert_eq!(values(&collect(&mut watch, &world, 1).await), ["ours"]);
        let page = theirs.range("", None, 10).await.expect("reachable");
        assert_eq!(page.entries.len(), 1);
        assert_eq!(page.entries[0].value, b"theirs");
    });
}

/// Waits until the members are as they should be.
async fn wait_for_members(
    kv: &EtcdKv,
    world: &World,
    what: &str,
    good: impl Fn(&catalog::kv::KvMembers) -> bool,
) -> catalog::kv::KvMembers {
    let mut last = None;
    for _ in 0..300 {
        match kv.members().await {
            Ok(members) if good(&members) => return members,
            other => last = Some(other),
        }
        world.sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: {last:?}");
}

/// Changes the members once etcd lets it: a learner catches up first, and nobody leaves before the others have seen each
/// other for a few seconds.
async fn change_at_last(kv: &EtcdKv, world: &World, change: &EtcdChange) {
    let mut changed = kv.change(change.clone()).await;
    for _ in 0..200 {
        if changed.is_ok() {
            break;
        }
        world.sleep(Duration::from_millis(100)).await;
        changed = kv.change(change.clone()).await;
    }
    changed.expect("etcd lets it within 20 s");
}

#[test]
fn real_etcd_gets_and_loses_members_while_it_is_used() {
    block_on(|world| async move {
        let mut etcd = Etcd::start("changes", 1);
        let kv = etcd.connect(&world).await;
        let start = commit_at_last(&kv, &world, put("w/a", "0")).await;
        let peer = etcd.prepare("m1");
        let add = EtcdChange::Add { peer: peer.clone() };
        kv.change(add.clone()).await.expect("it has a majority");
        kv.change(add).await.expect("done already");
        let members = kv.members().await.expect("it answers");
        assert_eq!((members.members.len(), members.learners.len()), (1, 1));
        let learner = &members.learners[0];
        assert!(!learner.started && learner.problem.is_some(), "{learner:?}");
        assert_eq!(learner.peers, [peer]);
        let promote = EtcdChange::Promote { member: learner.id };
        let early = kv.change(promote.clone()).await;
        assert!(early.is_err(), "it has not caught up: {early:?}");
        etcd.members[1].start();
        let caught_up = |members: &catalog::kv::KvMembers| {
            let learner = members.learners.first();
            learner.is_some_and(|learner| learner.problem.is_none() && learner.started)
        };
        wait_for_members(&kv, &world, "the learner answers", caught_up).await;
        change_at_last(&kv, &world, &promote).await;
        let both =
            |members: &catalog::kv::KvMembers| members.members.len() == 2 && members.alive() == 2;
        let members = wait_for_members(&kv, &world, "both vote", both).await;
        assert_eq!(kv.clusters().await, Ok(vec![members.cluster]));
        // Clients that knew the first one find the second, and go on when the first is none any more.
        let clients: Vec<String> = members
            .members
            .iter()
            .flat_map(|member| member.clients.clone())
            .collect();
        kv.set_endpoints(&clients).expect("good addresses");
        kv.expect_cluster(members.cluster);
        let mut watch = kv.watch("w/", start);
        let first = members.members.iter().find(|member| member.name == "m0");
        let remove = EtcdChange::Remove {
            member: first.expect("listed").id,
        };
        change_at_last(&kv, &world, &remove).await;
        commit_at_last(&kv, &world, put("w/a", "1")).await;
        // Done already. The first one may be asked, which is about to end.
        change_at_last(&kv, &world, &remove).await;
        etcd.members[0].kill();
        commit_at_last(&kv, &world, put("w/a", "2")).await;
        // Whichever is asked first: the answer of the living one is not lost behind the dead one.
        for _ in 0..2 {
            kv.change(remove.clone()).await.expect("done already");
        }
        assert_eq!(values(&collect(&mut watch, &world, 2).await), ["1", "2"]);
        let own = kv.members().await.expect("it answers").members[0].clients[0].clone();
        let defragment = EtcdChange::Defragment { client: own };
        kv.change(defragment).await.expect("it answers");
        // Whoever answers for another cluster is not believed.
        kv.expect_cluster(members.cluster ^ 1);
        let other = kv.get("w/a").await;
        let Err(KvError::Unavailable(reason)) = other else {
            panic!("{other:?}");
        };
        assert!(reason.contains("another etcd"), "{reason}");
    });
}

#[test]
fn real_etcd_with_certificates_lets_nodes_in_and_nobody_else() {
    use identity::{Authority, Credentials, KeyRequest, NODE_NAME};
    use world::{Caller, Role};
    block_on(|world| async move {
        let folder = crate::support::TempDir::new("tls");
        let authority = Authority::make("test").expect("a key");
        let credentials = |name: &str, role| {
            let hosts = ["127.0.0.1".to_owned()];
            let key = KeyRequest::make_for(&hosts).expect("a key");
            let caller = Caller::new(role, name.to_owned());
            let signed = authority.sign(&key.request, &caller, 1).expect("a request");
            let folder = folder.0.join(name);
            key.store(&folder, &signed, authority.certificate())
                .expect("a folder");
            Credentials::read(&folder).expect("credentials")
        };
        let node = credentials("node", Role::Node);
        assert_eq!(node.last().hosts, ["127.0.0.1"]);
        let client = credentials("client", Role::Client);
        assert!(client.last().hosts.is_empty(), "only nodes have addresses");
        let etcd = Etcd::start_with("tls-etcd", 1, Some(node.folder()));
        let connect = |credentials: std::sync::Arc<Credentials>| {
            let tls = catalog_kv::etcd::EtcdTls {
                shown: std::sync::Arc::new(move || credentials.current().client.clone()),
                name: NODE_NAME.to_owned(),
            };
            EtcdKv::connect(EtcdOptions {
                endpoints: etcd.endpoints(),
                namespace: "test/".to_owned(),
                timeout: Duration::from_secs(5),
                tls: Some(tls),
            })
            .expect("a good address")
        };
        let kv = connect(node.clone());
        crate::support::etcd::wait_for_leader(&kv, &world).await;
        commit(&kv, vec![put("a", "1")]).await;
        let mut watch = kv.watch("a", 0);
        assert_eq!(values(&collect(&mut watch, &world, 1).await), ["1"]);
        assert_eq!(kv.members().await.expect("it answers").alive(), 1);
        let refused = connect(client).get("a").await;
        assert!(
            matches!(refused, Err(KvError::Unavailable(_))),
            "{refused:?}"
        );
    });
}
