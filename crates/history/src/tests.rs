//! Recording and reading together, on a shelf in memory.

use crate::{
    Bounds, Bucket, Counter, Entity, Gauge, History, Kind, MemoryShelf, Name, Query, Sample, Shelf,
    Tier, WRITE_STEPS, class_of,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A moment at which a coarse block begins, and with it everything else.
const BEGIN: u64 = 1_764_115_200;
const DB: Entity = Entity::Volume(7);

/// Counts as a volume's owner does.
#[derive(Clone, Default)]
struct Volume(Sample);

impl Volume {
    fn read(&mut self, count: u64, micros: u64) {
        self.0.counters[Counter::Reads as usize] += count;
        self.0.counters[Counter::ReadMicros as usize] += count * micros;
        self.0.latency[Kind::Read as usize].0[class_of(micros)] += count;
    }

    fn space(&mut self, bytes: u64) {
        self.0.gauges[Gauge::Space as usize] = bytes;
    }

    fn now(&self) -> Vec<(Entity, Sample)> {
        vec![(DB, self.0.clone())]
    }
}

fn open(shelf: &Arc<MemoryShelf>) -> History {
    let (history, complaints) = History::open(shelf.clone(), Bounds::default());
    assert!(complaints.is_empty(), "{complaints:?}");
    history
}

fn read(history: &History, from: u64, to: u64, step: u64) -> Vec<Bucket> {
    let query = Query {
        entities: vec![DB],
        from: BEGIN + from,
        to: BEGIN + to,
        step,
    };
    let (series, complaints) = history.read(&query).expect("it makes sense");
    assert!(complaints.is_empty(), "{complaints:?}");
    series.buckets
}

fn reads(buckets: &[Bucket]) -> Vec<Option<u64>> {
    let one = |bucket: &Bucket| (bucket.seconds > 0).then_some(bucket.sum.counters[0]);
    buckets.iter().map(one).collect()
}

/// Records `steps` fine steps from `from` seconds on with ten reads each; the volume's space is the step.
fn run(history: &History, volume: &mut Volume, from: u64, steps: u64) {
    for step in 0..steps {
        volume.read(10, 100);
        volume.space(step);
        let now = BEGIN + from + (step + 1) * 15;
        history.record(now, volume.now()).unwrap();
    }
}

#[test]
fn steps_are_added_up_and_what_is_not_known_is_no_zero() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    run(&history, &mut volume, 0, 4);
    // Nothing is recorded for a minute; what happened meanwhile counts for the step that ends it.
    run(&history, &mut volume, 120, 2);
    let buckets = read(&history, 0, 240, 60);
    assert_eq!(reads(&buckets), [Some(40), None, Some(20), None]);
    assert_eq!(buckets[0].seconds, 60);
    assert_eq!(buckets[0].mean(Gauge::Space as usize), Some(1));
    assert_eq!(buckets[0].sum.gauges[Gauge::Space as usize].max, 3);
    assert_eq!(buckets[1].mean(0), None);
    assert_eq!(history.through(), Some(BEGIN + 150));
    // An idle volume is known to do nothing.
    history.record(BEGIN + 165, volume.now()).unwrap();
    assert_eq!(reads(&read(&history, 150, 165, 15)), [Some(0)]);
}

#[test]
fn a_process_that_begins_anew_is_no_negative_rate() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    run(&history, &mut volume, 0, 8);
    let history = open(&shelf);
    let mut volume = Volume::default();
    run(&history, &mut volume, 120, 2);
    assert_eq!(reads(&read(&history, 0, 240, 120)), [Some(80), Some(20)]);
}

#[test]
fn a_kill_takes_what_was_not_written_and_nothing_else() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    run(&history, &mut volume, 0, WRITE_STEPS + 3);
    let again = open(&shelf);
    assert_eq!(again.through(), Some(BEGIN + WRITE_STEPS * 15));
    // A clean stop writes the rest.
    history.write().unwrap();
    assert_eq!(open(&shelf).through(), Some(BEGIN + (WRITE_STEPS + 3) * 15));
}

