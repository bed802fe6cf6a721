//! The real world: the `world` traits on Linux, for one shard per thread.
//!
//! [`run`] turns the calling thread into a shard: one executor and one reactor. The reactor is an
//! io_uring where the kernel grants one, else a thread pool for disks and epoll for sockets.
//!
//! Invariants
//! - An idle shard sleeps in one system call; nothing polls.
//! - Memory and descriptors given to the kernel belong to the operation table (`reactor.rs`) until the
//!   kernel has answered, also when the future that waits for them is dropped.
//! - A dropped `read` or `accept` loses nothing: the next one picks up what it had asked for. A dropped
//!   `write` happens as a whole or, when it still waited for an earlier one, not at all, unless its
//!   connection ends.
//! - When [`run`] returns no operation is under way any more.
//!
//! It does not: share a shard's state between threads ([`RemoteHandle`] runs closures on the shard
//! instead), or retry failed I/O.
//!
//! Read next: `shard.rs`, `reactor.rs`, `ring.rs`, `disk.rs`, `net.rs`, `tls.rs`.
// This crate is what the banned operating system calls are kept in.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod child;
mod clock;
pub mod disk;
mod fault;
mod holder;
mod limits;
mod memory;
mod net;
mod pool;
mod random;
mod reactor;
mod remote;
mod request;
mod ring;
mod shard;
mod socket;
mod threads;
pub mod tls;
mod wake;

pub use child::{spawn_alone, spawn_bound};
pub use fault::{Describe, Fault, listen_for_faults};
pub use limits::{TooFewFiles, boot_id, check_open_files};
pub use memory::trim_memory;
pub use remote::{RemoteHandle, ShardGone};
pub use shard::{Io, Machine, ShardOptions, StartError, run};
