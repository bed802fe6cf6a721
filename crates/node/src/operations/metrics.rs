//! Figures over time: asked of all nodes, for a volume's steps are where its owners were, and put together here.
//!
//! Invariants
//! - Percentiles come from histograms of all steps and nodes added up.
//! - A step that no node knows anything of has no value, and a node that does not answer is named.
//! - A rate is what was done in a step by its length, or by how much of it has passed.
//! - Space of a node and of the cluster is the sum over its stores, and has no value where a node is still to tell of its own.

mod busiest;
mod measure;

use self::measure::{Kind, Measure, measure};
use super::{Result, catalog_error};
use crate::host::Host;
use api::{
    Answer, Figure, MetricsAnswer, MetricsPart, MetricsQuery, Operation, OperationError,
    SeriesAnswer, StepPart,
};
use catalog::VolumeRow;
use history::{Bucket, COUNTERS, Entity, GAUGES, LATENCIES, POINTS_MAX, Query, Series, Tier};
use vocab::NodeId;

/// Steps of an answer when no step is asked for.
const STEPS_WANTED: u64 = 360;
/// Range when no begin is asked for: an hour.
const RANGE_MS: u64 = 3_600_000;
/// Metrics of one query.
const METRICS_MAX: usize = 32;
/// Longest range: a little more than is kept.
const RANGE_SECONDS_MAX: u64 = 100 * 86_400;

/// The year 3000: sums of later times need not fit.
const TIME_MS_MAX: u64 = 32_503_680_000_000;

fn bad(reason: String) -> OperationError {
    OperationError::bad_request(reason)
}

/// An entity as it is written between nodes.
fn written(entity: Entity) -> String {
    match entity {
        Entity::Node(id) => format!("node/{id}"),
        Entity::Store(id) => format!("store/{id}"),
        Entity::Volume(id) => format!("volume/{id}"),
    }
}

fn parse(text: &str) -> Option<Entity> {
    let (kind, id) = text.split_once('/')?;
    let id = id.parse().ok()?;
    match kind {
        "node" => Some(Entity::Node(id)),
        "store" => Some(Entity::Store(id)),
        "volume" => Some(Entity::Volume(id)),
        _ => None,
    }
}

/// Begin, end and step in seconds: the steps that touch what is asked for. Pure.
fn window(query: &MetricsQuery, now_ms: u64) -> Result<(u64, u64, u64)> {
    let to_ms = query.to.unwrap_or(now_ms);
    let from_ms = query.from.unwrap_or(to_ms.saturating_sub(RANGE_MS));
    if from_ms >= to_ms {
        return Err(bad("`from` must be before `to`".to_owned()));
    }
    if to_ms > TIME_MS_MAX || query.step.is_some_and(|step| step > RANGE_SECONDS_MAX) {
        return Err(bad(
            "times are Unix milliseconds before the year 3000, steps are at most 100 days"
                .to_owned(),
        ));
    }
    let (from, to) = (from_ms / 1000, to_ms.div_ceil(1000));
    if to - from > RANGE_SECONDS_MAX {
        return Err(bad(format!(
            "at most {} days are kept: ask for fewer",
            RANGE_SECONDS_MAX / 86_400
        )));
    }
    let (fine, coarse) = (Tier::Fine.step(), Tier::Coarse.step());
    let step = match query.step {
        Some(step) if step > 0 && step.is_multiple_of(fine) => step,
        Some(step) => {
            return Err(bad(format!(
                "`step` is a multiple of {fine} seconds, not {step}"
            )));
        }
        None => {
            let wanted = (to - from).div_ceil(STEPS_WANTED).next_multiple_of(fine);
            // What is older than the fine steps is there in coarse ones only.
            let old = now_ms / 1000 > from + history::Bounds::default().fine_seconds + fine;
            match old || wanted >= coarse {
                true => wanted.next_multiple_of(coarse),
                false => wanted,
            }
        }
    };
    let (from, to) = (from / step * step, to.next_multiple_of(step));
    match (to - from) / step <= POINTS_MAX {
        true => Ok((from, to, step)),
        false => Err(bad(format!(
            "that would be more than {POINTS_MAX} steps: ask for longer ones"
        ))),
    }
}

