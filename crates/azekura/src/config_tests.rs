//! What the configuration file's errors look like, word for word.

use crate::config::{ApiAuth, CatalogConfig, Config, DiskConfig, TlsConfig};
use proptest::prelude::*;
use proptest::sample::Index;
use std::path::{Path, PathBuf};
use std::time::Duration;

const GOOD: &str = r#"
cluster = "demo"
node = "a"
listen = "127.0.0.1:7401"

[catalog]
embedded = "catalog.redb"

[[store]]
id = 1

[[store.disk]]
path = "disk-1"
create = "4 GiB"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("etc/node.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse(GOOD).unwrap();
    let catalog = PathBuf::from("etc/catalog.redb");
    assert_eq!(config.catalog, CatalogConfig::Embedded(catalog));
    let disk = DiskConfig {
        path: PathBuf::from("etc/disk-1"),
        create: Some(4 << 30),
        buffered: false,
    };
    assert_eq!(config.stores[0].disks, [disk]);
    assert_eq!(config.tuning.lease, None);
}

#[test]
fn who_may_use_the_api_is_said_in_full() {
    let with = |table: &str| parse(&GOOD.replace("[catalog]", &format!("{table}\n\n[catalog]")));
    let token = "[api_auth]\nmode = \"token\"\nadmin_token_file = \"token\"";
    let expected = ApiAuth::Token(PathBuf::from("etc/token"));
    assert_eq!(with(token).unwrap().api_auth, expected);
    let none = with("[api_auth]\nmode = \"none\"").unwrap();
    assert_eq!(none.api_auth, ApiAuth::Open);
    assert_eq!(parse(GOOD).unwrap().api_auth, ApiAuth::Unsaid);
    let problem = with("[api_auth]\nmode = \"token\"").unwrap_err();
    assert!(problem.contains("needs `admin_token_file`"), "{problem}");
    let login = with("[login]\nadmin_password_file = \"password\"").unwrap();
    let expected = PathBuf::from("etc/password");
    assert_eq!(login.admin_password_file, Some(expected));
    let odd = with("[api_auth]\nmode = \"none\"\nadmin_token_file = \"token\"");
    assert!(odd.unwrap_err().contains("remove one of them"));
}

#[test]
fn certificates_are_in_a_folder_and_the_authority_is_a_file() {
    let with = |table: &str| parse(&GOOD.replace("[catalog]", &format!("{table}\n\n[catalog]")));
    assert_eq!(parse(GOOD).unwrap().tls, None);
    let both = with("[tls]\ncredentials = \"n1\"\nauthority = \"/ca/authority.pem\"");
    let expected = TlsConfig {
        credentials: PathBuf::from("etc/n1"),
        authority: Some(PathBuf::from("/ca/authority.pem")),
        public: None,
    };
    assert_eq!(both.unwrap().tls, Some(expected));
    let problem = with("[tls]\nauthority = \"x\"").unwrap_err();
    assert!(problem.contains("credentials"), "{problem}");
    let shown = with("[tls]\ncredentials = \"n1\"\ncertificate = \"/w/full.pem\"\nkey = \"w.key\"");
    let public = shown.unwrap().tls.and_then(|tls| tls.public);
    let expected = (PathBuf::from("/w/full.pem"), PathBuf::from("etc/w.key"));
    assert_eq!(public, Some(expected));
    let problem = with("[tls]\ncredentials = \"n1\"\ncertificate = \"c\"").unwrap_err();
    assert!(
        problem.contains("tls.certificate: needs `key`"),
        "{problem}"
    );
    let problem = with("[tls]\ncredentials = \"n1\"\nkey = \"k\"").unwrap_err();
    assert!(
        problem.contains("tls.key: needs `certificate`"),
        "{problem}"
    );
}

/// [`GOOD`] with an API and NBD, at these addresses.
fn at([listen, api, nbd]: [&str; 3]) -> String {
    let listens = format!("listen = \"{listen}\"\napi = \"{api}\"\nnbd = \"{nbd}\"");
    GOOD.replace("listen = \"127.0.0.1:7401\"", &listens)
}

