//! Disks, configurations and command lines that must be refused, and what is said then.

use crate::support::{AZEKURA, Directory, Node, azekura, program, three_stores};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1 << 20;

fn format(path: &Path, cluster: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let path = path.to_str().unwrap();
    let mut words = vec!["disk", "format", "--cluster", cluster, "--store", "1"];
    words.extend_from_slice(&["--journal-size", "16MiB", "-o", "json", path]);
    words.extend_from_slice(more);
    azekura(&words)
}

fn show(path: &Path) -> Value {
    let (code, out, errors) = azekura(&["disk", "show", path.to_str().unwrap(), "-o", "json"]);
    assert_eq!(code, Some(0), "{errors}");
    let reports: Value = serde_json::from_str(&out).unwrap();
    reports[0].clone()
}

#[test]
fn real_format_makes_a_blank_file_a_store() {
    let directory = Directory::new("format");
    let disk = directory.blank("disk", 256 * MIB);
    assert_eq!(show(&disk)["content"], "blank");
    let (code, out, errors) = format(&disk, "c", &[]);
    assert_eq!(code, Some(0), "{errors}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report[0]["store"], 1);
    let shown = show(&disk);
    assert_eq!(
        (&shown["content"], &shown["cluster"]),
        (&"store".into(), &"c".into())
    );
}

#[test]
fn real_format_refuses_what_is_not_blank_until_the_words_are_typed() {
    let directory = Directory::new("refuse");
    let disk = directory.blank("disk", 256 * MIB);
    let path = disk.to_str().unwrap();
    program("mkfs.ext4", "e2fsprogs", &["-q", "-F", path]);
    let (code, _, errors) = format(&disk, "c", &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("ext4 file system"), "{errors}");
    let words = format!("erase {path}");
    assert!(
        errors.contains(&format!("--override '{words}'")),
        "{errors}"
    );
    for near in ["yes", "erase", &format!("{words} "), "erase /dev/sda"] {
        let (code, _, errors) = format(&disk, "c", &["--override", near]);
        assert_eq!(code, Some(1), "{near}");
        assert!(errors.contains("fits none of the disks"), "{errors}");
    }
    assert!(
        show(&disk)["description"]
            .as_str()
            .unwrap()
            .contains("ext4")
    );
    let (code, _, errors) = format(&disk, "c", &["--override", &words]);
    assert_eq!(code, Some(0), "{errors}");

    let (code, _, errors) = format(&disk, "other", &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("store 1 of cluster c"), "{errors}");
    let (code, _, _) = format(&disk, "other", &["--override", &words]);
    assert_eq!(code, Some(0));
    assert_eq!(show(&disk)["cluster"], "other");
}

#[test]
fn real_format_refuses_partition_tables_small_disks_and_wrong_kinds() {
    let directory = Directory::new("kinds");
    let disk = directory.blank("partitioned", 256 * MIB);
    let mut start = vec![0; 4096];
    start[510..512].copy_from_slice(&[0x55, 0xAA]);
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(&disk).unwrap(),
        &start,
        0,
    )
    .unwrap();
    let (code, _, errors) = format(&disk, "c", &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("partition table"), "{errors}");

    let small = directory.blank("small", MIB);
    let words = format!("erase {}", small.display());
    let (code, _, errors) = format(&small, "c", &["--override", &words]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("it needs at least"), "{errors}");
    let (code, _, errors) = format(&small, "c", &[]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("it needs at least") && !errors.contains("--override"),
        "{errors}"
    );
    let (code, _, errors) = format(&directory.0, "c", &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("is a directory"), "{errors}");
    let (code, _, errors) = format(&directory.path("missing"), "c", &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("does not exist"), "{errors}");
}