/// What a node's history has, as it travels.
fn part_of(series: &Series) -> MetricsPart {
    let known = series.buckets.iter().enumerate();
    let known = known.filter(|(_, bucket)| bucket.seconds > 0);
    let step = |(at, bucket): (usize, &Bucket)| {
        let counters = bucket.sum.counters.iter().enumerate();
        let set = counters.filter(|(_, count)| **count > 0);
        let gauges = (0..GAUGES).map(|gauge| {
            let mean = bucket.mean(gauge).unwrap_or(0);
            (mean, bucket.sum.gauges[gauge].max)
        });
        let latency = bucket.sum.latency.iter().map(|histogram| {
            let classes = histogram.0.iter().enumerate();
            let set = classes.filter(|(_, count)| **count > 0);
            set.map(|(class, &count)| (class as u8, count)).collect()
        });
        StepPart {
            at: at as u32,
            seconds: bucket.seconds,
            counters: set.map(|(which, &count)| (which as u8, count)).collect(),
            gauges: gauges.collect(),
            latency: latency.collect(),
        }
    };
    MetricsPart {
        through: series.through,
        steps: known.map(step).collect(),
    }
}

/// What another node has sent. What makes no sense in it is passed over: it may be of another release.
fn bucket_of(part: &StepPart) -> Bucket {
    let mut bucket = Bucket {
        seconds: part.seconds,
        ..Bucket::default()
    };
    for &(which, count) in &part.counters {
        if usize::from(which) < COUNTERS {
            bucket.sum.counters[usize::from(which)] = count;
        }
    }
    for (place, &(mean, max)) in part.gauges.iter().take(GAUGES).enumerate() {
        bucket.levels[place] = u128::from(mean) * u128::from(part.seconds);
        bucket.sum.gauges[place].max = max;
    }
    for (histogram, classes) in part.latency.iter().take(LATENCIES).enumerate() {
        for &(class, count) in classes {
            if let Some(place) = bucket.sum.latency[histogram].0.get_mut(usize::from(class)) {
                *place = count;
            }
        }
    }
    bucket
}

/// What all nodes say, in one.
fn merged(parts: &[MetricsPart], steps: usize) -> Series {
    let mut series = Series {
        through: parts.iter().map(|part| part.through).max().unwrap_or(0),
        buckets: vec![Bucket::default(); steps],
    };
    for step in parts.iter().flat_map(|part| &part.steps) {
        if let Some(bucket) = series.buckets.get_mut(step.at as usize) {
            bucket.add(&bucket_of(step));
        }
    }
    series
}

/// The metrics that a query names. Pure.
fn measures(names: &str, kind: Kind) -> Result<Vec<(String, Measure)>> {
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    if names.len() > METRICS_MAX {
        return Err(bad(format!(
            "at most {METRICS_MAX} metrics are asked for at once"
        )));
    }
    let one = |name: &&str| match measure(name, kind) {
        Some(found) => Ok(((*name).to_owned(), found)),
        None => Err(bad(format!(
            "a {} has no metric `{name}`: there are {}",
            kind.name(),
            measure::names(kind).join(", ")
        ))),
    };
    names.iter().map(one).collect()
}

/// What is asked about.
struct About {
    kind: Kind,
    entities: Vec<Entity>,
    /// Those of a node or of the cluster.
    stores: Vec<Entity>,
    /// The only node that can know of it.
    node: Option<NodeId>,
}

/// From when to when, and in which steps: Unix seconds.
#[derive(Clone, Copy)]
struct Window {
    from: u64,
    to: u64,
    step: u64,
}

impl Window {
    /// Seconds that have passed of a step by a time.
    fn length(self, at: usize, until: u64) -> u64 {
        let begin = self.from + at as u64 * self.step;
        until.saturating_sub(begin).min(self.step)
    }
}

/// What the nodes know of some entities.
#[derive(Default)]
struct Heard {
    /// Of all nodes in one.
    series: Series,
    /// Of each.
    parts: Vec<MetricsPart>,
    silent: Vec<String>,
}

impl Heard {
    fn of(parts: Vec<MetricsPart>, steps: usize, silent: Vec<String>) -> Self {
        Self {
            series: merged(&parts, steps),
            parts,
            silent,
        }
    }

