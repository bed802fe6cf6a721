use super::*;
use blockdev::MemoryDevice;
use world_sim::{Options, Simulation};

fn in_world<T: 'static>(job: impl FnOnce(World) -> LocalBoxFuture<'static, T> + 'static) -> T {
    let sim = Simulation::new(1, Options::default());
    let host = sim.host("a");
    let world = host.world();
    let slot = Rc::new(RefCell::new(None));
    let sink = slot.clone();
    host.spawn(async move {
        let value = job(world).await;
        *sink.borrow_mut() = Some(value);
    });
    assert!(sim.run_until(|| slot.borrow().is_some(), Duration::from_secs(600)));
    slot.take().expect("checked above")
}

fn on(device: &Rc<dyn BlockDevice>, spec: JobSpec) -> Result<JobReport, JobError> {
    let device = device.clone();
    in_world(move |world| Box::pin(async move { run(&world, device, spec, |_| ()).await }))
}

fn memory() -> Rc<dyn BlockDevice> {
    Rc::new(MemoryDevice::new(ByteCount::mib(4)))
}

#[test]
fn sequential_writes_fill_the_span_and_reads_check_it() {
    let device = memory();
    let write = JobSpec::new(JobKind::Write, Limit::Count(64), 5).shape(65536, 8);
    let report = on(&device, write).expect("fits");
    assert_eq!((report.operations, report.bytes), (64, 4 << 20));
    assert_eq!((report.errors, report.writes.count()), (0, 64));
    let mut read = JobSpec::new(JobKind::RandRead, Limit::Count(500), 5).shape(8192, 4);
    read.check = Check::Stamps;
    let report = on(&device, read.clone()).expect("fits");
    assert_eq!((report.operations, report.corrupt_blocks), (500, 0));
    read.seed = 6;
    let report = on(&device, read).expect("fits");
    assert_eq!(report.corrupt_blocks, 1000, "another writer's blocks");
    assert!(
        report
            .first_error
            .expect("reported")
            .contains("holds version")
    );
}

#[test]
fn a_mixed_job_honours_its_share_of_reads() {
    let spec = JobSpec::new(JobKind::Mixed { read_percent: 70 }, Limit::Count(2000), 1);
    let report = on(&memory(), spec.shape(4096, 32)).expect("fits");
    assert!((1300..1500).contains(&report.reads.count()));
    assert_eq!(report.latency().count(), 2000);
}

/// Answers after a millisecond of virtual time, and fails writes.
struct Slow(MemoryDevice, World);

impl BlockDevice for Slow {
    fn size(&self) -> ByteCount {
        self.0.size()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn read(&self, lba: Lba, blocks: u32) -> blockdev::BlockFuture<Vec<Bytes>> {
        let (read, world) = (self.0.read(lba, blocks), self.1.clone());
        Box::pin(async move {
            world.sleep(Duration::from_millis(1)).await;
            read.await
        })
    }
    fn write(&self, _: Lba, _: Vec<Bytes>, _: WriteMode) -> blockdev::BlockFuture<()> {
        Box::pin(async { Err(BlockError::Failed("broken".to_owned())) })
    }
    fn flush(&self) -> blockdev::BlockFuture<()> {
        self.0.flush()
    }
    fn unmap(&self, lba: Lba, blocks: u64) -> blockdev::BlockFuture<()> {
        self.0.unmap(lba, blocks)
    }
    fn allocation(&self, lba: Lba, n: u64) -> blockdev::BlockFuture<Vec<blockdev::Allocation>> {
        self.0.allocation(lba, n)
    }
}

#[test]
fn a_timed_job_ends_reports_progress_and_keeps_its_depth() {
    let (report, seen) = in_world(|world| {
        Box::pin(async move {
            let slow = Rc::new(Slow(MemoryDevice::new(ByteCount::mib(4)), world.clone()));
            let limit = Limit::Duration(Duration::from_secs(3));
            let spec = JobSpec::new(JobKind::Read, limit, 1).shape(4096, 4);
            let mut seen = 0;
            let report = run(&world, slow, spec, |_| seen += 1).await.expect("fits");
            (report, seen)
        })
    });
    assert!((2..=3).contains(&seen), "{seen} reports of progress");
    assert!(
        (11_000..=12_004).contains(&report.operations),
        "{}",
        report.operations
    );
    assert!(report.reads.p50() >= Duration::from_millis(1));
    assert!((report.per_second() - 4000.0).abs() < 400.0);
}

#[test]
fn a_job_gives_up_on_a_broken_device() {
    let report = in_world(|world| {
        Box::pin(async move {
            let slow = Rc::new(Slow(MemoryDevice::new(ByteCount::mib(4)), world.clone()));
            let spec = JobSpec::new(JobKind::RandWrite, Limit::Count(1 << 40), 1);
            run(&world, slow, spec, |_| ()).await.expect("fits")
        })
    });
    assert_eq!((report.errors, report.operations), (ERRORS_MAX, 0));
    assert!(report.first_error.expect("reported").contains("broken"));
}

#[test]
fn reused_payloads_are_written_without_making_new_ones() {
    let device = memory();
    let mut spec = JobSpec::new(JobKind::WriteFlush, Limit::Count(500), 3);
    spec.payload = Payload::Reused;
    let report = on(&device, spec).expect("fits");
    assert_eq!(report.operations, 500);
}

#[test]
fn impossible_specifications_are_refused() {
    let device = memory();
    let spec = JobSpec::new(JobKind::Read, Limit::Count(1), 1);
    let refuse = |spec: JobSpec| on(&device, spec).expect_err("refused");
    assert_eq!(
        refuse(spec.clone().shape(1000, 1)),
        JobError::RequestBytes(1000)
    );
    assert_eq!(refuse(spec.clone().shape(4096, 0)), JobError::Depth(0));
    let mut outside = spec.clone();
    outside.span = (Lba(1000), ByteCount::mib(1));
    assert!(matches!(refuse(outside), JobError::Span { .. }));
    let mut percent = spec;
    percent.compressible_percent = 101;
    assert_eq!(refuse(percent), JobError::Percent(101));
}
