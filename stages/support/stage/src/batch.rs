//! A batch on its way from the batcher to the model.

use schemas::{
    ByteSize,
    batch::{BatchPlan, Expression, Labels},
};

use crate::pool::Pooled;

/// A minibatch.
#[derive(Debug)]
pub struct Batch {
    /// Its cells and its position in the order.
    pub plan: BatchPlan,
    /// The conditions of its cells.
    pub labels: Labels,
    /// Their expression; the buffer is recycled when the batch is dropped.
    pub expression: Pooled<Expression>,
}

impl ByteSize for Batch {
    fn byte_size(&self) -> usize {
        self.plan.byte_size() + self.labels.byte_size() + self.expression.byte_size()
    }
}