    /// The values of a metric.
    fn values(&self, measure: &Measure, window: Window) -> Vec<Option<Figure>> {
        let values = match measure.is_of_stores() {
            true => self.summed(measure, window),
            false => self.together(measure, window),
        };
        values.into_iter().map(|one| one.map(Figure::new)).collect()
    }

    /// From what all nodes know in one.
    fn together(&self, measure: &Measure, window: Window) -> Vec<Option<f64>> {
        let value = |(at, bucket): (usize, &Bucket)| {
            let length = window.length(at, self.series.through);
            let known = bucket.seconds > 0 && length > 0;
            known.then(|| measure.of(bucket, length)).flatten()
        };
        self.series.buckets.iter().enumerate().map(value).collect()
    }

    /// Sums over what each node says for itself. They end with the node that is behind: a step later they would be without its stores.
    fn summed(&self, measure: &Measure, window: Window) -> Vec<Option<f64>> {
        let told = || self.parts.iter().filter(|part| !part.steps.is_empty());
        let complete = told().map(|part| part.through).min().unwrap_or(0);
        let mut sums = vec![None; self.series.buckets.len()];
        for (part, step) in told().flat_map(|part| part.steps.iter().map(move |step| (part, step)))
        {
            let at = step.at as usize;
            let length = window.length(at, part.through);
            let value = (length > 0).then(|| measure.of(&bucket_of(step), length));
            if let (Some(Some(value)), Some(sum)) = (value, sums.get_mut(at))
                && window.length(at, complete) > 0
            {
                *sum = Some(sum.unwrap_or(0.0) + value);
            }
        }
        sums
    }
}

impl Host {
    /// Answers a query of figures over time.
    pub(super) async fn query_metrics(&self, query: &MetricsQuery) -> Result<Answer> {
        let about = self.about(&query.entity).await?;
        let measures = measures(&query.metric, about.kind)?;
        let (from, to, step) = window(query, self.world.clock.unix_ms())?;
        let window = Window { from, to, step };
        let (of_stores, own): (Vec<_>, Vec<_>) = measures
            .iter()
            .partition(|(_, measure)| measure.is_of_stores());
        let heard = async |wanted: bool, entities: &[Entity]| match wanted {
            true => self.hear(entities, about.node, window).await,
            false => Heard::default(),
        };
        let (own, stores) = futures_util::future::join(
            heard(!own.is_empty(), &about.entities),
            heard(!of_stores.is_empty(), &about.stores),
        )
        .await;
        let answer = |(name, measure): &(String, Measure)| {
            let heard = match measure.is_of_stores() {
                true => &stores,
                false => &own,
            };
            SeriesAnswer {
                metric: name.clone(),
                unit: measure.unit().to_owned(),
                values: heard.values(measure, window),
            }
        };
        let mut silent = [own.silent.clone(), stores.silent.clone()].concat();
        silent.sort_unstable();
        silent.dedup();
        Ok(Answer::Metrics(MetricsAnswer {
            entity: query.entity.clone(),
            from_ms: from * 1000,
            to_ms: to * 1000,
            step,
            through_ms: own.series.through.max(stores.series.through) * 1000,
            series: measures.iter().map(answer).collect(),
            silent,
        }))
    }

    /// What all nodes, or the only one that can, know of some entities.
    async fn hear(&self, entities: &[Entity], only: Option<NodeId>, window: Window) -> Heard {
        let Window { from, to, step } = window;
        let operation = Operation::MetricsPart {
            entities: entities.iter().copied().map(written).collect(),
            from,
            to,
            step,
        };
        let (parts, silent) = self.ask_all(&operation, only).await;
        Heard::of(parts, ((to - from) / step) as usize, silent)
    }

    /// What this node knows of some entities.
    pub(super) async fn metrics_part(&self, entities: &[String], query: Query) -> Result<Answer> {
        let parsed: Option<Vec<Entity>> = entities.iter().map(|text| parse(text)).collect();
        let entities = parsed.ok_or_else(|| bad("an entity makes no sense here".to_owned()))?;
        let query = Query { entities, ..query };
        let history = self.upkeep.present.history.borrow().clone();
        let Some(history) = history else {
            return Ok(Answer::MetricsPart(MetricsPart::default()));
        };
        let read = move || history.read(&query);
        let read = self.world.offload(read).await;
        let (series, complaints) =
            read.ok_or_else(|| bad("the steps asked for make no sense".to_owned()))?;
        for reason in complaints {
            tracing::warn!(
                reason,
                "a part of the history cannot be read and is left out"
            );
        }
        Ok(Answer::MetricsPart(part_of(&series)))
    }

