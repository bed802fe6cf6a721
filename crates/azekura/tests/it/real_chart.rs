//! What the Helm chart runs on a storage machine before its node starts, with the capabilities that it has there: none.

use crate::support::{AZEKURA, Directory, azekura};
use identity::Authority;
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/chart/azekura/files/certificates.sh"
);

/// A machine with a storage node of the chart.
struct Machine(Directory);

impl Machine {
    fn new(test: &str) -> Self {
        let directory = Directory::new(test);
        std::fs::create_dir_all(directory.path("bin")).unwrap();
        symlink(AZEKURA, directory.path("bin/azekura")).unwrap();
        std::fs::create_dir_all(directory.path("data")).unwrap();
        Self(directory)
    }

    /// Puts an authority into the Secret, whose files nobody may write to.
    fn give(&self, authority: &Authority) {
        let given = self.0.path("given");
        let _ = std::fs::remove_file(&given);
        authority.write(&given).unwrap();
        std::fs::set_permissions(&given, std::fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// Runs the script; what it complains of when it refuses.
    fn configure(&self, adopt: &str) -> Result<(), String> {
        let bare = rustix::process::geteuid().is_root() && Path::new("/usr/bin/setpriv").exists();
        let mut command = match bare {
            true => Command::new("/usr/bin/setpriv"),
            false => Command::new("sh"),
        };
        if bare {
            command.args(["--bounding-set=-all", "--inh-caps=-all", "--", "sh"]);
        }
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.0.path("bin").display());
        command.env("PATH", path).env("NODE_NAME", "worker-1");
        command.env("ADOPT", adopt).arg(SCRIPT);
        let (given, data) = (self.0.path("given"), self.0.path("data"));
        let output = command.arg(given).arg(data).arg("/host").output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path(&format!("data/tls/{name}"))
    }

    fn authority(&self) -> String {
        let read = Authority::read(&self.file("authority.pem")).unwrap();
        read.fingerprint().to_owned()
    }

    /// Who has signed the node's certificate.
    fn signer(&self) -> String {
        let folder = self.file("node").display().to_string();
        let (_, shown, _) = azekura(&["-o", "json", "cluster", "credentials", "show", &folder]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["issuer"].as_str().unwrap().to_owned()
    }

    /// Authorities that were put aside.
    fn kept(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.file("")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut paths: Vec<PathBuf> = paths.collect();
        paths.retain(|path| name(path).starts_with("authority.before-"));
        let read = |path: &PathBuf| Authority::read(path).unwrap().fingerprint().to_owned();
        paths.iter().map(read).collect()
    }
}

#[test]
fn a_rotated_authority_takes_the_place_of_the_one_it_succeeds_which_is_kept() {
    let machine = Machine::new("chart-rotated");
    let first = Authority::make("prod").unwrap();
    machine.give(&first);
    assert_eq!(machine.configure(""), Ok(()));
    assert_eq!(machine.configure(""), Ok(()), "a restart changes nothing");
    assert_eq!(machine.authority(), first.fingerprint());
    assert_eq!(machine.signer(), first.name());
    assert_eq!(machine.kept(), Vec::<String>::new());
    let second = first.successor("prod").unwrap();
    machine.give(&second);
    assert_eq!(machine.configure(""), Ok(()));
    assert_eq!(machine.authority(), second.fingerprint());
    assert_eq!(machine.kept(), [first.fingerprint()]);
    // The node itself renews it, with the others' consent.
    assert_eq!(machine.signer(), first.name());
    assert_eq!(machine.configure(""), Ok(()));
}

#[test]
fn an_authority_that_this_node_is_not_of_is_refused_and_replaces_nothing() {
    let machine = Machine::new("chart-foreign");
    let own = Authority::make("prod").unwrap();
    machine.give(&own);
    assert_eq!(machine.configure(""), Ok(()));
    // As the Job makes one when the Secret was lost; and one that was rotated, of another cluster.
    let foreign = Authority::make("prod").unwrap();
    for given in [&foreign, &foreign.successor("prod").unwrap()] {
        machine.give(given);
        let refused = machine.configure("").unwrap_err();
        assert!(refused.contains("/host/tls/authority.pem"), "{refused}");
        assert_eq!(machine.authority(), own.fingerprint());
        assert_eq!(machine.signer(), own.name());
        assert!(machine.kept().is_empty());
    }
    machine.give(&own);
    assert_eq!(machine.configure(""), Ok(()));
    // Somebody wants the other one.
    std::fs::remove_dir_all(machine.file("node")).unwrap();
    machine.give(&foreign);
    assert_eq!(machine.configure(""), Ok(()));
    assert_eq!(machine.signer(), foreign.name());
    assert_eq!(machine.kept(), [own.fingerprint()]);
}

#[test]
fn a_node_that_ran_plain_takes_certificates_only_when_told_to() {
    let machine = Machine::new("chart-plain");
    std::fs::create_dir_all(machine.0.path("data/state")).unwrap();
    machine.give(&Authority::make("prod").unwrap());
    for adopt in ["", "false"] {
        let refused = machine.configure(adopt).unwrap_err();
        assert!(refused.contains("tls.adopt"), "{refused}");
        assert!(!machine.file("").exists());
    }
    assert_eq!(machine.configure("true"), Ok(()));
    assert_eq!(machine.configure("false"), Ok(()));
}