#[test]
fn plain_nodes_are_on_this_machine_alone_unless_that_is_written_down() {
    const LOCAL: &str = "127.0.0.1:7401";
    let local = [
        [LOCAL, "127.3.2.1:7400", "unix:/run/azekura/nbd"],
        ["[::1]:7401", "localhost:7400", LOCAL],
        ["unix:/run/azekura/node", "[::ffff:127.0.0.1]:7400", LOCAL],
    ];
    for addresses in local {
        assert_eq!(parse(&at(addresses)).unwrap().tls, None, "{addresses:?}");
    }
    let exposed = [
        (["10.0.0.1:7401", LOCAL, LOCAL], "listen", 4),
        (["node-1:7401", LOCAL, LOCAL], "listen", 4),
        ([LOCAL, "0.0.0.0:7400", LOCAL], "api", 5),
        ([LOCAL, "[::]:7400", LOCAL], "api", 5),
        ([LOCAL, "localhost.example:7400", LOCAL], "api", 5),
        ([LOCAL, LOCAL, "0.0.0.0:10809"], "nbd", 6),
        ([LOCAL, LOCAL, "10.0.0.1:10809"], "nbd", 6),
    ];
    for (addresses, key, line) in exposed {
        let text = at(addresses);
        let problem = parse(&text).unwrap_err();
        let begins = format!("etc/node.toml:{line}: {key}: other machines can reach ");
        assert!(problem.starts_with(&begins), "{problem}");
        for way in [
            "azekura cluster init",
            "azekura node join --token",
            "`mode = \"off\"`",
        ] {
            assert!(problem.contains(way), "{problem}");
        }
        let with =
            |table: &str| parse(&text.replace("[catalog]", &format!("{table}\n\n[catalog]")));
        let off = with("[tls]\nmode = \"off\"").unwrap();
        assert_eq!(off.tls, None);
        let on = with("[tls]\nmode = \"on\"\ncredentials = \"n1\"").unwrap();
        assert!(on.tls.is_some());
    }
}

#[test]
fn a_plain_etcd_is_on_this_machine_alone_unless_that_is_written_down() {
    let with = |seat: &str, tls: &str| {
        let catalog = "etcd = [\"http://127.0.0.1:2379\"]";
        let text = GOOD.replace("embedded = \"catalog.redb\"", catalog);
        parse(&format!("{text}\n[etcd]\n{seat}\n{tls}"))
    };
    let local = "client = \"127.0.0.1:2379\"\npeer = \"127.0.0.1:2380\"";
    for seat in ["", local, &format!("{local}\nbind = \"127.0.0.1\"")] {
        assert!(with(seat, "").is_ok(), "{seat}");
    }
    let exposed = [
        "client = \"10.0.0.1:2379\"",
        "peer = \"10.0.0.1:2380\"",
        "bind = \"0.0.0.0\"",
    ];
    for seat in exposed {
        let problem = with(seat, "").unwrap_err();
        assert!(
            problem.contains(": etcd: other machines can reach "),
            "{problem}"
        );
        assert!(with(seat, "[tls]\nmode = \"off\"").is_ok(), "{seat}");
        assert!(with(seat, "[tls]\ncredentials = \"n1\"").is_ok(), "{seat}");
    }
}

#[test]
fn certificates_and_no_encryption_exclude_each_other() {
    let with = |table: &str| parse(&GOOD.replace("[catalog]", &format!("{table}\n\n[catalog]")));
    let problem = with("[tls]\nmode = \"off\"\ncredentials = \"n1\"").unwrap_err();
    assert!(problem.contains("tls: has certificates"), "{problem}");
    let problem = with("[tls]").unwrap_err();
    assert!(problem.contains("tls: needs `credentials`"), "{problem}");
    assert!(with("[tls]\nmode = \"maybe\"").is_err());
}

