//! Adam over all parameters of an optimiser (`cuda/adam.cuh`).

use schemas::numbers::to_i64;
use tch::{Kind, Tensor};
use torch::launch::{Address, Argument, arguments};

use super::{ROW_THREADS, count, empty, run};

/// Maximum number of parameters per kernel launch: `MOST_TENSORS` in the source.
const MOST_TENSORS: usize = 48;
/// Elements per block: `CHUNK` in the source.
const CHUNK: i64 = 16_384;

/// A parameter with its gradient and moments, all in the same memory layout.
#[derive(Debug)]
pub struct AdamParameter {
    /// The parameter; overwritten.
    pub parameter: Tensor,
    /// The gradient of the loss.
    pub gradient: Tensor,
    /// Running means of the gradients; overwritten.
    pub first: Tensor,
    /// Running means of their squares; overwritten.
    pub second: Tensor,
    /// Number of steps taken, a scalar of float32; incremented.
    pub steps: Tensor,
    /// A copy of the parameter in bfloat16, updated with it.
    pub rounded: Option<Tensor>,
}

/// The settings of a step.
#[derive(Clone, Copy, Debug)]
pub struct AdamStepSettings<'a> {
    /// The learning rate, a scalar of float64.
    pub rate: &'a Tensor,
    /// Decay rates of the means.
    pub betas: [f64; 2],
    /// Weight decay: this times the parameter is added to the gradient or, if decoupled, this times the rate
    /// shrinks the parameter.
    pub weight_decay: f64,
    /// Whether weight decay is decoupled.
    pub is_decoupled: bool,
    /// Keeps the denominator positive.
    pub epsilon: f64,
    /// The largest norm of all gradients together; 0: no limit.
    pub clip: f64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct SlotAddresses<'a> {
    parameter: Address<'a>,
    gradient: Address<'a>,
    first: Address<'a>,
    second: Address<'a>,
    steps: Address<'a>,
    rounded: Address<'a>,
    count: i64,
}

impl Argument for SlotAddresses<'_> {}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Slots<'a> {
    slots: [SlotAddresses<'a>; MOST_TENSORS],
    blocks_before: [i64; MOST_TENSORS + 1],
    count: i64,
}

impl Argument for Slots<'_> {}

arguments! {
    SquareSumsArguments<'a>, "square_sums" {
        slots: Slots<'a>,
        sums: Address<'a>,
    }
}

arguments! {
    AdamStepArguments<'a>, "adam_step" {
        slots: Slots<'a>,
        sums: Address<'a>,
        norm: Address<'a>,
        rate: Address<'a>,
        all_blocks: i64,
        is_decoupled: i64,
        beta_1: f64,
        beta_2: f64,
        weight_decay: f64,
        epsilon: f64,
        clip: f64,
    }
}

impl<'a> Slots<'a> {
    fn new(slots: &'a [AdamParameter]) -> Self {
        let none = Address::none();
        let empty = SlotAddresses {
            parameter: none,
            gradient: none,
            first: none,
            second: none,
            steps: none,
            rounded: none,
            count: 0,
        };
        let mut all =
            Self { slots: [empty; MOST_TENSORS], blocks_before: [0; MOST_TENSORS + 1], count: to_i64(slots.len()) };
        for (at, slot) in slots.iter().enumerate() {
            let count = to_i64(slot.parameter.numel());
            all.slots[at] = SlotAddresses {
                parameter: Address::from_tensor_mut(&slot.parameter),
                gradient: Address::from_tensor(&slot.gradient),
                first: Address::from_tensor_mut(&slot.first),
                second: Address::from_tensor_mut(&slot.second),
                steps: Address::from_tensor_mut(&slot.steps),
                rounded: Address::from_optional(slot.rounded.as_ref()),
                count,
            };
            all.blocks_before[at + 1] = all.blocks_before[at] + (count + CHUNK - 1) / CHUNK;
        }
        all
    }

    fn blocks(&self) -> i64 {
        self.blocks_before.iter().copied().max().unwrap_or(0)
    }
}

/// Takes a step; returns the overall norm of the gradients before clipping, a scalar.
pub fn step(slots: &[AdamParameter], settings: AdamStepSettings<'_>) -> Tensor {
    let Some(first) = slots.first() else { panic!("an optimiser has parameters") };
    let like = &first.parameter;
    let norm = empty(like, &[]);
    let groups: Vec<Slots<'_>> = slots.chunks(MOST_TENSORS).map(Slots::new).collect();
    let all_blocks = groups.iter().map(Slots::blocks).sum();
    let sums = Tensor::empty([all_blocks], (Kind::Double, like.device()));
    let mut before = 0;
    for slots in &groups {
        let part = sums.narrow(0, before, slots.blocks());
        run(
            &SquareSumsArguments { slots: *slots, sums: Address::from_tensor_mut(&part) },
            like,
            count(slots.blocks()),
            ROW_THREADS,
            0,
        );
        before += slots.blocks();
    }
    for slots in groups {
        let blocks = slots.blocks();
        let arguments = AdamStepArguments {
            slots,
            sums: Address::from_tensor(&sums),
            norm: Address::from_tensor_mut(&norm),
            rate: Address::from_tensor(settings.rate),
            all_blocks,
            is_decoupled: i64::from(settings.is_decoupled),
            beta_1: settings.betas[0],
            beta_2: settings.betas[1],
            weight_decay: settings.weight_decay,
            epsilon: settings.epsilon,
            clip: settings.clip,
        };
        run(&arguments, like, count(blocks), ROW_THREADS, 0);
    }
    norm
}
