//! What every test starts with: a cluster, volumes of two and of three copies, and who does what.

use crate::support::cluster::{Cluster, NODES, wait_until};

/// The node that is made to own the volumes.
const OWNER: usize = 1;

/// Nodes by what they do for the volumes, all different.
pub struct Scene {
    /// The processes.
    pub cluster: Cluster,
    /// Owns the volumes.
    pub owner: usize,
    /// Holds a log replica of the volume with two copies, besides the owner.
    pub replica: usize,
    /// The third one: clients use its NBD gateway.
    pub gateway: usize,
}

impl Scene {
    /// Starts the cluster and creates volumes named `{name}-2` and `{name}-3`, of two and three copies; the
    /// roles are those of the first name.
    pub fn start(test: &str, names: &[&str]) -> Self {
        let cluster = Cluster::start(test);
        let owner = cluster.node(OWNER);
        for rf in ["2", "3"] {
            owner.ask(&["container", "create", rf, "--rf", rf]);
            for name in names {
                let volume = format!("{name}-{rf}");
                let words = ["volume", "create", &volume, "--container", rf];
                owner.ask(&[&words[..], &["--size", "64MiB"]].concat());
                // The first node to open a volume owns it.
                crate::support::program("nbdinfo", "libnbd-bin", &[&owner.export(&volume)]);
                assert_eq!(cluster.owner(&volume, 0), Some(OWNER));
            }
        }
        let first = format!("{}-2", names[0]);
        // A store that was late when the log was opened is taken in within seconds.
        let mut holders = cluster.log_nodes(&first, OWNER);
        for _ in 0..100 {
            if holders.len() == 2 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
            holders = cluster.log_nodes(&first, OWNER);
        }
        assert_eq!(holders.len(), 2, "{first} has two log replicas");
        let replica = holders.into_iter().find(|holder| *holder != OWNER).unwrap();
        let gateway = (0..NODES).find(|node| ![OWNER, replica].contains(node));
        Self {
            cluster,
            owner: OWNER,
            replica,
            gateway: gateway.unwrap(),
        }
    }

    /// Waits until another node than `before` owns a volume.
    pub fn wait_for_takeover(&self, volume: &str) {
        wait_until(&format!("{volume} is taken over"), || {
            let owner = self.cluster.owner(volume, self.gateway);
            owner.is_some_and(|owner| owner != self.owner)
        });
    }
}