#[test]
fn example_file_in_the_documentation_is_valid() {
    let text = include_str!("../../../docs/operating/node.toml");
    let config = parse(text).unwrap();
    assert_eq!(config.stores.len(), 3);
    assert_eq!(config.tuning.lease, Some(Duration::from_secs(2)));
}

#[test]
fn every_key_is_documented() {
    let manual = include_str!("../../../docs/operating/configuration.md");
    for key in [
        "cluster",
        "node",
        "listen",
        "advertise",
        "nbd",
        "api",
        "mode",
        "admin_token_file",
        "credentials",
        "authority",
        "domains",
        "embedded",
        "etcd",
        "prefix",
        "client",
        "peer",
        "bind",
        "program",
        "data",
        "quota",
        "id",
        "journal",
        "path",
        "create",
        "buffered",
        "lease",
        "suspicion",
        "repair-delay",
        "scrub-interval",
        "scrub-rate",
        "tasks-kept",
        "space-warning-percent",
        "space-protect-percent",
        "groups",
        "drain",
        "undrained-max",
        "undrained-node-max",
        "map-cache",
        "collect-interval",
        "collect-percent",
        "patience",
    ] {
        assert!(
            manual.contains(&format!("| `{key}` |")),
            "{key} is not documented"
        );
    }
}

#[test]
fn etcd_catalog_has_a_prefix() {
    let text = GOOD.replace(
        "embedded = \"catalog.redb\"",
        "etcd = [\"http://127.0.0.1:2379\", \"http://[::1]:2379/\"]\nprefix = \"/test\"",
    );
    let CatalogConfig::Etcd { endpoints, prefix } = parse(&text).unwrap().catalog else {
        panic!("etcd was asked for");
    };
    assert_eq!(endpoints.len(), 2);
    assert_eq!(prefix, "/test/");
}