#[test]
fn real_format_that_is_refused_has_erased_and_made_nothing() {
    let directory = Directory::new("refused-whole");
    let disk = directory.blank("disk", 256 * MIB);
    assert_eq!(format(&disk, "c", &[]).0, Some(0));
    let (small, new) = (directory.blank("small", MIB), directory.path("new"));
    let words = |path: &Path| format!("erase {}", path.display());
    let of_disk = words(&disk);
    let small_words = words(&small);
    let paths = [small.to_str().unwrap(), new.to_str().unwrap()];
    let alias = directory.path("./new").display().to_string();
    for more in [
        // A second disk that is too small, a new one beside it, and a journal that is.
        vec![paths[0], "--override", &of_disk, "--override", &small_words],
        vec![paths[1], "--create", "1MiB", "--override", &of_disk],
        // One that is not blank beside one that would be made, and one that is named twice.
        vec![paths[1], "--create", "256MiB"],
        vec![
            paths[1],
            &alias,
            "--create",
            "256MiB",
            "--override",
            &of_disk,
        ],
        vec!["--journal-size", "1MiB", "--override", &of_disk],
    ] {
        let mut words = vec!["disk", "format", "--cluster", "d", "--store", "2"];
        words.push(disk.to_str().unwrap());
        words.extend_from_slice(&more);
        let (code, _, errors) = azekura(&words);
        assert_eq!(code, Some(1), "{errors}");
        assert_eq!(show(&disk)["cluster"], "c", "{errors}");
        assert!(!new.exists(), "{errors}");
    }
}

#[test]
fn real_node_refuses_disks_of_others_and_says_which() {
    let directory = Directory::new("others");
    let config = directory.write("node.toml", three_stores("mine"));
    let disk = directory.blank("disk-1", 256 * MIB);
    assert_eq!(format(&disk, "theirs", &[]).0, Some(0));
    let error = Node::try_start(&config).err().unwrap();
    assert!(
        error.contains("disk-1 holds store 1 of cluster theirs"),
        "{error}"
    );

    let other = directory.blank("disk-2", 256 * MIB);
    assert_eq!(format(&other, "mine", &[]).0, Some(0));
    std::fs::rename(&other, &disk).unwrap();
    let text = three_stores("mine").replace("id = 1", "id = 4");
    let config = directory.write("renumbered.toml", text);
    let error = Node::try_start(&config).err().unwrap();
    assert!(
        error.contains("but the configuration says store 4"),
        "{error}"
    );

    let text = three_stores("mine").replace("create = \"512 MiB\"\n", "");
    let config = directory.write("bare.toml", text);
    directory.blank("disk-2", 256 * MIB);
    let error = Node::try_start(&config).err().unwrap();
    assert!(
        error.contains("disk-2 is blank: prepare it with"),
        "{error}"
    );
}

#[test]
fn real_second_process_on_the_same_disks_is_refused() {
    let directory = Directory::new("twice");
    let config = directory.write("node.toml", three_stores("twice"));
    let node = Node::start(&config);
    let error = Node::try_start(&config).err().unwrap();
    assert!(error.contains("use"), "{error}");
    let text = three_stores("twice").replace("catalog.redb", "another.redb");
    let error = Node::try_start(&directory.write("second.toml", text))
        .err()
        .unwrap();
    assert!(error.contains("disk-1 is in use by"), "{error}");
    let (code, _, errors) = format(&directory.path("disk-1"), "twice", &[]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("in use by"), "{errors}");
    node.stop();
}

#[test]
fn real_bad_configuration_is_named_by_file_line_and_key() {
    let directory = Directory::new("config");
    let text = three_stores("c").replace("nbd =", "ndb =");
    let config = directory.write("node.toml", text);
    let (code, _, errors) = azekura(&["node", "--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("node.toml:4: ndb: unknown field `ndb`"),
        "{errors}"
    );
}

#[test]
fn real_low_limit_on_open_files_is_explained() {
    let directory = Directory::new("files");
    let config = directory.write("node.toml", three_stores("c"));
    let script = format!(
        "ulimit -n 256; exec {AZEKURA} node --config {}",
        config.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("256 open files are allowed but 4096 are needed"),
        "{errors}"
    );
    assert!(!directory.path("disk-1").exists());
}

#[test]
fn real_address_in_use_and_absent_api_are_explained() {
    let directory = Directory::new("address");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = three_stores("c").replace("api = \"127.0.0.1:0\"", &format!("api = \"{address}\""));
    let error = Node::try_start(&directory.write("node.toml", text))
        .err()
        .unwrap();
    assert!(
        error.contains(&format!("cannot listen for the API on {address}")),
        "{error}"
    );
    drop(taken);
    let url = format!("http://{address}");
    let (code, out, errors) = azekura(&["status", "--api", &url]);
    assert_eq!((code, out.as_str()), (Some(6), ""));
    assert!(errors.contains("is a node running there?"), "{errors}");
    assert_eq!(azekura(&["volume", "create"]).0, Some(2));
}
