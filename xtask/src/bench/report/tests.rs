use super::*;

/// Results with every kind of figure.
pub fn sample() -> Results {
    let measured = |rate: u64| Measured {
        operations: rate,
        bytes: rate * 4096,
        seconds: 1.0,
        p50_us: 10.0,
        p99_us: 20.0,
    };
    let devices = [
        ("raw", 100),
        ("rf2", 40),
        ("rf3", 10),
        ("rf2-owner", 50),
        ("rf2-remote", 30),
    ];
    let cells = JOBS.iter().flat_map(|job| {
        let cell = move |(device, rate)| Cell::new(job, device, measured(rate));
        devices.map(cell)
    });
    Results {
        machine: vec![("memory".into(), "1 GiB".into())],
        cells: cells.collect(),
        times: vec![Times {
            volume_bytes: 1 << 30,
            snapshot_ms: 3.0,
            replica_loss_ms: 700.0,
            ..Times::default()
        }],
        idle: vec![Idle {
            when: "100 idle volumes attached".into(),
            resident_mib: (100.0, 120.0),
            cpu_percent: (0.5, 1.5),
        }],
        ..Results::default()
    }
}

#[test]
fn verdicts_tell_missed_from_reached() {
    let text = markdown(&sample());
    let verdict = |figure: &str| {
        let row = text.lines().find(|line| line.contains(figure));
        let row = row.unwrap_or_else(|| panic!("no {figure} in\n{text}"));
        row.rsplit(" | ")
            .next()
            .expect("a row has cells")
            .to_owned()
    };
    assert_eq!(verdict("burst, RF2 / raw"), "reached, target missed |");
    assert_eq!(verdict("burst, RF3 / raw"), "missed |");
    assert_eq!(verdict("depth 32, RF2 / raw without NBD"), "reached |");
    assert_eq!(verdict("| snapshot |"), "target reached |");
    assert_eq!(verdict("replica lost: longest"), "reached, target missed |");
    assert_eq!(verdict("busiest node"), "target missed |");
    assert_eq!(verdict("idle node, after all jobs"), "not measured |");
}

#[test]
fn the_median_run_keeps_its_own_figures() {
    let run = |per_second: f64| Cell {
        per_second,
        p50_us: per_second * 2.0,
        ..Cell::default()
    };
    let cell = Cell::median(vec![run(3.0), run(1.0), run(2.0)]).expect("there are runs");
    assert_eq!((cell.per_second, cell.p50_us), (2.0, 4.0));
    assert_eq!(cell.runs, [3.0, 1.0, 2.0]);
    assert!(Cell::median(Vec::new()).is_none());
}

#[test]
fn results_survive_the_file() {
    let text = serde_json::to_string(&sample()).expect("plain data");
    let read: Results = serde_json::from_str(&text).expect("its own output");
    assert_eq!(markdown(&read), markdown(&sample()));
}
