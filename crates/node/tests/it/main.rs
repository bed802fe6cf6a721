//! Whole nodes in the simulated world. One program: every further one would be linked anew.

mod accounting;
mod accounts;
mod alerts;
mod cluster;
mod collection;
mod conditions;
mod disks;
mod events;
mod figures;
mod healing;
mod kubernetes;
mod levels;
mod management;
mod outage;
mod owners;
mod protection;
mod rebuild;
mod room;
mod storm;
mod support;
mod tasks;
mod verdict;
