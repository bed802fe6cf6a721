//! What a node counts as Prometheus text (exposition format 0.0.4). The names are described in docs/operating/metrics.md, and a test
//! holds that table, the dashboard and the alert rules to what is written here.
//!
//! Invariants
//! - Each node says what is its own: its process, its stores, the volumes it owns. What is one for the whole cluster is said by the
//!   node that leads. Scraping all nodes counts nothing twice.
//! - Labels are bounded: nodes, stores and disks that exist, four operations, and at most [`VOLUMES_MAX`] volumes of a node. The sums of
//!   a node have all of its volumes.

use api::{
    ActivityAnswer, AlertCountsAnswer, ClusterFigures, ComponentAnswer, ContainerFigures,
    DiskFigures, FiguresAnswer, LatencyFigures, ReductionFigures, ResiliencyAnswer, ServedFigures,
    SpaceAnswer, StoreFigures, VolumeFigures, VolumeReductionFigures,
};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// Volumes of a node with series of their own: 1000 of them make 47,000 lines, 6 MB a scrape.
const VOLUMES_MAX: usize = 1000;
const NEVER: &str = "writing to a String cannot fail";

/// Text that grows.
struct Text(String);

impl Text {
    /// Begins a family of series.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(NEVER);
    }

    /// A series of the family.
    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}").expect(NEVER),
            false => writeln!(self.0, "{name}{{{labels}}} {value}").expect(NEVER),
        }
    }

    /// A whole family.
    fn metric<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        series: impl Iterator<Item = (String, V)>,
    ) {
        self.family(name, kind, help);
        for (labels, value) in series {
            self.line(name, &labels, value);
        }
    }

    /// A histogram's series: counts by class, in order; cumulated on the way.
    fn histogram(&mut self, name: &str, labels: &str, bounds: &[String], one: &Timed<'_>) {
        let mut sum = 0_u64;
        let ends = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (end, count) in ends.zip(one.counts) {
            sum += count;
            writeln!(self.0, "{name}_bucket{{{labels},le=\"{end}\"}} {sum}").expect(NEVER);
        }
        writeln!(self.0, "{name}_sum{{{labels}}} {}", Seconds(one.micros)).expect(NEVER);
        writeln!(self.0, "{name}_count{{{labels}}} {sum}").expect(NEVER);
    }
}

/// Microseconds, shown as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Requests of one kind by how long they took.
struct Timed<'a> {
    operation: &'static str,
    counts: &'a [u64],
    micros: u64,
}

fn timed<'a>(latency: &'a LatencyFigures, activity: &ActivityAnswer) -> [Timed<'a>; 3] {
    let one = |operation, counts, micros| Timed {
        operation,
        counts,
        micros,
    };
    [
        one("read", &latency.reads, activity.read_us),
        one("write", &latency.writes, activity.write_us),
        one("flush", &latency.flushes, activity.flush_us),
    ]
}

