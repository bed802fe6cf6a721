//! A volume as a local block device: a FUSE file system with one file, and a loop device made of it.
//!
//! It runs in a process of its own that outlives the node: after an owner is gone, the [`Backend`] finds
//! the next one, and mounted file systems go on.
//!
//! ```text
//! file system on /dev/loopN -> loop driver (direct I/O) -> NAME.mount/volume -> FUSE
//!   -> filesystem.rs (one thread) -> Backend -> service.rs (the device's shard) -> BlockDevice
//! ```
//!
//! Invariants
//! - A write is acknowledged to the kernel after the device has acknowledged it; a flush of the loop device is
//!   a flush of the device. Nothing is cached here.
//! - Everything that exists is named in the run directory before it exists (`state.rs`), so that what a
//!   killed process leaves behind can be cleaned up: by its guard (`guard.rs`), else by the next attach or detach of the name.
//! - A device that is in use is never taken away by request.
//!
//! How it fails: errors of the device become EIO, ENOSPC or EROFS. A killed process makes them of all
//! requests, until whoever uses the device lets go of it.
//!
//! Read next: `attachment.rs`, `filesystem.rs`, `service.rs`; docs/operating/attach.md.
// This crate talks to the kernel: threads and real time are its work.
#![allow(clippy::disallowed_methods)]

mod attachment;
mod backend;
mod filesystem;
mod guard;
mod loop_device;
mod process;
mod service;
mod state;

pub use attachment::{
    AttachError, AttachOptions, Attached, Detached, RUN_DIR, Reserved, attach, detach, refresh,
    reserve,
};
pub use backend::{Answer, Backend, Command, Reply, Request, ShardBackend, StartError, ask};
pub use guard::stand_guard;
pub use loop_device::{BackingFile, LoopError};
pub use process::{Signals, Told, protect};
pub use service::Service;
pub use state::{BadName, Found, Listed, State, find, list};
