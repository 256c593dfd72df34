//! Gradients by the parameter that they are of.

use std::collections::HashMap;

use tch::Tensor;

/// Gradients that were found so far. A parameter is known by where its numbers lie.
#[derive(Debug)]
pub(super) struct Gradients(Option<HashMap<usize, Tensor>>);

fn key(parameter: &Tensor) -> usize {
    parameter.data_ptr() as usize
}

/// A matrix, or the same one turned.
pub(super) fn lying(matrix: &Tensor, is_turned: bool) -> Tensor {
    if is_turned { matrix.tr() } else { matrix.shallow_clone() }
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

    /// The same of the product `gradientᵀ input`, by the weight of a linear layer, without a tensor of its own where it is added to one that
    /// is known. It lies in memory as the weight does.
    pub(super) fn add_product(&mut self, weight: &Tensor, gradient: &Tensor, input: &Tensor) {
        let Some(found) = &mut self.0 else { return };
        // Weights that lie by input are one piece when turned.
        let is_turned = !weight.is_contiguous();
        let (rows, columns) = if is_turned { (input, gradient) } else { (gradient, input) };
        match found.get(&key(weight)) {
            Some(known) => {
                let _ = lying(known, is_turned).addmm_(&rows.tr(), columns);
            }
            None => {
                let product = rows.tr().matmul(columns).to_kind(weight.kind());
                found.insert(key(weight), lying(&product, is_turned));
            }
        }
    }

    /// Changes a gradient that is known.
    pub(super) fn change(&self, parameter: &Tensor, change: impl FnOnce(&Tensor)) {
        if let Some(gradient) = self.0.as_ref().and_then(|found| found.get(&key(parameter))) {
            change(gradient);
        }
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