fn operations(activity: &ActivityAnswer) -> [(&'static str, u64); 4] {
    [
        ("read", activity.reads),
        ("write", activity.writes),
        ("flush", activity.flushes),
        ("trim", activity.trims),
    ]
}

fn bytes(activity: &ActivityAnswer) -> [(&'static str, u64); 2] {
    [
        ("read", activity.read_bytes),
        ("write", activity.written_bytes),
    ]
}

/// `figures` as text.
pub(crate) fn render(figures: &FiguresAnswer) -> String {
    // A little more than a scrape of so many volumes takes.
    let volumes = figures.volumes.len().min(VOLUMES_MAX);
    let mut out = Text(String::with_capacity((64 << 10) + volumes * 6000));
    process(&mut out, figures);
    let bounds: Vec<String> = figures
        .latency_bounds_us
        .iter()
        .map(|&bound| Seconds(bound).to_string())
        .collect();
    node(&mut out, figures, &bounds);
    caches(&mut out, figures);
    stores(&mut out, figures);
    disks(&mut out, figures, &bounds);
    container_latency(&mut out, figures, &bounds);
    let unserved = figures.cluster.iter().flat_map(|cluster| &cluster.unserved);
    let volumes: Vec<Volume<'_>> = figures
        .volumes
        .iter()
        .chain(unserved)
        .take(VOLUMES_MAX)
        .map(Volume::new)
        .collect();
    volume_sizes(&mut out, &volumes);
    volume_activity(&mut out, &volumes, &bounds);
    if let Some(all) = &figures.cluster {
        cluster(&mut out, all);
        resiliency(&mut out, &all.resiliency);
        space(&mut out, &all.resiliency);
        containers(&mut out, all);
        reduction(&mut out, all);
    }
    out.0
}

fn process(out: &mut Text, figures: &FiguresAnswer) {
    let node = format!("node=\"{}\"", escape(&figures.node));
    let one = |value: u64| std::iter::once((node.clone(), value));
    let info = format!("{node},version=\"{}\"", escape(&figures.version));
    let info = std::iter::once((info, 1));
    out.metric(
        "azekura_build_info",
        "gauge",
        "Version of the node's program.",
        info,
    );
    let leads = one(u64::from(figures.cluster.is_some()));
    out.metric(
        "azekura_leader",
        "gauge",
        "Whether the node leads: it says what is one for the cluster.",
        leads,
    );
    let Some(process) = &figures.process else {
        return;
    };
    out.metric(
        "azekura_process_cpu_seconds_total",
        "counter",
        "Processor time of the node's process.",
        std::iter::once((node.clone(), Seconds(process.cpu_ms.saturating_mul(1000)))),
    );
    out.metric(
        "azekura_process_resident_bytes",
        "gauge",
        "Memory of the node's process.",
        one(process.resident),
    );
}

/// What all volumes of the node have together.
fn node(out: &mut Text, figures: &FiguresAnswer, bounds: &[String]) {
    let node = format!("node=\"{}\"", escape(&figures.node));
    let owned = figures.volumes.len() as u64;
    let one = |value: u64| std::iter::once((node.clone(), value));
    out.metric(
        "azekura_node_volumes",
        "gauge",
        "Volumes that the node owns.",
        one(owned),
    );
    let hidden = owned.saturating_sub(VOLUMES_MAX as u64);
    out.metric(
        "azekura_node_volumes_not_shown",
        "gauge",
        "Volumes of the node beyond those with series of their own.",
        one(hidden),
    );
    let labelled =
        |(operation, count): (&str, u64)| (format!("{node},operation=\"{operation}\""), count);
    out.metric(
        "azekura_node_operations_total",
        "counter",
        "Requests of clients done by the node as the owner of volumes.",
        operations(&figures.activity).into_iter().map(labelled),
    );
    out.metric(
        "azekura_node_bytes_total",
        "counter",
        "Bytes of these requests.",
        bytes(&figures.activity).into_iter().map(labelled),
    );
    let errors = figures.activity.errors;
    out.metric(
        "azekura_node_errors_total",
        "counter",
        "Requests of clients that failed.",
        one(errors),
    );
    const LATENCY: &str = "azekura_node_latency_seconds";
    out.family(
        LATENCY,
        "histogram",
        "How long requests of clients took at their owner.",
    );
    for timed in timed(&figures.latency, &figures.activity) {
        let labels = format!("{node},operation=\"{}\"", timed.operation);
        out.histogram(LATENCY, &labels, bounds, &timed);
    }
}

/// Map pages in memory, and copies read to see whether they are good.
fn caches(out: &mut Text, figures: &FiguresAnswer) {
    let node = format!("node=\"{}\"", escape(&figures.node));
    let (cache, scrub) = (&figures.cache, &figures.scrub);
    let one: [(&str, &str, &str, u64); 7] = [
        (
            "azekura_map_cache_hits_total",
            "counter",
            "Map pages that were asked for and were in memory.",
            cache.hits,
        ),
        (
            "azekura_map_cache_misses_total",
            "counter",
            "Map pages that had to be read.",
            cache.misses,
        ),
        (
            "azekura_map_cache_bytes",
            "gauge",
            "Bytes of map pages in memory.",
            cache.bytes,
        ),
        (
            "azekura_map_cache_limit_bytes",
            "gauge",
            "Bytes of map pages in memory at most.",
            cache.bytes_max,
        ),
        (
            "azekura_scrub_bytes_total",
            "counter",
            "Bytes of copies read to see whether they are good.",
            scrub.bytes,
        ),
        (
            "azekura_scrub_damaged_total",
            "counter",
            "Copies that did not verify.",
            scrub.damaged,
        ),
        (
            "azekura_scrub_repaired_total",
            "counter",
            "Those that were made good from another member.",
            scrub.repaired,
        ),
    ];
    for (name, kind, help, value) in one {
        out.metric(name, kind, help, std::iter::once((node.clone(), value)));
    }
}

fn stores(out: &mut Text, figures: &FiguresAnswer) {
    type Field = fn(&api::StoreAnswer) -> u64;
    let fields: [(&str, &str, &str, Field); 8] = [
        (
            "azekura_store_ready",
            "gauge",
            "Whether the store serves without restriction.",
            |store| u64::from(store.state == "ready"),
        ),
        (
            "azekura_store_capacity_bytes",
            "gauge",
            "Bytes for extents.",
            |store| store.capacity,
        ),
        (
            "azekura_store_used_bytes",
            "gauge",
            "Bytes that extents occupy.",
            |store| store.used,
        ),
        (
            "azekura_store_journal_capacity_bytes",
            "gauge",
            "Size of the journal ring.",
            |store| store.journal_capacity,
        ),
        (
            "azekura_store_journal_used_bytes",
            "gauge",
            "Journal bytes still needed.",
            |store| store.journal_used,
        ),
        (
            "azekura_store_extents",
            "gauge",
            "Number of extents.",
            |store| store.extents,
        ),
        (
            "azekura_store_written_bytes_total",
            "counter",
            "Bytes written to the disks.",
            |store| store.written,
        ),
        (
            "azekura_store_flushes_total",
            "counter",
            "Device flushes.",
            |store| store.flushes,
        ),
    ];
    let labels = |one: &StoreFigures| store_labels(one, figures);
    for (name, kind, help, field) in fields {
        let series = figures.stores.iter();
        let series = series.map(|one| (labels(one), field(&one.store)));
        out.metric(name, kind, help, series);
    }
}

fn store_labels(one: &StoreFigures, figures: &FiguresAnswer) -> String {
    format!(
        "store=\"{}\",node=\"{}\"",
        one.store.id,
        escape(&figures.node)
    )
}

fn disks(out: &mut Text, figures: &FiguresAnswer, bounds: &[String]) {
    let disks = || {
        figures.stores.iter().flat_map(|store| {
            let labels = store_labels(store, figures);
            let disks = store.disks.iter().enumerate();
            disks.map(move |(place, disk)| (format!("{labels},disk=\"{place}\""), disk))
        })
    };
    let split = |(labels, parts): (String, Vec<(&str, u64)>)| -> Vec<(String, u64)> {
        let one = |(operation, count)| (format!("{labels},operation=\"{operation}\""), count);
        parts.into_iter().map(one).collect()
    };
    let counts = |disk: &DiskFigures| {
        vec![
            ("read", disk.reads),
            ("write", disk.writes),
            ("flush", disk.flushes),
        ]
    };
    let sizes = |disk: &DiskFigures| vec![("read", disk.read_bytes), ("write", disk.written_bytes)];
    out.metric(
        "azekura_disk_operations_total",
        "counter",
        "Operations of a store's disk since the store was opened.",
        disks().flat_map(|(labels, disk)| split((labels, counts(disk)))),
    );
    out.metric(
        "azekura_disk_bytes_total",
        "counter",
        "Bytes of these operations.",
        disks().flat_map(|(labels, disk)| split((labels, sizes(disk)))),
    );
    const LATENCY: &str = "azekura_disk_latency_seconds";
    out.family(
        LATENCY,
        "histogram",
        "How long operations of a store's disk took since the store was opened.",
    );
    for (labels, disk) in disks() {
        let [read_us, write_us, flush_us] = disk.micros;
        let micros = ActivityAnswer {
            read_us,
            write_us,
            flush_us,
            ..ActivityAnswer::default()
        };
        for timed in timed(&disk.latency, &micros) {
            let labels = format!("{labels},operation=\"{}\"", timed.operation);
            out.histogram(LATENCY, &labels, bounds, &timed);
        }
    }
}

/// Counts of one kind and another.
fn add(sum: &mut Vec<u64>, more: &[u64]) {
    if sum.len() < more.len() {
        sum.resize(more.len(), 0);
    }
    for (own, more) in sum.iter_mut().zip(more) {
        *own += more;
    }
}

/// What clients do with the volumes of each container that the node owns, all of them: labels are bounded by the containers there are.
fn container_latency(out: &mut Text, figures: &FiguresAnswer, bounds: &[String]) {
    let mut sums: BTreeMap<&str, (ActivityAnswer, LatencyFigures)> = BTreeMap::new();
    for volume in &figures.volumes {
        let Some(served) = &volume.served else {
            continue;
        };
        let (activity, latency) = sums.entry(&volume.container).or_default();
        activity.read_us += served.activity.read_us;
        activity.write_us += served.activity.write_us;
        activity.flush_us += served.activity.flush_us;
        add(&mut latency.reads, &served.latency.reads);
        add(&mut latency.writes, &served.latency.writes);
        add(&mut latency.flushes, &served.latency.flushes);
    }
    const LATENCY: &str = "azekura_container_latency_seconds";
    out.family(
        LATENCY,
        "histogram",
        "How long requests of clients took, of the container's volumes that the node owns.",
    );
    let node = escape(&figures.node);
    for (container, (activity, latency)) in sums {
        let container = escape(container);
        for timed in timed(&latency, &activity) {
            let labels = format!(
                "container=\"{container}\",node=\"{node}\",operation=\"{}\"",
                timed.operation
            );
            out.histogram(LATENCY, &labels, bounds, &timed);
        }
    }
}

/// A volume and its labels, which every family needs again.
struct Volume<'a> {
    labels: String,
    figures: &'a VolumeFigures,
}

impl<'a> Volume<'a> {
    fn new(figures: &'a VolumeFigures) -> Self {
        let labels = format!(
            "volume=\"{}\",container=\"{}\"",
            escape(&figures.name),
            escape(&figures.container)
        );
        Self { labels, figures }
    }
}

fn volume_sizes(out: &mut Text, volumes: &[Volume<'_>]) {
    type Field = fn(&VolumeFigures) -> Option<u64>;
    let fields: [(&str, &str, Field); 4] = [
        (
            "azekura_volume_size_bytes",
            "Size of the volume.",
            |volume| Some(volume.size),
        ),
        ("azekura_volume_mapped_bytes", "Bytes mapped.", |volume| {
            Some(volume.mapped)
        }),
        (
            "azekura_volume_undrained_bytes",
            "Bytes in the log only.",
            |volume| Some(volume.served.as_ref()?.undrained),
        ),
        (
            "azekura_volume_log_replicas",
            "Copies of the open log segment.",
            |volume| Some(volume.served.as_ref()?.log_replicas),
        ),
    ];
    for (name, help, field) in fields {
        out.family(name, "gauge", help);
        for volume in volumes {
            if let Some(value) = field(volume.figures) {
                out.line(name, &volume.labels, value);
            }
        }
    }
}

/// What clients do with volumes, as the owner serves them.
fn volume_activity(out: &mut Text, volumes: &[Volume<'_>], bounds: &[String]) {
    let served = || {
        let served = volumes.iter();
        served.filter_map(|volume| Some((&volume.labels, volume.figures.served.as_ref()?)))
    };
    type Parts = fn(&ServedFigures) -> Vec<(&'static str, u64)>;
    let families: [(&str, &str, Parts); 2] = [
        (
            "azekura_volume_operations_total",
            "Requests of clients done by the volume's owner.",
            |served| operations(&served.activity).to_vec(),
        ),
        (
            "azekura_volume_bytes_total",
            "Bytes of these requests.",
            |served| bytes(&served.activity).to_vec(),
        ),
    ];
    for (name, help, parts) in families {
        out.family(name, "counter", help);
        for (labels, served) in served() {
            for (operation, count) in parts(served) {
                let line = writeln!(
                    out.0,
                    "{name}{{{labels},operation=\"{operation}\"}} {count}"
                );
                line.expect(NEVER);
            }
        }
    }
    const ERRORS: &str = "azekura_volume_errors_total";
    out.family(ERRORS, "counter", "Requests of clients that failed.");
    for (labels, served) in served() {
        out.line(ERRORS, labels, served.activity.errors);
    }
    const LATENCY: &str = "azekura_volume_latency_seconds";
    out.family(
        LATENCY,
        "histogram",
        "How long requests of clients took at the volume's owner.",
    );
    for (labels, served) in served() {
        for timed in timed(&served.latency, &served.activity) {
            let labels = format!("{labels},operation=\"{}\"", timed.operation);
            out.histogram(LATENCY, &labels, bounds, &timed);
        }
    }
}

/// What the leader says for all.
fn cluster(out: &mut Text, all: &ClusterFigures) {
    let alive = all.nodes.iter().map(|node| {
        let labels = format!("node=\"{}\"", escape(&node.name));
        (labels, u64::from(node.alive))
    });
    out.metric(
        "azekura_node_alive",
        "gauge",
        "Whether the node's lease lives.",
        alive,
    );
    alerts(out, all);
    let volumes = all.volumes.map(|count| (String::new(), count));
    out.metric(
        "azekura_volumes",
        "gauge",
        "Number of volumes.",
        volumes.into_iter(),
    );
}

/// Labels are bounded: three severities, and the kinds of alerts that there are.
fn alerts(out: &mut Text, all: &ClusterFigures) {
    let kinds = all.alerts.iter().flatten();
    let series = kinds.flat_map(|alerts| {
        let AlertCountsAnswer {
            critical,
            warning,
            info,
        } = alerts.open;
        let counts = [("critical", critical), ("warning", warning), ("info", info)];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        counts.map(|(severity, count)| {
            let kind = escape(&alerts.kind);
            (format!("severity=\"{severity}\",kind=\"{kind}\""), count)
        })
    });
    out.metric(
        "azekura_alerts",
        "gauge",
        "Open alerts by severity and kind.",
        series,
    );
}

/// What the verdict rests on. Labels are bounded: three copies, three parts, three domains.
fn resiliency(out: &mut Text, answer: &ResiliencyAnswer) {
    let verdict = ["ok", "degraded", "critical"].map(|verdict| {
        let labels = format!("verdict=\"{verdict}\"");
        (labels, u64::from(answer.verdict == verdict))
    });
    out.metric(
        "azekura_verdict",
        "gauge",
        "Which verdict holds now.",
        verdict.into_iter(),
    );
    type Part = fn(&ComponentAnswer) -> u64;
    let fields: [(&str, &str, Part); 2] = [
        (
            "azekura_component_tolerates",
            "Failure domains of a part that may be lost now.",
            |part| u64::from(part.tolerates),
        ),
        (
            "azekura_component_ok",
            "Whether nothing is wrong with the part.",
            |part| u64::from(part.state == "ok"),
        ),
    ];
    for (name, help, field) in fields {
        let series = answer.components.iter().map(|part| {
            let rf = part.rf.map_or_else(String::new, |rf| rf.to_string());
            let labels = format!(
                "component=\"{}\",domain=\"{}\",rf=\"{rf}\"",
                part.component, part.domain
            );
            (labels, field(part))
        });
        out.metric(name, "gauge", help, series);
    }
    let filling = u64::from(answer.repair.filling);
    out.metric(
        "azekura_repair_filling",
        "gauge",
        "Members of groups that are being filled.",
        std::iter::once((String::new(), filling)),
    );
    let eta = answer.repair.eta_seconds.map(|eta| (String::new(), eta));
    out.metric(
        "azekura_repair_eta_seconds",
        "gauge",
        "Seconds until the last is filled, when that can be told.",
        eta.into_iter(),
    );
}

/// Labels are bounded by the containers there are.
fn containers(out: &mut Text, all: &ClusterFigures) {
    type Field = fn(&ContainerFigures) -> Option<u64>;
    let fields: [(&str, &str, Field); 4] = [
        (
            "azekura_container_volumes",
            "Volumes of the container.",
            |one| Some(one.volumes),
        ),
        (
            "azekura_container_size_bytes",
            "Bytes that its volumes are promised.",
            |one| Some(one.size),
        ),
        (
            "azekura_container_mapped_bytes",
            "Bytes that its volumes map.",
            |one| Some(one.mapped),
        ),
        (
            "azekura_container_quota_bytes",
            "Bytes that may be promised.",
            |one| one.quota,
        ),
    ];
    for (name, help, field) in fields {
        let series = all.containers.iter().filter_map(|one| {
            let labels = format!("container=\"{}\"", escape(&one.name));
            Some((labels, field(one)?))
        });
        out.metric(name, "gauge", help, series);
    }
}

/// What snapshots, clones and compression save, and what was collected.
fn reduction(out: &mut Text, all: &ClusterFigures) {
    let walked = |field: fn(&ReductionFigures) -> u64| {
        let found = all.reduction.as_ref().map(field);
        found.map(|value| (String::new(), value)).into_iter()
    };
    out.metric(
        "azekura_data_mapped_bytes",
        "gauge",
        "Bytes that volumes and snapshots map, each for itself.",
        walked(|sum| sum.mapped),
    );
    out.metric(
        "azekura_data_distinct_bytes",
        "gauge",
        "Bytes of distinct blocks among them.",
        walked(|sum| sum.distinct),
    );
    out.metric(
        "azekura_data_stored_bytes",
        "gauge",
        "Bytes of one copy of those as stored.",
        walked(|sum| sum.stored),
    );
    volume_reductions(out, &all.volume_reductions);
    let collected = &all.collection;
    for (name, help, value) in [
        (
            "azekura_collected_extents_total",
            "Extents deleted by the collection of garbage.",
            collected.deleted,
        ),
        (
            "azekura_collected_bytes_total",
            "Bytes that all members gave back.",
            collected.freed_bytes,
        ),
        (
            "azekura_compacted_extents_total",
            "Extents rewritten without their dead blocks.",
            collected.compacted,
        ),
    ] {
        let one = std::iter::once((String::new(), value));
        out.metric(name, "counter", help, one);
    }
}

/// Of volumes that share with nobody, whose space is their own.
fn volume_reductions(out: &mut Text, volumes: &[VolumeReductionFigures]) {
    type Field = fn(&VolumeReductionFigures) -> u64;
    let fields: [(&str, &str, Field); 2] = [
        (
            "azekura_volume_walked_bytes",
            "Bytes that the volume mapped when it was walked; of volumes that share with nobody.",
            |volume| volume.mapped,
        ),
        (
            "azekura_volume_stored_bytes",
            "Bytes of one copy of those as stored.",
            |volume| volume.stored,
        ),
    ];
    for (name, help, field) in fields {
        let series = volumes.iter().take(VOLUMES_MAX).map(|one| {
            let (volume, container) = (escape(&one.name), escape(&one.container));
            let labels = format!("volume=\"{volume}\",container=\"{container}\"");
            (labels, field(one))
        });
        out.metric(name, "gauge", help, series);
    }
}

fn space(out: &mut Text, answer: &ResiliencyAnswer) {
    type Field = fn(&SpaceAnswer) -> Option<u64>;
    let fields: [(&str, &str, Field); 4] = [
        (
            "azekura_space_warning",
            "Whether the space for so many copies runs out.",
            |space| Some(u64::from(space.state != "ok")),
        ),
        (
            "azekura_space_protected",
            "Whether new data with so many copies is refused.",
            |space| Some(u64::from(space.state == "protected")),
        ),
        (
            "azekura_space_fill_percent",
            "Percent in use of what clients may fill, where there is most room.",
            |space| Some(space.fill_percent),
        ),
        (
            "azekura_space_resilient_percent",
            "Percent in use of the resilient capacity.",
            |space| space.resilient_percent,
        ),
    ];
    for (name, help, field) in fields {
        let spaces = answer.space.iter();
        let series =
            spaces.filter_map(|space| Some((format!("rf=\"{}\"", space.rf), field(space)?)));
        out.metric(name, "gauge", help, series);
    }
}

fn escape(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
