//! Gradients by the parameter that they are of.

use std::collections::HashMap;

use tch::Tensor;

/// Gradients that were found so far. A parameter is known by where its numbers lie.
#[derive(Debug, Default)]
pub(super) struct Gradients(HashMap<usize, Tensor>);

fn key(parameter: &Tensor) -> usize {
    parameter.data_ptr() as usize
}

impl Gradients {
    /// Notes a gradient; several of one parameter add up.
    pub(super) fn add(&mut self, parameter: &Tensor, gradient: Tensor) {
        let sum = match self.0.remove(&key(parameter)) {
            Some(part) => part + gradient,
            None => gradient,
        };
        self.0.insert(key(parameter), sum);
    }

    /// Finds the gradients of the other parameters by automatic differentiation of `total`, and returns that by `leaf`.
    pub(super) fn add_others(
        &mut self,
        total: &Tensor,
        leaf: Option<&Tensor>,
        parameters: &[&Tensor],
    ) -> Option<Tensor> {
        let others: Vec<&Tensor> =
            parameters.iter().copied().filter(|parameter| !self.0.contains_key(&key(parameter))).collect();
        let inputs: Vec<&Tensor> = leaf.into_iter().chain(others.iter().copied()).collect();
        let mut gradients = Tensor::run_backward(&[total], &inputs, false, false).into_iter();
        let of_leaf = leaf.and_then(|_| gradients.next());
        for (parameter, gradient) in others.into_iter().zip(gradients) {
            self.add(parameter, gradient);
        }
        of_leaf
    }

    /// The gradients of parameters, in their order; undefined where there is none.
    pub(super) fn of(&mut self, parameters: &[&Tensor]) -> Vec<Tensor> {
        parameters.iter().map(|parameter| self.0.remove(&key(parameter)).unwrap_or_default()).collect()
    }
}
