//! Nodes that run the cluster's etcd themselves, with real processes on loopback: it grows, its members die and are replaced,
//! fill up, move, and all of it is lost.

mod growth;
mod loss;
mod scene;
mod secured;
mod upkeep;
