//! The embedded store against the conformance suite, and through restarts.
#![cfg(feature = "embedded")]

use crate::support::{TempDir, block_on, conformance};
use catalog::kv::{Kv, KvError};
use catalog_kv::embedded::EmbeddedKv;
use std::rc::Rc;

#[test]
fn the_embedded_store_conforms() {
    let directory = TempDir::new("conforms");
    let kv = EmbeddedKv::open(directory.0.join("catalog")).expect("a new file");
    block_on(|world| conformance::run(Rc::new(kv), world));
}

#[test]
fn a_second_process_is_told_who_holds_the_file() {
    let directory = TempDir::new("locked");
    let path = directory.0.join("catalog");
    let kv = EmbeddedKv::open(&path).expect("a new file");
    let Err(KvError::Unavailable(reason)) = EmbeddedKv::open(&path).map(drop) else {
        panic!("opened twice");
    };
    let holder = format!("in use by process {} ", std::process::id());
    assert!(reason.contains(&holder), "{reason}");
    assert!(reason.contains("etcd"), "{reason}");
    drop(kv);
    EmbeddedKv::open(&path).expect("dropping the last handle unlocks the file");
}

#[test]
fn a_store_is_shared_by_shards_of_several_threads() {
    let directory = TempDir::new("threads");
    let kv = EmbeddedKv::open(directory.0.join("catalog")).expect("a new file");
    let threads = (0..4).map(|thread| {
        let kv = kv.clone();
        std::thread::spawn(move || {
            block_on(|_| async move {
                for index in 0..50 {
                    let key = format!("{thread}/{index}");
                    conformance::commit(&kv, vec![catalog::kv::Op::Put(key, vec![1])]).await;
                }
            });
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("every commit succeeds");
    }
    let page = block_on(|_| async move { kv.range("", None, 1_000).await });
    assert_eq!(page.expect("reachable").entries.len(), 200);
}