#[test]
fn coarse_steps_are_sums_means_and_merged_histograms_of_fine_ones() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    // Two coarse steps and a half; in the second one of a hundred reads is slow.
    for step in 0..300 {
        volume.read(99, 100);
        volume.read(1, if step < 120 { 100 } else { 50_000 });
        volume.space(if step == 200 { 900 } else { 100 });
        history
            .record(BEGIN + (step + 1) * 15, volume.now())
            .unwrap();
    }
    let buckets = read(&history, 0, 3 * 1800, 1800);
    assert_eq!(reads(&buckets), [Some(12_000), Some(12_000), Some(6000)]);
    let seconds: Vec<u64> = buckets.iter().map(|bucket| bucket.seconds).collect();
    assert_eq!(seconds, [1800, 1800, 900]);
    let p995 = |bucket: &Bucket| bucket.sum.latency[0].quantile_us(995).unwrap();
    assert!(p995(&buckets[0]) <= 128, "{}", p995(&buckets[0]));
    assert!(p995(&buckets[1]) > 32_000, "{}", p995(&buckets[1]));
    assert_eq!(buckets[1].mean(0), Some((119 * 100 + 900) / 120));
    assert_eq!(buckets[1].sum.gauges[0].max, 900);
    // Both steps in one: from the coarse block and from the fine one.
    let hour = read(&history, 0, 7200, 3600);
    assert_eq!(reads(&hour), [Some(24_000), Some(6000)]);
    let again = open(&shelf);
    assert_eq!(
        reads(&read(&again, 0, 3600, 1800)),
        [Some(12_000), Some(12_000)]
    );
}

#[test]
fn a_coarse_step_is_made_although_the_process_ended_in_it() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    run(&history, &mut volume, 1500, 16);
    let history = open(&shelf);
    run(&history, &mut Volume::default(), 9000, 1);
    assert_eq!(reads(&read(&history, 0, 10_800, 1800))[0], Some(160));
    let names: Vec<String> = shelf
        .list()
        .unwrap()
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert!(names.contains(&format!("coarse-{BEGIN}")), "{names:?}");
}

#[test]
fn a_clock_that_goes_back_a_little_is_waited_for_and_a_lot_is_believed() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    run(&history, &mut volume, 7200, 40);
    volume.read(5, 100);
    history.record(BEGIN + 7230, volume.now()).unwrap();
    assert_eq!(history.through(), Some(BEGIN + 7800));
    history.record(BEGIN + 7815, volume.now()).unwrap();
    assert_eq!(
        reads(&read(&history, 7800, 7815, 15)),
        [Some(5)],
        "it counts for the next"
    );
    volume.read(7, 100);
    history.record(BEGIN + 3600, volume.now()).unwrap();
    assert_eq!(history.through(), Some(BEGIN + 3600));
    assert_eq!(reads(&read(&history, 3585, 3600, 15)), [Some(7)]);
    assert_eq!(reads(&read(&history, 7200, 7800, 600)), [None]);
}

#[test]
fn old_blocks_go_and_so_does_what_is_too_much() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    // Eight steps in each of 30 hours.
    for hour in 0..30 {
        run(&history, &mut volume, hour * 3600, WRITE_STEPS);
    }
    let count = |tier| {
        shelf
            .list()
            .unwrap()
            .iter()
            .filter(|(name, _)| name.tier == tier)
            .count()
    };
    assert_eq!((count(Tier::Fine), count(Tier::Coarse)), (25, 2));
    let bounds = Bounds {
        bytes_max: 1,
        ..Bounds::default()
    };
    let (history, _) = History::open(shelf.clone(), bounds);
    run(&history, &mut volume, 30 * 3600, WRITE_STEPS);
    assert_eq!(
        (count(Tier::Fine), count(Tier::Coarse)),
        (1, 1),
        "but for those being filled"
    );
}

