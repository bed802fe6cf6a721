//! Three `azekura node` processes and a real etcd on loopback, while they are killed, stopped and restarted.
//!
//! Every fault is tried twice: under clients of an NBD gateway whose node survives, and under devices that
//! are attached to this machine. Nothing acknowledged after a flush may be lost, the order is a prefix, and
//! the longest time without an answer is printed; it is not judged, because the machine may be busy.

mod attached;
mod fio;
mod gateway;
mod load;
mod scene;
mod writer;
