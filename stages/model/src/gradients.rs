//! Gradients by parameter.

use std::collections::HashMap;

use tch::Tensor;

/// The gradients computed so far. A parameter is identified by its memory address.
#[derive(Debug)]
pub(super) struct Gradients(Option<HashMap<usize, Tensor>>);

fn key(parameter: &Tensor) -> usize {
    parameter.data_ptr() as usize
}

/// Whether a parameter is among others.
pub(super) fn is_among(parameter: &Tensor, others: &[&Tensor]) -> bool {
    others.iter().any(|other| key(other) == key(parameter))
}

impl Gradients {
    /// No gradients yet.
    pub(super) fn none() -> Self {
        Self(Some(HashMap::new()))
    }

    /// Discards gradients, for a backward pass without trained parameters.
    pub(super) fn unwanted() -> Self {
        Self(None)
    }

    /// Computes and records a gradient, if it is needed; several for one parameter are summed.
    pub(super) fn add(&mut self, parameter: &Tensor, gradient: impl FnOnce() -> Tensor) {
        let Some(found) = &mut self.0 else { return };
        let sum = match found.remove(&key(parameter)) {
            Some(part) => part + gradient(),
            None => gradient(),
        };
        found.insert(key(parameter), sum);
    }

    /// The same for the product `gradientᵀ input`, the gradient with respect to the weight of a linear layer,
    /// without a temporary tensor if it is added to an existing gradient. It has the weight's memory layout.
    pub(super) fn add_product(&mut self, weight: &Tensor, gradient: &Tensor, input: &Tensor) {
        let Some(found) = &mut self.0 else { return };
        // Weights stored by input are contiguous when transposed.
        let is_turned = !weight.is_contiguous();
        let (rows, columns) = if is_turned { (input, gradient) } else { (gradient, input) };
        match found.get(&key(weight)) {
            Some(known) => {
                let _ = torch::host_copy::transposed_if(known, is_turned).addmm_(&rows.tr(), columns);
            }
            None => {
                let product = rows.tr().matmul(columns).to_kind(weight.kind());
                found.insert(key(weight), torch::host_copy::transposed_if(&product, is_turned));
            }
        }
    }

    /// Modifies a recorded gradient.
    pub(super) fn change(&self, parameter: &Tensor, change: impl FnOnce(&Tensor)) {
        if let Some(gradient) = self.0.as_ref().and_then(|found| found.get(&key(parameter))) {
            change(gradient);
        }
    }

    fn has(&self, parameter: &Tensor) -> bool {
        self.0.as_ref().is_some_and(|found| found.contains_key(&key(parameter)))
    }

    /// Computes the gradients of the other parameters by automatic differentiation of `total`, and returns the
    /// one with respect to `leaf`.
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

    /// The gradients of parameters, in their order; undefined for those without one.
    pub(super) fn for_parameters(&mut self, parameters: &[&Tensor]) -> Vec<Tensor> {
        let mut take = |parameter: &Tensor| self.0.as_mut().and_then(|found| found.remove(&key(parameter)));
        parameters.iter().map(|parameter| take(parameter).unwrap_or_default()).collect()
    }
}