#[test]
fn a_damaged_block_is_said_and_left_out() {
    let shelf = Arc::new(MemoryShelf::default());
    let (history, mut volume) = (open(&shelf), Volume::default());
    run(&history, &mut volume, 0, WRITE_STEPS);
    run(&history, &mut volume, 3600, WRITE_STEPS);
    let damage = |start: u64| {
        let name = Name::at(Tier::Fine, BEGIN + start);
        let mut bytes = shelf.read(name, 0, usize::MAX).unwrap().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        shelf.write(name, &bytes).unwrap();
    };
    damage(0);
    let query = Query {
        entities: vec![DB],
        from: BEGIN,
        to: BEGIN + 7200,
        step: 900,
    };
    let (series, complaints) = history.read(&query).unwrap();
    let known = reads(&series.buckets);
    assert_eq!((known[0], known[4]), (None, Some(80)));
    assert!(
        complaints[0].contains("checksum is wrong"),
        "{complaints:?}"
    );
    damage(3600);
    let (history, complaints) = History::open(shelf.clone(), Bounds::default());
    assert_eq!((complaints.len(), history.through()), (1, None));
    run(&history, &mut Volume::default(), 3600, WRITE_STEPS);
    assert_eq!(
        reads(&read(&history, 3600, 7200, 3600)),
        [Some(80)],
        "recorded anew"
    );
}

#[test]
fn a_query_that_makes_no_sense_has_no_answer() {
    let history = open(&Arc::new(MemoryShelf::default()));
    let query = |from, to, step| Query {
        entities: vec![DB],
        from,
        to,
        step,
    };
    let odd = [
        query(0, 60, 0),
        query(0, 60, 7),
        query(15, 60, 30),
        query(60, 60, 15),
        query(60, 0, 15),
        query(0, 15 * 2001, 15),
    ];
    assert!(odd.iter().all(|query| history.read(query).is_none()));
    assert_eq!(history.read(&query(0, 60, 15)).unwrap().0.buckets.len(), 4);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it measures what it costs")]
fn a_thousand_volumes_cost_little() {
    const VOLUMES: usize = 1000;
    /// One percent of a core, of each 15 s; an unoptimised build takes several times as long as a released one.
    const STEP_MAX: Duration = Duration::from_millis(150);
    let shelf = Arc::new(MemoryShelf::default());
    let history = open(&shelf);
    let mut volumes = vec![Volume::default(); VOLUMES];
    let samples = |volumes: &[Volume]| -> Vec<(Entity, Sample)> {
        let all = volumes.iter().enumerate();
        all.map(|(id, volume)| (Entity::Volume(id as u64), volume.0.clone()))
            .collect()
    };
    let mut run = |hour: u64, busy: bool| {
        let (begin, mut longest) = (Instant::now(), Duration::ZERO);
        for step in 1..=240 {
            for (id, volume) in volumes.iter_mut().enumerate().filter(|_| busy) {
                volume.read(1000 + id as u64, 90);
                volume.read(200, 300 + step);
                volume.read(3, 20_000);
            }
            let taken = samples(&volumes);
            let began = Instant::now();
            history
                .record(BEGIN + hour * 3600 + step * 15, taken)
                .unwrap();
            longest = longest.max(began.elapsed());
        }
        (begin.elapsed() / 240, longest)
    };
    let idle = run(0, false);
    let busy = run(1, true);
    history.write().unwrap();
    let size = |hour: u64| {
        let name = Name::at(Tier::Fine, BEGIN + hour * 3600);
        let blocks = shelf.list().unwrap();
        blocks.iter().find(|(one, _)| *one == name).unwrap().1
    };
    println!(
        "idle {idle:?}, {} KiB an hour; busy {busy:?}, {} KiB",
        size(0) >> 10,
        size(1) >> 10
    );
    assert!(idle.0 < STEP_MAX && busy.0 < STEP_MAX, "{idle:?} {busy:?}");
    assert!(size(0) < 64 << 10 && size(1) < 16 << 20);
    let query = Query {
        entities: (0..VOLUMES as u64).map(Entity::Volume).collect(),
        from: BEGIN,
        to: BEGIN + 7200,
        step: 60,
    };
    let began = Instant::now();
    let (series, _) = history.read(&query).unwrap();
    println!("two hours of all of them: {:?}", began.elapsed());
    let sum: u64 = reads(&series.buckets).into_iter().flatten().sum();
    let one_step: u64 = (0..VOLUMES as u64).map(|id| 1203 + id).sum();
    assert_eq!(sum, 240 * one_step);
}