    async fn about(&self, text: &str) -> Result<About> {
        let view = self.view();
        let about = |kind, entities, node| About {
            kind,
            entities,
            stores: Vec::new(),
            node,
        };
        let stores_of = |node: Option<NodeId>| {
            let stores = view.stores.values();
            let own = stores.filter(|row| node.is_none_or(|node| row.node == node));
            own.map(|row| Entity::Store(u64::from(row.id.0))).collect()
        };
        if text == "cluster" {
            let nodes = view.nodes.keys();
            let nodes = nodes.map(|id| Entity::Node(u64::from(id.0)));
            return Ok(About {
                stores: stores_of(None),
                ..about(Kind::Cluster, nodes.collect(), None)
            });
        }
        let odd = || {
            bad(format!(
                "`{text}` is no entity: write cluster, node/NAME, store/ID, container/NAME or volume/NAME"
            ))
        };
        let (kind, name) = text.split_once('/').ok_or_else(odd)?;
        match kind {
            "node" => {
                let row = view.nodes.values().find(|row| row.name == name);
                let row = row
                    .ok_or_else(|| OperationError::not_found(format!("there is no node {name}")))?;
                let entity = Entity::Node(u64::from(row.id.0));
                Ok(About {
                    stores: stores_of(Some(row.id)),
                    ..about(Kind::Node, vec![entity], Some(row.id))
                })
            }
            "store" => {
                let id = name.strip_prefix("store-").unwrap_or(name);
                let id: u32 = id.parse().map_err(|_| odd())?;
                let entity = Entity::Store(u64::from(id));
                Ok(about(Kind::Store, vec![entity], None))
            }
            "container" => {
                let container = self.catalog.container_named(name).await;
                let id = container.map_err(catalog_error)?.row.id;
                let rows = self.catalog.list::<VolumeRow>().await;
                let rows = rows.map_err(catalog_error)?;
                let own = rows.iter().filter(|found| found.row.container == id);
                let volumes = own.map(|found| Entity::Volume(found.row.id.0));
                Ok(about(Kind::Container, volumes.collect(), None))
            }
            "volume" => {
                let id = self.volume_id(name).await?;
                Ok(about(Kind::Volume, vec![Entity::Volume(id.0)], None))
            }
            _ => Err(odd()),
        }
    }

