//! Questions that all nodes answer for themselves, and that one puts together: figures over time, the busiest volumes, logs.

use super::Result;
use crate::host::Host;
use api::{Answer, Operation, OperationError};
use futures_util::future::join_all;
use history::Query;
use vocab::NodeId;
use world::Duration;

/// Patience with a node that is asked.
const PATIENCE: Duration = Duration::from_secs(5);

impl Host {
    /// Has every node that lives, or one, carry out a step; their answers, and the names of those that gave none.
    pub(super) async fn answers_of_all(
        &self,
        operation: &Operation,
        only: Option<NodeId>,
    ) -> (Vec<Answer>, Vec<String>) {
        let view = self.view();
        let nodes = view.nodes.values().filter(|row| !view.is_candidate(row.id));
        let nodes = nodes.filter(|row| only.is_none_or(|only| only == row.id));
        let asked = nodes.map(|row| async {
            let answer = self.step_at(row.id, operation).await;
            answer.ok_or_else(|| row.name.clone())
        });
        let (mut answers, mut silent) = (Vec::new(), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(name) => silent.push(name),
            }
        }
        silent.sort_unstable();
        (answers, silent)
    }

    async fn step_at(&self, node: NodeId, operation: &Operation) -> Option<Answer> {
        if node == self.id {
            return self.step_here(operation.clone()).await.ok();
        }
        if !self.members.is_alive(node) {
            return None;
        }
        let asked = self.ask_node(node, operation, PATIENCE, &mut false).await;
        asked.ok()?.ok()
    }

    /// A step of a question, here.
    pub(super) async fn step_here(&self, operation: Operation) -> Result<Answer> {
        match operation {
            Operation::MetricsPart {
                entities,
                from,
                to,
                step,
            } => {
                let query = Query {
                    entities: Vec::new(),
                    from,
                    to,
                    step,
                };
                self.metrics_part(&entities, query).await
            }
            Operation::Busiest(query) => Ok(self.busiest_here(query)),
            Operation::LogsPart(part) => Ok(self.logs_here(part).await),
            other => Err(OperationError::failed(format!(
                "operation {} is no step of a question; this is a bug",
                other.name()
            ))),
        }
    }
}
