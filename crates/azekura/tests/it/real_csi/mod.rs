//! The CSI driver on a real node: its two processes, called over their sockets as an orchestrator would. What makes devices
//! and mounts needs root, /dev/fuse and loop devices, and says so when it is left out.

mod container;
mod device;
pub mod driver;
mod group;
mod interruption;
mod logs;
mod metadata;
mod mounting;
mod publish;
mod requests;
mod snapshot;
mod volume;
