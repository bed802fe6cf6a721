//! What a snapshot holds and what differs from an older one, as streams.

use super::driver::{Driver, wait_for_socket};
use super::requests::*;
use crate::support::AZEKURA;
use crate::support::nbd::Client;
use crate::support::process::Process;
use csi::v1::snapshot_metadata_client::SnapshotMetadataClient;
use csi::v1::*;
use std::process::{Command, Stdio};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// A range: first byte, bytes.
type Range = (i64, i64);

/// A stream's messages are of two types with the same fields.
trait Message {
    fn parts(self) -> (i32, i64, Vec<BlockMetadata>);
}

impl Message for GetMetadataAllocatedResponse {
    fn parts(self) -> (i32, i64, Vec<BlockMetadata>) {
        (
            self.block_metadata_type,
            self.volume_capacity_bytes,
            self.block_metadata,
        )
    }
}

impl Message for GetMetadataDeltaResponse {
    fn parts(self) -> (i32, i64, Vec<BlockMetadata>) {
        (
            self.block_metadata_type,
            self.volume_capacity_bytes,
            self.block_metadata,
        )
    }
}

/// A plugin that tells metadata, and how it does.
struct Teller<'a> {
    driver: &'a Driver,
    client: SnapshotMetadataClient<Channel>,
    style: BlockMetadataType,
}

impl Teller<'_> {
    /// Reads a stream to its end, and checks what holds of any stream.
    async fn read<T: Message>(
        &self,
        mut stream: Streaming<T>,
        ranges_max: usize,
    ) -> Result<Vec<Range>, Status> {
        let (mut all, mut end) = (Vec::new(), 0);
        while let Some(message) = stream.message().await? {
            let (style, capacity, ranges) = message.parts();
            assert_eq!((style, capacity), (self.style.into(), 8 * MIB));
            assert!((1..=ranges_max).contains(&ranges.len()), "{ranges:?}");
            for range in ranges {
                assert!(
                    range.byte_offset >= end && range.size_bytes > 0,
                    "{range:?}"
                );
                end = range.byte_offset + range.size_bytes;
                all.push((range.byte_offset, range.size_bytes));
            }
        }
        Ok(all)
    }

    fn allocated(&self, snapshot: &str, offset: i64, ranges: i32) -> Result<Vec<Range>, Status> {
        let request = GetMetadataAllocatedRequest {
            snapshot_id: snapshot.to_owned(),
            starting_offset: offset,
            max_results: ranges,
            secrets: secrets(),
        };
        let mut client = self.client.clone();
        self.driver.block_on(async {
            let stream = client.get_metadata_allocated(request).await?.into_inner();
            self.read(stream, usize::try_from(ranges).unwrap_or(1))
                .await
        })
    }

    fn delta(
        &self,
        base: &str,
        target: &str,
        offset: i64,
        ranges: i32,
    ) -> Result<Vec<Range>, Status> {
        let request = GetMetadataDeltaRequest {
            base_snapshot_id: base.to_owned(),
            target_snapshot_id: target.to_owned(),
            starting_offset: offset,
            max_results: ranges,
            secrets: secrets(),
        };
        let mut client = self.client.clone();
        self.driver.block_on(async {
            let stream = client.get_metadata_delta(request).await?.into_inner();
            self.read(stream, usize::try_from(ranges).unwrap_or(1))
                .await
        })
    }
}

fn write(driver: &Driver, blocks: &[(u64, u64)]) {
    let mut client = Client::connect(&driver.node.nbd, "pvc", Duration::from_secs(30)).unwrap();
    for &(first, count) in blocks {
        let noise = crate::support::noise(first + 1, usize::try_from(count * 4096).unwrap());
        client.send_write(first * 4096, &noise).unwrap();
        client.receive().unwrap().outcome.unwrap();
    }
    client.send_flush().unwrap();
    client.receive().unwrap().outcome.unwrap();
}

/// The blocks of ranges.
fn blocks(ranges: &[Range]) -> Vec<i64> {
    let of = |&(offset, bytes): &Range| offset / 4096..(offset + bytes) / 4096;
    ranges.iter().flat_map(of).collect()
}