/// What is replaced in [`GOOD`], by what, and the error behind the file's name.
const BAD: &[(&str, &str, &str)] = &[
    (
        "cluster = \"demo\"",
        "cluster = \"de mo\"",
        "2: cluster: `de mo` is not a name: use 1 to 63 letters, digits, `-`, `_` and `.`",
    ),
    (
        "cluster = \"demo\"",
        "cluster = 7",
        "2: cluster: invalid type: integer `7`, expected a string",
    ),
    ("cluster = \"demo\"", "", "1: missing field `cluster`"),
    (
        "node = \"a\"",
        "nodes = \"a\"",
        "3: nodes: unknown field `nodes`, expected one of `cluster`, `node`, `listen`, `advertise`, `nbd`, `api`, `api_auth`, `login`, `tls`, `domains`, `state`, `history`, `catalog`, `etcd`, `store`, `tuning`",
    ),
    (
        "listen = \"127.0.0.1:7401\"",
        "listen = \"here\"",
        "4: listen: `here` is not an address: write host:port, such as 127.0.0.1:7401",
    ),
    (
        "listen = \"127.0.0.1:7401\"",
        "listen = \"h:70000\"",
        "4: listen: `h:70000` is not an address: write host:port, such as 127.0.0.1:7401",
    ),
    (
        "listen = \"127.0.0.1:7401\"",
        "listen = \"0.0.0.0:7401\"",
        "4: listen: listens on every address: say with `advertise` which one others can reach",
    ),
    (
        "embedded = \"catalog.redb\"",
        "",
        "6: catalog: needs `embedded` (a path; the cluster is this process) or `etcd` (a list of URLs)",
    ),
    (
        "embedded = \"catalog.redb\"",
        "embedded = \"c\"\netcd = [\"http://a:1\"]",
        "6: catalog: has both `embedded` and `etcd`: keep one of them",
    ),
    (
        "embedded = \"catalog.redb\"",
        "embedded = \"c\"\nprefix = \"/x\"",
        "8: catalog.prefix: goes with `etcd` only: remove it, an embedded catalog has its own file",
    ),
    (
        "embedded = \"catalog.redb\"",
        "etcd = []",
        "7: catalog.etcd: needs at least one server, such as [\"http://127.0.0.1:2379\"]",
    ),
    (
        "embedded = \"catalog.redb\"",
        "etcd = [\n  \"http://a=b:1\",\n  \"tcp://a:1\" ]",
        "7: catalog.etcd: `tcp://a:1` is not an etcd server: write http://host:port, or https:// with `tls`",
    ),
    ("id = 1", "id = 0", "10: store[0].id: counts from 1"),
    (
        "id = 1",
        "id = -1",
        "10: store[0].id: invalid value: integer `-1`, expected u32",
    ),
    ("id = 1", "", "9: store[0]: missing field `id`"),
    (
        "create = \"4 GiB\"",
        "create = \"4 GB\"",
        "14: store[0].disk[0].create: `4 GB` has no known unit: for powers of two write GiB",
    ),
    (
        "create = \"4 GiB\"",
        "create = 4",
        "14: store[0].disk[0].create: invalid type: integer `4`, expected a string",
    ),
    (
        "create = \"4 GiB\"",
        "create = \"5000\"",
        "14: store[0].disk[0].create: 5000 bytes are not a multiple of 4096",
    ),
    (
        "create = \"4 GiB\"",
        "size = \"4 GiB\"",
        "14: store[0].disk[0].size: unknown field `size`, expected one of `path`, `create`, `buffered`",
    ),
    (
        "path = \"disk-1\"",
        "path = \"/dev/sdb\"",
        "14: store[0].disk[0].create: a device is not created here: remove this key and use `azekura disk format /dev/sdb`",
    ),
    (
        "create = \"4 GiB\"",
        "[[store.disk]]\npath = \"disk-1\"",
        "15: store[0].disk[1].path: etc/disk-1 is used twice",
    ),
    (
        "create = \"4 GiB\"",
        "[[store]]\nid = 1",
        "15: store[1].id: 1 is used twice: every store of a cluster has its own id",
    ),
    (
        "create = \"4 GiB\"",
        "[[store]]\nid = 2",
        "14: store[1]: a store needs 1 to 64 disks: add [[store.disk]]",
    ),
    (
        "create = \"4 GiB\"",
        "[tuning]\nlease = \"1500ms\"",
        "15: tuning.lease: must be whole seconds",
    ),
    (
        "create = \"4 GiB\"",
        "[tuning]\nlease = \"2\"",
        "15: tuning.lease: `2` has no unit: write ms, s, m or h",
    ),
    (
        "create = \"4 GiB\"",
        "[tuning]\nlease = \"5m\"",
        "15: tuning.lease: must be 1s to 60s",
    ),
    (
        "create = \"4 GiB\"",
        "[tuning]\ndrain = \"8MiB\"\nundrained-max = \"8MiB\"",
        "16: tuning.undrained-max: must be more than `drain`",
    ),
    (
        "create = \"4 GiB\"",
        "[tuning]\ncollect-percent = 101",
        "15: tuning.collect-percent: must be 1 to 100",
    ),
    (
        "create = \"4 GiB\"",
        "[tuning]\nmap-cache = \"1\"",
        "15: tuning.map-cache: must be 1 MiB to 1 TiB",
    ),
    (
        "create = \"4 GiB\"",
        "create = \"4 GiB",
        "14: invalid basic string, expected `\"`",
    ),
    (
        "create = \"4 GiB\"",
        "create = \"4 GiB\"\ncreate = \"5 GiB\"",
        "15: create: duplicate key",
    ),
];

