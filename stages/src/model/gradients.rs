//! Gradients by the parameter that they are of.

use std::collections::HashMap;

use tch::Tensor;

/// Gradients that were found so far. A parameter is known by where its numbers lie.
#[derive(Debug)]
pub(super) struct Gradients(Option<HashMap<usize, Tensor>>);

fn key(parameter: &Tensor) -> usize {
    parameter.data_ptr() as usize
}

/// Whether a parameter is one of some others.
pub(super) fn is_among(parameter: &Tensor, others: &[&Tensor]) -> bool {
    others.iter().any(|other| key(other) == key(parameter))
}

impl Gradients {
    /// None yet.
    pub(super) fn none() -> Self {
        Self(Some(HashMap::new()))
    }

    /// For a way back from which no parameter learns.
    pub(super) fn unwanted() -> Self {
        Self(None)
    }

    /// Computes and notes a gradient, if they are wanted; several of one parameter add up.
    pub(super) fn add(&mut self, parameter: &Tensor, gradient: impl FnOnce() -> Tensor) {
        let Some(found) = &mut self.0 else { return };
        let sum = match found.remove(&key(parameter)) {
            Some(part) => part + gradient(),
            None => gradient(),
        };
        found.insert(key(parameter), sum);
    }

    fn has(&self, parameter: &Tensor) -> bool {
        self.0.as_ref().is_some_and(|found| found.contains_key(&key(parameter)))
    }

    /// Finds the gradients of the other parameters by automatic differentiation of `total`, and returns that by `leaf`.
    pub(super) fn add_others(
        &mut self,
        total: &Tensor,
        leaf: Option<&Tensor>,
        parameters: &[&Tensor],
    ) -> Option<Tensor> {
        let others: Vec<&Tensor> = parameters.iter().copied().filter(|parameter| !self.has(parameter)).collect();
        let inputs: Vec<&Tensor> = leaf.into_iter().chain(others.iter().copied()).collect();
        let mut gradients = Tensor::run_backward(&[total], &inputs, false, false).into_iter();
        let of_leaf = leaf.and_then(|_| gradients.next());
        for (parameter, gradient) in others.into_iter().zip(gradients) {
            self.add(parameter, || gradient);
        }
        of_leaf
    }

    /// The gradients of parameters, in their order; undefined where there is none.
    pub(super) fn of(&mut self, parameters: &[&Tensor]) -> Vec<Tensor> {
        let mut take = |parameter: &Tensor| self.0.as_mut().and_then(|found| found.remove(&key(parameter)));
        parameters.iter().map(|parameter| take(parameter).unwrap_or_default()).collect()
    }
}
