//! Nodes, and volumes by how busy they are: the last step of every node.

use super::super::Result;
use crate::host::Host;
use crate::upkeep::record::Rates;
use api::{
    Answer, BUSIEST_DEFAULT, BUSIEST_LIMIT_MAX, BusiestAnswer, BusiestQuery, BusyBy,
    BusyNodeAnswer, BusyVolumeAnswer, Figure, Operation, OperationError, RatesAnswer,
};
use history::Entity;
use std::cmp::Ordering;

fn answer_of(rates: &Rates) -> RatesAnswer {
    RatesAnswer {
        iops: Figure::new(rates.reads + rates.writes + rates.trims),
        read_iops: Figure::new(rates.reads),
        write_iops: Figure::new(rates.writes),
        bandwidth: Figure::new(rates.read_bytes + rates.written_bytes),
        read_bandwidth: Figure::new(rates.read_bytes),
        write_bandwidth: Figure::new(rates.written_bytes),
        latency_us: rates.mean_us.map(Figure::new),
        latency_p99_us: rates.p99_us.map(|us| Figure::new(us as f64)),
    }
}

/// Puts the busiest first; those that are alike by name. Pure.
fn arrange(volumes: &mut Vec<BusyVolumeAnswer>, by: BusyBy, limit: usize) {
    let weight = |volume: &BusyVolumeAnswer| match by {
        BusyBy::Iops => volume.rates.iops,
        BusyBy::Bandwidth => volume.rates.bandwidth,
        BusyBy::Latency => volume.rates.latency_us.unwrap_or_default(),
    };
    volumes.sort_by(|one, other| {
        let order = weight(other).partial_cmp(&weight(one));
        order
            .unwrap_or(Ordering::Equal)
            .then_with(|| one.name.cmp(&other.name))
    });
    volumes.truncate(limit);
}

impl Host {
    /// What all nodes say.
    pub(in super::super) async fn busiest(&self, query: BusiestQuery) -> Result<Answer> {
        let limit = query.limit.unwrap_or(BUSIEST_DEFAULT);
        if !(1..=BUSIEST_LIMIT_MAX).contains(&limit) {
            let hint = format!("`limit` of the busiest volumes is 1 to {BUSIEST_LIMIT_MAX}");
            return Err(OperationError::bad_request(hint));
        }
        let operation = Operation::Busiest(query);
        let (answers, silent) = self.answers_of_all(&operation, None).await;
        let mut all = BusiestAnswer {
            silent,
            ..BusiestAnswer::default()
        };
        for answer in answers {
            let Answer::Busiest(part) = answer else {
                continue;
            };
            all.at_ms = all.at_ms.max(part.at_ms);
            all.nodes.extend(part.nodes);
            all.volumes.extend(part.volumes);
        }
        all.nodes.sort_by(|one, other| one.name.cmp(&other.name));
        arrange(
            &mut all.volumes,
            query.by.unwrap_or_default(),
            limit as usize,
        );
        Ok(Answer::Busiest(all))
    }

    /// What this node says: itself, and the busiest of its own volumes.
    pub(in super::super) fn busiest_here(&self, query: BusiestQuery) -> Answer {
        let present = &self.upkeep.present;
        let at_ms = present.at_ms.get();
        let rates = present.rates.borrow();
        let of = |entity: Entity| rates.get(&entity).map(answer_of);
        let containers = self.members.look(|view| view.containers.clone());
        let served = self.volumes.served();
        let mut volumes: Vec<BusyVolumeAnswer> = served
            .iter()
            .filter_map(|(volume, container)| {
                let row = containers.get(container);
                Some(BusyVolumeAnswer {
                    id: volume.id().0,
                    name: volume.name().to_owned(),
                    container: row.map_or_else(String::new, |row| row.name.clone()),
                    owner: self.id.0,
                    rates: of(Entity::Volume(volume.id().0))?,
                })
            })
            .collect();
        let limit = query
            .limit
            .unwrap_or(BUSIEST_DEFAULT)
            .min(BUSIEST_LIMIT_MAX);
        arrange(&mut volumes, query.by.unwrap_or_default(), limit as usize);
        let own = Entity::Node(u64::from(self.id.0));
        let process = self.options.process.as_ref();
        let process = process.and_then(|process| process.usage());
        let node = of(own).map(|own_rates| BusyNodeAnswer {
            id: self.id.0,
            name: self.options.name.clone(),
            cpu_percent: process
                .and(rates.get(&own))
                .map(|rates| Figure::new(rates.cpu)),
            resident: process.map(|usage| usage.resident.0),
            volumes: served.len() as u64,
            rates: own_rates,
        });
        Answer::Busiest(BusiestAnswer {
            at_ms,
            nodes: node.into_iter().collect(),
            volumes,
            silent: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first_and_the_rest_is_left_out() {
        let volume = |name: &str, iops: f64, latency: Option<f64>| BusyVolumeAnswer {
            name: name.to_owned(),
            rates: RatesAnswer {
                iops: Figure(iops),
                latency_us: latency.map(Figure),
                ..RatesAnswer::default()
            },
            ..BusyVolumeAnswer::default()
        };
        let all = || {
            vec![
                volume("b", 0.0, None),
                volume("a", 0.0, None),
                volume("c", 9.0, Some(5.0)),
                volume("d", 1.0, Some(7.0)),
            ]
        };
        let names = |by, limit| {
            let mut volumes = all();
            arrange(&mut volumes, by, limit);
            volumes.into_iter().map(|one| one.name).collect::<Vec<_>>()
        };
        assert_eq!(names(BusyBy::Iops, 9), ["c", "d", "a", "b"]);
        assert_eq!(names(BusyBy::Latency, 2), ["d", "c"]);
        assert_eq!(names(BusyBy::Bandwidth, 1), ["a"]);
    }
}
