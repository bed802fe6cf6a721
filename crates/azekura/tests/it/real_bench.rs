//! `azekura bench` in both places where a job can run.

use crate::support::{Directory, Node, three_stores};

const JOB: [&str; 9] = [
    "bench",
    "--volume",
    "v",
    "--seconds",
    "1",
    "--depth",
    "4",
    "--span",
    "8MiB",
];

#[test]
fn real_bench_runs_through_a_client_and_in_the_owner() {
    let directory = Directory::new("bench");
    let config = directory.write("node.toml", three_stores("bench"));
    // The path of a socket has at most 107 bytes, so it is not in the folder of the build.
    let socket = std::env::temp_dir().join(format!("azekura-bench-{}", std::process::id()));
    let socket = socket.to_str().unwrap();
    let starting = Node::launch_with(&config, &["--bench-socket", socket]);
    let node = starting.ready().expect("the node starts");
    node.ask(&["container", "create", "c", "--rf", "2"]);
    node.ask(&[
        "volume",
        "create",
        "v",
        "--container",
        "c",
        "--size",
        "16MiB",
    ]);

    let run = |more: &[&str]| node.ask(&[&JOB[..], more].concat());
    let refused = |more: &[&str]| {
        let error = node.refuse(&[&JOB[..], more].concat());
        error["message"].as_str().unwrap().to_owned()
    };
    let owner = ["--through", "owner", "--socket", socket];
    let error = refused(&[&owner[..], &["--job", "randread"]].concat());
    assert!(error.contains("not served by this node"), "{error}");
    for job in ["write", "randwrite", "write-flush", "read", "randread"] {
        // The client comes first: its session makes this node the volume's owner.
        for through in [&["--through", "remote"][..], &owner] {
            let outcome = run(&[through, &["--job", job]].concat());
            let operations = outcome["operations"].as_u64().unwrap();
            assert!(operations > 0, "{job}: {outcome}");
            assert_eq!(outcome["errors"], 0, "{job}: {outcome}");
            assert_eq!(outcome["bytes"], operations * 4096);
        }
    }
    let error = refused(&["--through", "owner", "--job", "read"]);
    assert!(error.contains("--socket"), "{error}");
    let error = refused(&[&owner[..], &["--job", "read", "--compressible", "101"]].concat());
    assert!(error.contains("101 %"), "{error}");
    // The client gave its right back: the volume can go.
    node.ask(&["volume", "delete", "v"]);
    node.stop();
    let _ = std::fs::remove_file(socket);
}
