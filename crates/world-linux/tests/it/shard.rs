//! Tasks, time and other threads, with both reactors.

use crate::both::{both, on};
use futures_util::future::{join_all, pending};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Instant;
use world::{Duration, World};
use world_linux::{Io, RemoteHandle, ShardGone, StartError, run};

#[test]
fn timers_fire_in_order_and_not_early() {
    both(|world, _| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let start = world.now();
        let sleeps = [30u64, 10, 20, 0, 10].into_iter().map(|ms| {
            let (world, order) = (world.clone(), order.clone());
            async move {
                let deadline = start + Duration::from_millis(ms);
                world.clock.sleep_until(deadline).await;
                assert!(world.now() >= deadline);
                order.borrow_mut().push(ms);
            }
        });
        join_all(sleeps).await;
        assert_eq!(*order.borrow(), [0, 10, 10, 20, 30]);
        let never = world
            .timeout(Duration::from_millis(3), pending::<()>())
            .await;
        assert!(never.is_err());
        assert!(world.clock.unix_ms() > 1_700_000_000_000);
    });
}

#[test]
fn a_thousand_timers_and_dropped_ones() {
    both(|world, _| async move {
        let start = world.now();
        for _ in 0..1000 {
            let slow = world.sleep(Duration::from_secs(1000));
            assert!(futures_util::FutureExt::now_or_never(slow).is_none());
        }
        let sleeps = (0..1000).map(|us| world.sleep(Duration::from_micros(us)));
        join_all(sleeps).await;
        assert!(world.now().since(start) >= Duration::from_micros(999));
    });
}

#[test]
fn offloaded_work_runs_beside_the_shard() {
    both(|world, _| async move {
        let shard = std::thread::current().id();
        let (sender, receiver) = mpsc::channel::<u32>();
        let work = world.offload(move || {
            assert_ne!(std::thread::current().id(), shard);
            receiver.recv().unwrap()
        });
        let send = async {
            world.sleep(Duration::from_millis(1)).await;
            sender.send(5).unwrap();
        };
        let (answer, ()) = futures_util::future::join(work, send).await;
        assert_eq!(answer, 5);
        let squares = join_all((0..200u64).map(|n| world.offload(move || n * n))).await;
        assert_eq!(squares[199], 199 * 199);
    });
}

#[test]
fn random_numbers_differ() {
    both(|world, _| async move {
        let mut numbers: Vec<u64> = (0..1000).map(|_| world.rng.next_u64()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1000);
    });
}

/// State that never leaves its thread.
struct Counter {
    world: World,
    count: Cell<u64>,
    stop: world::sync::Notify,
}

/// Runs a shard on a thread of its own while `test` runs.
fn with_shard(io: Io, test: impl FnOnce(RemoteHandle<Counter>)) {
    let (sender, receiver) = mpsc::channel();
    let shard = std::thread::spawn(move || {
        run(on(io), move |world, machine| {
            Box::pin(async move {
                let stop = world::sync::Notify::default();
                let stopped = stop.notified();
                let counter = Rc::new(Counter {
                    world,
                    count: Cell::new(0),
                    stop,
                });
                sender.send(machine.remote(counter)).unwrap();
                stopped.await;
            })
        })
    });
    let handle = receiver.recv().unwrap();
    test(handle.clone());
    let stop = |counter: Rc<Counter>| {
        counter.stop.notify_all();
        Box::pin(pending()) as world::LocalBoxFuture<'static, ()>
    };
    // A call that the shard's end cuts short says so.
    assert_eq!(handle.call_blocking(stop), Err(ShardGone));
    shard.join().unwrap().unwrap();
    assert_eq!(handle.spawn(|_| Box::pin(async {})), Err(ShardGone));
    let late = handle.call_blocking(|counter| Box::pin(async move { counter.count.get() }));
    assert_eq!(late, Err(ShardGone));
}

