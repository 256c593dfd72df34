//! What a step is told by the host, kept on the device: learning rates, counts of steps, weights of losses. With them there a
//! step is the same work each time, and Adam is a few kernels over all parameters.

use tch::{Device, Kind, Tensor};

use super::{
    memory::numbers,
    optimiser::{Adam, BETA_1, BETA_2, EPSILON, Slot},
    schedule::Schedule,
    step::{Learner, StepLosses},
};
use crate::libtorch::AdamStep;

/// A number on the device, which is written to only when it changes.
#[derive(Debug)]
struct Told {
    tensor: Tensor,
    value: f64,
}

impl Told {
    fn new(kind: Kind, device: Device) -> Self {
        Self { tensor: Tensor::zeros([], (kind, device)), value: 0.0 }
    }

    fn tell(&mut self, value: f64) {
        if self.value != value {
            let _ = tch::no_grad(|| self.tensor.fill_(value));
            self.value = value;
        }
    }
}

/// Weights of losses, each a scalar on the device.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) adversary: Tensor,
    pub(super) divergence: Tensor,
    /// What they were last told to be.
    values: [f64; 2],
}

impl Weights {
    fn new(kind: Kind, device: Device) -> Self {
        let zero = || Tensor::zeros([], (kind, device));
        Self { adversary: zero(), divergence: zero(), values: [0.0; 2] }
    }

    /// The same tensors once more.
    pub(super) fn shallow_clone(&self) -> Self {
        let Self { adversary, divergence, values } = self;
        Self { adversary: adversary.shallow_clone(), divergence: divergence.shallow_clone(), values: *values }
    }
}

/// What an optimiser is told by the host, on the device.
#[derive(Debug)]
pub(super) struct OnDevice {
    rate: Told,
    /// Steps of each slot, `[slots]`, float32.
    steps: Tensor,
}

impl OnDevice {
    fn new(slots: &[Slot]) -> Self {
        let device = slots.first().map_or(Device::Cpu, |slot| slot.parameter.device());
        // libtorch's kernels read a rate of float32 on a GPU, and of any kind on a CPU.
        let kind = if device == Device::Cpu { Kind::Double } else { Kind::Float };
        let counts = i64::try_from(slots.len()).expect("there are few");
        let mut made = Self { rate: Told::new(kind, device), steps: Tensor::zeros([counts], (Kind::Float, device)) };
        made.restore(slots);
        made
    }

    /// Takes the counts of slots.
    pub(super) fn restore(&mut self, slots: &[Slot]) {
        let counts: Vec<i64> = slots.iter().map(|slot| i64::from(slot.steps)).collect();
        tch::no_grad(|| self.steps.copy_(&Tensor::from_slice(&counts)));
    }

    /// The counts of all slots, read from the device at once.
    pub(super) fn steps(&self) -> Vec<i64> {
        numbers::<i64>(&self.steps.to_kind(Kind::Int64).to_device(Device::Cpu)).to_vec()
    }

    /// The count of a slot, a scalar on the device.
    pub(super) fn count(&self, slot: usize) -> Tensor {
        self.steps.select(0, i64::try_from(slot).expect("there are few"))
    }
}

impl Adam {
    /// Moves to the device what differs from step to step.
    fn keep_on_device(&mut self) {
        self.on_device = Some(OnDevice::new(&self.slots));
    }

    fn tell_rate(&mut self, rate: f64) {
        if let Some(on_device) = &mut self.on_device {
            on_device.rate.tell(rate);
        }
    }

    /// What [`Adam::step`] does, at the rate that was told, in a few kernels.
    pub(super) fn step_on_device(&self, on_device: &OnDevice, gradients: &[Tensor]) -> Tensor {
        // Lists of equally many views: weights that lie by input are one piece when turned, and so must all be that belongs to them.
        let mut views: [Vec<Tensor>; 4] = Default::default();
        let mut steps = Vec::new();
        for (at, (slot, gradient)) in self.slots.iter().zip(gradients).enumerate() {
            if !gradient.defined() {
                continue;
            }
            let turned = !slot.parameter.is_contiguous();
            let lying = |tensor: &Tensor| if turned { tensor.tr() } else { tensor.shallow_clone() };
            let parts = [&slot.parameter, gradient, &slot.first, &slot.second];
            for (views, part) in views.iter_mut().zip(parts) {
                views.push(lying(part));
            }
            let of_gradient = views[1].pop().map(|gradient| gradient.contiguous());
            views[1].extend(of_gradient);
            steps.push(on_device.count(at));
        }
        if steps.is_empty() {
            return Tensor::zeros([], (on_device.rate.tensor.kind(), on_device.rate.tensor.device()));
        }
        let steps: Vec<&Tensor> = steps.iter().collect();
        let [parameters, gradients, first, second] = views.each_ref().map(|views| views.iter().collect::<Vec<_>>());
        let step = AdamStep {
            parameters: &parameters,
            gradients: &gradients,
            first: &first,
            second: &second,
            steps: &steps,
            rate: &on_device.rate.tensor,
            betas: [BETA_1, BETA_2],
            weight_decay: self.weight_decay,
            decoupled: self.decoupled,
            epsilon: EPSILON,
            clip: self.clip,
        };
        // As with every operation of libtorch's, only a bug makes it fail.
        step.make().expect("gradients, parameters and state are of one shape, kind and device")
    }
}

impl Learner {
    /// Moves to the device what differs from step to step; from then on [`Learner::set_on_device`] comes before every step.
    pub(super) fn keep_on_device(&mut self) {
        for adam in [&mut self.autoencoder_adam, &mut self.doser_adam, &mut self.adversary_adam] {
            adam.keep_on_device();
        }
        let parameters = &self.network.parameters;
        self.weights = Some(Weights::new(parameters.kind(), parameters.device()));
    }

    /// The learning rates of autoencoder, dose curves and adversaries.
    pub(super) fn rates(&self, schedule: Schedule) -> [f64; 3] {
        let (train, adversary) = (&self.plan.train, &self.plan.adversary);
        [train.lr, train.doser_lr, adversary.adv_lr].map(|rate| rate * schedule.rate)
    }

    /// Tells the device what the schedule says; the host does not wait.
    pub(super) fn set_on_device(&mut self, schedule: Schedule) {
        let [autoencoder, doser, adversary] = self.rates(schedule);
        self.autoencoder_adam.tell_rate(autoencoder);
        self.doser_adam.tell_rate(doser);
        self.adversary_adam.tell_rate(adversary);
        if let Some(weights) = &mut self.weights {
            let told = [schedule.adversary_weight, schedule.divergence_weight];
            let tensors = [&mut weights.adversary, &mut weights.divergence];
            for ((tensor, before), now) in tensors.into_iter().zip(weights.values).zip(told) {
                if before != now {
                    let _ = tch::no_grad(|| tensor.fill_(now));
                }
            }
            weights.values = told;
        }
    }
}

impl StepLosses {
    /// The same tensors once more.
    pub(super) fn shallow_clone(&self) -> Self {
        let values = self.values.iter().map(|(name, value)| (name.clone(), value.shallow_clone()));
        Self { values: values.collect(), updates: self.updates, weights: None, sums: self.sums.clone() }
    }
}