#[test]
fn errors_name_file_line_and_key() {
    let mut wrong = Vec::new();
    for (from, to, expected) in BAD {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD);
        let error = parse(&text).unwrap_err();
        if error != format!("etc/node.toml:{expected}") {
            wrong.push(format!("{to}\n  gives    {error}\n  expected {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn file_that_is_not_there_is_named() {
    let path = Path::new("no/such/node.toml");
    let error = Config::read(path).unwrap_err().to_string();
    assert!(
        error.starts_with("no/such/node.toml: cannot be read: No such file"),
        "{error}"
    );
}

/// A refusal must name the file and a line that the file has.
fn refused_in_place(text: &str) {
    if let Err(error) = Config::parse(Path::new("node.toml"), text) {
        let line = error.line.expect("parsing knows the place");
        assert!((1..=text.lines().count() + 1).contains(&line), "{error}");
        assert!(!error.problem.is_empty() && error.to_string().contains("node.toml"));
    }
}

#[test]
fn fuzz_corpus_of_configurations() {
    let target = fuzz::target!("configuration");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let manual = include_str!("../../../docs/operating/node.toml");
    for (name, whole) in [("good", GOOD), ("manual", manual)] {
        let committed = text(&target.sample(name, whole.as_bytes()));
        if let Err(error) = parse(&committed) {
            panic!("{name} is a configuration of an earlier release: {error}");
        }
    }
    let unknown = text(&target.sample("unknown", b"nod = \"n1\"\n"));
    assert!(parse(&unknown).is_err());
    target.play(|bytes| refused_in_place(&text(bytes)));
}

#[test]
fn fuzz_corpus_of_quantities() {
    let target = fuzz::target!("quantity");
    let samples = [
        "10GiB",
        "1.5 TiB",
        "512",
        "18446744073709551615B",
        "90s",
        "1.25h",
        "250 ms",
        "1e9",
        "-1s",
    ];
    for (index, sample) in samples.iter().enumerate() {
        let committed = target.sample(&format!("{index}"), sample.as_bytes());
        assert_eq!(committed, sample.as_bytes());
    }
    target.play(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = crate::quantity::parse_size(&text);
        let _ = crate::quantity::parse_duration(&text);
    });
}

proptest! {
    #[test]
    fn fuzz_any_text_is_a_configuration_or_an_error(text in any::<String>()) {
        refused_in_place(&text);
    }

    #[test]
    fn fuzz_changed_configurations_are_configurations_or_errors(
        changes in proptest::collection::vec((any::<Index>(), any::<char>()), 1..5),
        cut in any::<Index>(),
        (manual, shorter) in any::<(bool, bool)>(),
    ) {
        let text = if manual { include_str!("../../../docs/operating/node.toml") } else { GOOD };
        let mut characters: Vec<char> = text.chars().collect();
        for (at, with) in changes {
            let at = at.index(characters.len());
            characters[at] = with;
        }
        if shorter {
            characters.truncate(cut.index(characters.len()));
        }
        refused_in_place(&characters.into_iter().collect::<String>());
    }

    #[test]
    fn fuzz_any_text_is_a_quantity_or_an_error(text in "[0-9.]{0,25} ?[a-zA-Z\u{b5}]{0,4}", other in any::<String>()) {
        for text in [text, other] {
            let _ = crate::quantity::parse_size(&text);
            let _ = crate::quantity::parse_duration(&text);
        }
    }
}

/// The blocks named `*.toml` of the manifests, as the chart rendered them.
fn rendered() -> Vec<String> {
    let manifests = include_str!("../../../deploy/manifests/azekura.yaml");
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in manifests.lines() {
        let begins = line.starts_with("  ") && line.ends_with(".toml: |");
        let text = line.strip_prefix("    ");
        match (begins, text) {
            (true, _) => found.push(String::new()),
            (false, _) if !inside => {}
            (false, text) => {
                let last = found.last_mut().expect("inside of one");
                last.push_str(text.unwrap_or_default());
                last.push('\n');
            }
        }
        inside = begins || (inside && (text.is_some() || line.is_empty()));
    }
    found
}

#[test]
fn configurations_that_the_chart_renders_are_ones_that_nodes_take() {
    let configurations = rendered();
    assert_eq!(configurations.len(), 3, "one for each node of the example");
    for (index, text) in configurations.iter().enumerate() {
        // An init container puts the host's address there.
        let text = text.replace("@HOST_IP@", "192.0.2.7");
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config.node, format!("worker-{}", index + 1));
        assert!(matches!(&config.catalog, CatalogConfig::Etcd { .. }));
        assert_eq!(config.stores.len(), 1);
        assert!(config.tls.is_some_and(|tls| tls.authority.is_some()));
    }
}
