//! How many events a second the simulator handles: five hosts that send pages around and write them.
#![allow(
    clippy::disallowed_methods,
    reason = "measures the simulator in real time"
)]

use bytes::Bytes;
use std::time::Instant;
use world::{Buf, Duration, PAGE, World};
use world_sim::{Options, SimDisk, Simulation};

async fn serve(world: World, disk: SimDisk) {
    let disk = disk.open();
    let listener = world.net.listen(&"0.0.0.0:7".into()).await;
    let listener = listener.expect("the port is free");
    while let Ok(stream) = listener.accept().await {
        let (disk, clock) = (disk.clone(), world.clone());
        world.spawn(async move {
            let (mut received, mut writes) = (0, 0_u64);
            while let Ok(bytes) = stream.read().await {
                received += bytes.len();
                while received >= PAGE {
                    received -= PAGE;
                    let offset = clock.rng.next_u64() % 4096 * PAGE as u64;
                    let mut page = Buf::zeroed(PAGE);
                    page.fill(1);
                    let write = disk.write(offset, page.freeze());
                    let _ = clock.timeout(Duration::from_secs(1), write).await;
                    writes += 1;
                    if writes % 16 == 0 {
                        let _ = disk.flush().await;
                    }
                    let answer = vec![Bytes::from_static(b"acknowledged")];
                    if stream.write(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

async fn call(world: World, address: String) {
    world.sleep(Duration::from_millis(1)).await;
    let stream = world.net.connect(&world::Address(address)).await;
    let stream = stream.expect("the server listens");
    let page = Buf::copy_of(&[7; PAGE]).freeze();
    loop {
        stream.write(vec![page.clone()]).await.expect("friendly");
        let answer = world.timeout(Duration::from_secs(5), stream.read());
        answer.await.expect("in time").expect("friendly");
    }
}

fn main() {
    let sim = Simulation::new(1, Options::default());
    let hosts: Vec<_> = (0..5).map(|index| sim.host(&format!("h{index}"))).collect();
    for host in &hosts {
        let disk = host.add_disk("d", 16 << 20);
        host.spawn(serve(host.world(), disk));
        for peer in &hosts {
            for _ in 0..4 {
                host.spawn(call(host.world(), format!("{}:7", peer.name())));
            }
        }
    }
    let start = Instant::now();
    sim.run_for(Duration::from_millis(200));
    let seconds = start.elapsed().as_secs_f64();
    let counters = sim.counters();
    let rate = |count: u64| (count as f64 / seconds) as u64;
    println!(
        "{} events/s, {} polls/s",
        rate(counters.events),
        rate(counters.polls)
    );
    println!(
        "{} page writes/s, {seconds:.2} s",
        rate(counters.disk_writes)
    );
    println!("event hash {:016x}", sim.event_hash());
}