#[test]
fn threads_call_a_sleeping_shard() {
    for io in [Io::Ring, Io::Threads] {
        with_shard(io, |handle| {
            let callers: Vec<_> = (0..8)
                .map(|_| {
                    let handle = handle.clone();
                    std::thread::spawn(move || {
                        for _ in 0..1000 {
                            let seen = handle.call_blocking(|counter| {
                                Box::pin(async move {
                                    counter.count.set(counter.count.get() + 1);
                                    counter.count.get()
                                })
                            });
                            assert!(seen.unwrap() > 0);
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            let count = |counter: Rc<Counter>| {
                Box::pin(async move { counter.count.get() }) as world::LocalBoxFuture<'static, u64>
            };
            assert_eq!(handle.call_blocking(count), Ok(8000));
            // From another executor, and calls that wait do not hold up others.
            let slow = handle.call(|counter| {
                Box::pin(async move {
                    counter.world.sleep(Duration::from_millis(20)).await;
                    counter.count.replace(7)
                })
            });
            assert_eq!(handle.call_blocking(count), Ok(8000));
            assert_eq!(block_on(slow), Ok(8000));
            assert_eq!(handle.call_blocking(count), Ok(7));
        });
    }
}

/// Another thread's executor.
fn block_on<T: 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    run(on(Io::Threads), |_, _| Box::pin(future)).unwrap()
}

#[test]
fn shards_call_each_other() {
    for io in [Io::Ring, Io::Threads] {
        with_shard(io, |first| {
            with_shard(io, |second| {
                let across = first.call(move |_| {
                    Box::pin(async move {
                        let mut sum = 0;
                        for number in 0..500u64 {
                            let call = second.call(move |_| Box::pin(async move { number }));
                            sum += call.await.unwrap();
                        }
                        sum
                    })
                });
                assert_eq!(block_on(across), Ok(499 * 500 / 2));
            });
        });
    }
}

#[test]
fn an_idle_shard_uses_no_processor_time() {
    both(|world, _| async move {
        let used = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let listener = world.net.listen(&"127.0.0.1:0".into()).await.unwrap();
        world.spawn(async move { drop(listener.accept().await) });
        let before = used();
        let start = Instant::now();
        world.sleep(Duration::from_millis(300)).await;
        assert!(start.elapsed() >= Duration::from_millis(300));
        let after = used();
        let nanos = (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec;
        assert!(nanos < 10_000_000, "{nanos} ns");
    });
}

#[test]
fn tasks_are_dropped_when_main_ends() {
    both(|world, _| async move {
        struct Guard(World);
        impl Drop for Guard {
            fn drop(&mut self) {
                // Spawning at the end is ignored.
                self.0.spawn(async { panic!("ran after the end") });
            }
        }
        let guard = Guard(world.clone());
        world.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        world.sleep(Duration::from_millis(1)).await;
    });
}

#[test]
fn a_panicking_task_ends_its_shard_cleanly() {
    for io in [Io::Ring, Io::Threads] {
        let ended = std::panic::catch_unwind(|| {
            run(on(io), |world, _| {
                Box::pin(async move {
                    let listener = world.net.listen(&"127.0.0.1:0".into()).await.unwrap();
                    let accepting = listener.accept();
                    world.spawn(async { panic!("on purpose") });
                    drop(accepting.await);
                })
            })
        });
        assert!(ended.is_err());
    }
}

/// What container runtimes do: the calling thread may not use io_uring any more.
#[allow(unsafe_code)]
fn forbid_io_uring() {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let number = libc::SYS_io_uring_setup as u32;
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, 1),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            0,
            0,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls only read their arguments; `program` and its filter outlive the second.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    assert!(done, "{}", std::io::Error::last_os_error());
}

#[test]
fn threads_take_over_where_io_uring_is_forbidden() {
    let shard = std::thread::spawn(|| {
        forbid_io_uring();
        let error = run(on(Io::Ring), |_, _| Box::pin(async {})).unwrap_err();
        assert!(matches!(error, StartError::NoRing { .. }));
        assert!(error.to_string().contains("seccomp"), "{error}");
        run(on(Io::Auto), |world, machine| {
            Box::pin(async move {
                world.sleep(Duration::from_millis(1)).await;
                (machine.io(), machine.why_threads().map(str::to_owned))
            })
        })
    });
    let (io, why) = shard.join().unwrap().unwrap();
    assert_eq!(io, Io::Threads);
    assert!(why.unwrap().contains("not permitted"));
    let auto = run(on(Io::Auto), |_, machine| {
        Box::pin(async move { machine.io() })
    });
    assert_eq!(auto.unwrap(), Io::Ring);
}