#[test]
fn real_csi_metadata_tell_what_was_written_and_go_on_from_anywhere() {
    let driver = Driver::new("csi-metadata");
    let [volume, other] = ["pvc", "other"].map(|name| driver.volume(name, 8));
    // Runs that touch, runs that do not, the first and the last block.
    write(&driver, &[(0, 2), (5, 1), (7, 3), (1024, 64), (2047, 1)]);
    let base = driver.snapshot(&volume, "base").unwrap().snapshot_id;
    write(&driver, &[(1, 1), (6, 1), (500, 12), (2046, 2)]);
    let target = driver.snapshot(&volume, "target").unwrap().snapshot_id;
    let foreign = driver.snapshot(&other, "foreign").unwrap().snapshot_id;

    let variable = Teller {
        driver: &driver,
        client: driver.metadata(),
        style: BlockMetadataType::VariableLength,
    };
    let held = variable.allocated(&base, 0, 256).unwrap();
    let expected = [0, 1, 5, 7, 8, 9]
        .into_iter()
        .chain(1024..1088)
        .chain([2047]);
    assert_eq!(blocks(&held), expected.collect::<Vec<i64>>());
    let changed = variable.delta(&base, &target, 0, 256).unwrap();
    let expected = [1, 6].into_iter().chain(500..512).chain([2046, 2047]);
    assert_eq!(blocks(&changed), expected.collect::<Vec<i64>>());
    assert_eq!(variable.allocated(&foreign, 0, 256).unwrap(), []);
    assert_eq!(variable.delta(&base, &base, 0, 256).unwrap(), []);
    continues(&variable, &base, &target);
    refuses(&variable, &base, &target, &foreign);

    let socket = driver.directory.path("fixed.sock");
    let mut command = Command::new(AZEKURA);
    command.args(["csi", "controller", "--metadata-blocks", "fixed"]);
    command
        .args(["--api", &driver.node.api, "--endpoint"])
        .arg(&socket);
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
    let _plugin = Process::new(child.unwrap());
    wait_for_socket(&socket);
    let fixed = Teller {
        driver: &driver,
        client: SnapshotMetadataClient::new(driver.connect(&socket)),
        style: BlockMetadataType::FixedLength,
    };
    // 8 MiB: blocks of 1 MiB.
    let whole = |numbers: &[i64]| {
        numbers
            .iter()
            .map(|&at| (at * MIB, MIB))
            .collect::<Vec<_>>()
    };
    assert_eq!(fixed.allocated(&base, 0, 256).unwrap(), whole(&[0, 4, 7]));
    let changed = fixed.delta(&base, &target, 0, 256).unwrap();
    assert_eq!(changed, whole(&[0, 1, 7]));
    continues(&fixed, &base, &target);
    driver.assert_clean();
}

/// A stream that broke off after any range is taken up behind it, and nothing is missing or told twice.
fn continues(teller: &Teller<'_>, base: &str, target: &str) {
    let all = teller.allocated(base, 0, 256).unwrap();
    let changed = teller.delta(base, target, 0, 256).unwrap();
    assert_eq!(teller.allocated(base, 0, 1).unwrap(), all);
    for (at, (offset, bytes)) in all.iter().enumerate() {
        let rest = teller.allocated(base, offset + bytes, 2).unwrap();
        assert_eq!(rest, all[at + 1..]);
    }
    for (at, (offset, bytes)) in changed.iter().enumerate() {
        let rest = teller.delta(base, target, offset + bytes, 2).unwrap();
        assert_eq!(rest, changed[at + 1..]);
    }
    assert_eq!(teller.allocated(base, 8 * MIB, 256).unwrap(), []);
}

fn refuses(teller: &Teller<'_>, base: &str, target: &str, foreign: &str) {
    for offset in [-1, 8 * MIB + 1] {
        assert_eq!(code(teller.allocated(base, offset, 1)), Code::OutOfRange);
        assert_eq!(
            code(teller.delta(base, target, offset, 1)),
            Code::OutOfRange
        );
    }
    assert_eq!(code(teller.allocated(base, 0, -1)), Code::InvalidArgument);
    let empty = teller.allocated("", 0, 1);
    assert_refused(empty, Code::InvalidArgument, &["snapshot_id is missing"]);
    let empty = teller.delta("", target, 0, 1);
    assert_refused(empty, Code::InvalidArgument, &["base_snapshot_id"]);
    let empty = teller.delta(base, "", 0, 1);
    assert_refused(empty, Code::InvalidArgument, &["target_snapshot_id"]);
    assert_eq!(code(teller.allocated("elsewhere-s1", 0, 1)), Code::NotFound);
    assert_eq!(
        code(teller.delta("elsewhere-s1", target, 0, 1)),
        Code::NotFound
    );
    let mixed = teller.delta(foreign, target, 0, 1);
    assert_refused(mixed, Code::InvalidArgument, &["not of one volume"]);
}

impl Driver {
    fn connect(&self, socket: &std::path::Path) -> Channel {
        let address = format!("unix://{}", socket.display());
        let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
        self.block_on(endpoint.connect()).unwrap()
    }
}