    /// Has every node that lives, or one, carry out a step; what they say, and the names of those that did not.
    async fn ask_all(
        &self,
        operation: &Operation,
        only: Option<NodeId>,
    ) -> (Vec<MetricsPart>, Vec<String>) {
        let part = |answer| match answer {
            Answer::MetricsPart(part) => Some(part),
            _ => None,
        };
        let (answers, silent) = self.answers_of_all(operation, only).await;
        (answers.into_iter().filter_map(part).collect(), silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use history::{Counter, Kind as Timed};

    fn query(from: Option<u64>, to: Option<u64>, step: Option<u64>) -> MetricsQuery {
        MetricsQuery {
            from,
            to,
            step,
            ..MetricsQuery::default()
        }
    }

    const NOW: u64 = 1_764_115_200_000;

    #[test]
    fn ranges_get_steps_that_suit_them() {
        let hours = |hours: u64| query(Some(NOW - hours * 3_600_000), None, None);
        let step = |hours_ago| window(&hours(hours_ago), NOW).unwrap().2;
        assert_eq!([step(1), step(6), step(24)], [15, 60, 240]);
        assert_eq!([step(7 * 24), step(90 * 24)], [1800, 21_600]);
        let (from, to, _) = window(&query(None, None, None), NOW + 1).unwrap();
        assert_eq!((from, to), (NOW / 1000 - 3600, NOW / 1000 + 15));
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        let odd = [
            query(Some(NOW), Some(NOW), None),
            query(Some(NOW), Some(NOW - 1), None),
            query(Some(0), None, None),
            query(None, None, Some(0)),
            query(None, None, Some(20)),
            query(Some(NOW - 86_400_000), None, Some(15)),
            query(Some(u64::MAX - 1), Some(u64::MAX), Some(15)),
            query(None, None, Some(u64::MAX / 15 * 15)),
        ];
        for query in odd {
            let kind = window(&query, NOW).map_err(|error| error.kind);
            assert_eq!(kind, Err(api::ErrorKind::BadRequest), "{query:?}");
        }
    }

    #[test]
    fn what_travels_is_what_was_there() {
        let mut bucket = Bucket {
            seconds: 30,
            ..Bucket::default()
        };
        bucket.sum.counters[Counter::Writes as usize] = 8;
        bucket.sum.latency[Timed::Write as usize].0[45] = 8;
        bucket.levels[1] = 300;
        bucket.sum.gauges[1].max = 17;
        let series = Series {
            through: 90,
            buckets: vec![Bucket::default(), bucket.clone()],
        };
        let part = part_of(&series);
        assert_eq!(part.steps.len(), 1, "what is not known does not travel");
        assert_eq!(merged(std::slice::from_ref(&part), 2), series);
        let both = merged(&[part.clone(), part], 2);
        assert_eq!(both.buckets[1].sum.counters[Counter::Writes as usize], 16);
        assert_eq!(both.buckets[1].mean(1), Some(10));
        let odd = StepPart {
            at: 7,
            counters: vec![(200, 1)],
            latency: vec![vec![(200, 1)]; 5],
            gauges: vec![(1, 1); 9],
            seconds: 1,
        };
        let part = MetricsPart {
            through: 0,
            steps: vec![odd],
        };
        assert_eq!(merged(&[part], 2).buckets, vec![Bucket::default(); 2]);
    }

    #[test]
    fn a_sum_over_stores_ends_where_the_first_node_ends() {
        let part = |through: u64, level: u64, steps: u32| {
            let step = |at| StepPart {
                at,
                seconds: 15,
                gauges: vec![(level, level)],
                ..StepPart::default()
            };
            MetricsPart {
                through,
                steps: (0..steps).map(step).collect(),
            }
        };
        // A node that knows of no store holds nobody up.
        let parts = [part(45, 10, 3), part(30, 30, 2), MetricsPart::default()];
        let heard = Heard::of(parts.to_vec(), 4, Vec::new());
        let values = |name| {
            let window = Window {
                from: 0,
                to: 60,
                step: 15,
            };
            let measure = measure(name, Kind::Cluster).expect("it is one of its metrics");
            let values = heard.values(&measure, window).into_iter();
            let values = values.map(|value| value.map(|value| value.0));
            values.collect::<Vec<_>>()
        };
        let both = Some(40.0);
        assert_eq!(values("used"), [both, both, None, None]);
        let rates = [Some(0.0), Some(0.0), Some(0.0), None];
        assert_eq!(values("iops"), rates);
        // Within a step each counts for as long as it has told.
        let long = |through: u64, level: u64| MetricsPart {
            through,
            steps: vec![StepPart {
                seconds: through,
                gauges: vec![(level, level)],
                ..StepPart::default()
            }],
        };
        let heard = Heard::of(vec![long(45, 10), long(30, 30)], 1, Vec::new());
        let window = Window {
            from: 0,
            to: 60,
            step: 60,
        };
        let used = measure("used", Kind::Cluster).expect("it is one of its metrics");
        let values = heard.values(&used, window);
        assert_eq!(values, [Some(Figure::new(40.0))]);
    }

    #[test]
    fn entities_are_read_as_they_are_written() {
        for entity in [Entity::Node(1), Entity::Store(2), Entity::Volume(u64::MAX)] {
            assert_eq!(parse(&written(entity)), Some(entity));
        }
        assert_eq!(parse("disk/1"), None);
        assert_eq!(parse("volume/-1"), None);
    }

    #[test]
    fn names_of_metrics_are_checked_and_listed() {
        let error = measures("iops,speed", Kind::Volume).unwrap_err();
        assert!(
            error.message.contains("no metric `speed`"),
            "{}",
            error.message
        );
        assert!(
            error.message.contains("write_latency_p99"),
            "{}",
            error.message
        );
        assert_eq!(measures("iops, bandwidth", Kind::Cluster).unwrap().len(), 2);
    }
}
