//! Kernels give the same results with one thread per block or many: no thread reads what another has not written yet.
//!
//! Values are checked where steps are built from the kernels (`tests/network/replayed.rs`), in blocks of one thread.

use std::cell::RefCell;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};
use torch::launch::with_host_threads;

use super::{
    adam::{self, AdamParameter, AdamStepSettings},
    expected::add_expected,
    guess::{ClassificationTargets, losses_and_accuracy},
    latent::{DoseCurve, LatentTerms, basal_back},
    layer::{
        BatchNormParameters, DeviceDropout, LayerForward, batch_norm, batch_norm_back, column_sums, cut, cut_back,
        layer_norm,
    },
    losses::LossSums,
    mixing::Mixing,
    negative_binomial::negative_binomial,
    penalty::{add_row, down, up, value},
    slots::take_batch,
    unpack::{Narrow, Packed, Unpacked},
};

const CELLS: i64 = 23;
const GENES: i64 = 37;
/// Not a multiple of a strip's or a warp's width.
const WIDTH: i64 = 19;

/// Runs work in blocks of one thread and of 64, with the same random numbers, and compares the results.
#[track_caller]
fn alike(work: impl Fn() -> Vec<Tensor>) {
    let in_blocks_of = |threads: u32| {
        RANDOM.set(ChaCha8Rng::seed_from_u64(5));
        with_host_threads(threads, &work)
    };
    let (one, many) = (in_blocks_of(1), in_blocks_of(64));
    for (at, (one, many)) in one.iter().zip(&many).enumerate() {
        let (one, many) = (one.to_kind(Kind::Double), many.to_kind(Kind::Double));
        let off = (&one - many).abs().max().double_value(&[]);
        let scale = one.abs().max().double_value(&[]).max(1.0);
        assert!(off <= 1e-11 * scale, "tensor {at} is off by {off:e} of {scale:e}");
    }
}

thread_local! {
    /// A generator other than libtorch's, which other tests use at the same time.
    static RANDOM: RefCell<ChaCha8Rng> = RefCell::new(ChaCha8Rng::seed_from_u64(0));
}

fn random<T>(size: &[i64], draw: impl Fn(&mut ChaCha8Rng) -> T) -> Tensor
where
    T: tch::kind::Element,
{
    let numbers: Vec<T> = RANDOM.with_borrow_mut(|from| (0..size.iter().product()).map(|_: i64| draw(from)).collect());
    Tensor::from_slice(&numbers).view(size)
}

fn drawn(size: &[i64]) -> Tensor {
    random(size, |from| from.random_range(-2.0..2.0_f64))
}

fn whole(below: i64, size: &[i64], kind: Kind) -> Tensor {
    random(size, |from| from.random_range(0..below)).to_kind(kind)
}

fn bytes(numbers: &Tensor) -> Tensor {
    numbers.view_dtype(Kind::Uint8).contiguous()
}

/// Three non-zeros per cell; those assigned to the last cell are zero padding, all of one gene.
fn packed() -> Packed {
    let row = Tensor::arange(3, (Kind::Int64, Device::Cpu)) * 11;
    let genes = (Tensor::arange(CELLS, (Kind::Int64, Device::Cpu)).unsqueeze(1) + row).remainder(GENES);
    let values = whole(9, &[CELLS, 3], Kind::Float) + 1.0;
    let _ = values.get(CELLS - 1).zero_();
    let _ = genes.get(CELLS - 1).fill_(4);
    Packed {
        pointers: Tensor::arange_start_step(0, 3 * CELLS + 1, 3, (Kind::Int, Device::Cpu)),
        entries: Tensor::from_slice(&[3 * i32::try_from(CELLS).expect("few cells") - 3]),
        genes: bytes(&genes.to_kind(Kind::Int).view([-1])),
        values: bytes(&values.view([-1])),
        gene_type: Narrow::U32,
        value_type: Narrow::F32,
        library: values.sum_dim_intlist([1_i64].as_slice(), false, Kind::Double),
        codes: whole(4, &[CELLS, 2], Kind::Int),
        doses: whole(3, &[CELLS, 2], Kind::Float),
        covariates: whole(2, &[1, CELLS], Kind::Int),
        combinations: whole(3, &[CELLS], Kind::Int),
    }
}

fn mixing() -> Mixing {
    let partners = random(&[CELLS], |from| from.random_range(0.0..1.0_f64)).argsort(0, false);
    let partner_of = partners.argsort(0, false);
    Mixing { partners, partner_of, share: Tensor::from(0.3) }
}

fn batch(is_mixed: bool) -> Unpacked {
    packed().unpack(GENES, Kind::Double, true, is_mixed.then(mixing))
}

fn dropout() -> DeviceDropout {
    DeviceDropout::new(0.3, &Tensor::from(77_i64), [3, 5])
}

fn norm_passed(weight: &Tensor) -> LayerForward {
    let [bias, linear_bias, running_mean, running_variance] = [(); 4].map(|()| drawn(&[WIDTH]));
    let norm = BatchNormParameters {
        weight,
        bias: &bias,
        running_mean: &running_mean,
        running_variance: &running_variance,
        epsilon: 1e-3,
        momentum: 0.1,
    };
    batch_norm(drawn(&[CELLS, WIDTH]), &linear_bias, norm, dropout())
}

#[test]
fn a_batch_is_taken_apart() {
    for is_mixed in [false, true] {
        alike(|| {
            let Unpacked { dense, library, codes, doses, covariates, combinations, .. } = batch(is_mixed);
            vec![dense, library, codes, doses, covariates, combinations]
        });
    }
}

#[test]
fn layers_with_a_norm_over_cells_are_passed_down_up_and_back() {
    alike(|| {
        let weight = drawn(&[WIDTH]);
        let passed = norm_passed(&weight);
        let down = down(&passed, Some(&weight), &drawn(&[WIDTH]));
        let adjoint = drawn(&[CELLS, WIDTH]);
        let left = up(&passed, Some(&weight), &down, &adjoint).expect("there is a norm");
        let gradient = drawn(&[CELLS, WIDTH]);
        let by = batch_norm_back(&passed, &weight, Some(&left), &gradient);
        let sums = column_sums(&gradient);
        let LayerForward { linear, output, .. } = passed;
        vec![linear, output, down.by_input, adjoint, gradient, by.weight, by.bias, by.linear_bias, sums]
    });
}

#[test]
fn layers_with_a_norm_over_features_or_none_are_passed_down_up_and_back() {
    for has_norm in [false, true] {
        alike(|| {
            let (linear, bias) = (drawn(&[CELLS, WIDTH]), drawn(&[WIDTH]));
            let passed =
                if has_norm { layer_norm(linear, &bias, 1e-5, dropout()) } else { cut(linear, &bias, dropout()) };
            let down = down(&passed, None, &drawn(&[CELLS, WIDTH]));
            let adjoint = drawn(&[CELLS, WIDTH]);
            let left = up(&passed, None, &down, &adjoint);
            let gradient = drawn(&[CELLS, WIDTH]);
            cut_back(&passed, left.as_ref(), &gradient);
            vec![passed.linear, passed.output, down.by_input, adjoint, gradient]
        });
    }
}

#[test]
fn penalties_are_summed() {
    alike(|| {
        let (slopes, penalty, matrix) = (drawn(&[CELLS, WIDTH]), drawn(&[]), drawn(&[CELLS, WIDTH]));
        let adjoint = value(&slopes, 3.0, &penalty);
        add_row(&matrix, &drawn(&[WIDTH]));
        vec![adjoint, penalty, matrix]
    });
}

#[test]
fn likelihoods_are_computed_with_their_gradients() {
    for is_mixed in [false, true] {
        alike(|| {
            let batch = batch(is_mixed);
            let (logits, table) = (drawn(&[CELLS, GENES]), drawn(&[3, GENES]));
            let rows = whole(3, &[CELLS], Kind::Int64);
            let result = negative_binomial(&logits, &drawn(&[GENES]), Some((&table, &rows)), &batch, &drawn(&[GENES]));
            vec![logits, result.loss, result.by_dispersion]
        });
    }
}

#[test]
fn guesses_are_judged() {
    for (is_mixed, is_focal) in [(false, false), (true, false), (false, true), (true, true)] {
        alike(|| {
            let batch = batch(is_mixed);
            let (logits, weights, loss) = (drawn(&[CELLS, 3]), drawn(&[3]).abs(), drawn(&[]));
            let judged = ClassificationTargets {
                classes: &batch.combinations,
                weights: Some(&weights),
                emphasis: None,
                is_alone: false,
                is_focal,
                by_class: true,
            };
            let accuracy = losses_and_accuracy(&logits, judged, &batch, &loss);
            vec![logits, loss, accuracy]
        });
    }
}

#[test]
fn latents_are_added_up_and_differentiated() {
    for curve in [DoseCurve::Linear, DoseCurve::Sigmoid, DoseCurve::LogSigmoid] {
        alike(|| {
            let batch = batch(true);
            let (embeddings, beta, bias) = (drawn(&[4, WIDTH]), drawn(&[1, 4]), drawn(&[1, 4]));
            let covariates = [drawn(&[2, WIDTH])];
            let added =
                LatentTerms { embeddings: &embeddings, beta: &beta, bias: &bias, curve, covariates: &covariates };
            let sources = whole(CELLS, &[CELLS], Kind::Int64);
            let latent = added.to(&drawn(&[CELLS, WIDTH]), Some(&sources), &batch);
            let gradient = drawn(&[CELLS, WIDTH]);
            let by = added.back(&gradient, &batch);
            let opponents = [drawn(&[CELLS, WIDTH]), drawn(&[CELLS, WIDTH])];
            let by_basal = basal_back(&gradient, Some(&sources), &opponents, Some(&Tensor::from(0.7)));
            let curves = by.curves.into_iter().flatten();
            [latent, by.embeddings, by_basal].into_iter().chain(curves).chain(by.covariates).collect()
        });
    }
}

#[test]
fn adam_makes_a_step_over_more_parameters_than_a_kernel_takes() {
    for is_decoupled in [false, true] {
        alike(|| {
            // One of them takes several blocks.
            let sizes = (0..60_i64).map(|at| if at == 7 { 40_000 } else { at + 1 });
            let slots: Vec<AdamParameter> = sizes
                .map(|size| AdamParameter {
                    parameter: drawn(&[size]),
                    gradient: drawn(&[size]),
                    first: drawn(&[size]),
                    second: drawn(&[size]).abs(),
                    steps: Tensor::from(2.0_f32),
                    rounded: (size == 40_000).then(|| Tensor::zeros([size], (Kind::BFloat16, Device::Cpu))),
                })
                .collect();
            let rate = Tensor::from(0.01);
            let settings = AdamStepSettings {
                rate: &rate,
                betas: [0.9, 0.999],
                weight_decay: 0.1,
                is_decoupled,
                epsilon: 1e-8,
                clip: 1.0,
            };
            let norm = adam::step(&slots, settings);
            assert!(slots.iter().all(|slot| slot.steps.double_value(&[]) == 3.0), "a count went up otherwise");
            let follows = |slot: &AdamParameter| {
                let rounded = |copy: &Tensor| *copy == slot.parameter.to_kind(Kind::Float).to_kind(Kind::BFloat16);
                slot.rounded.as_ref().is_none_or(rounded)
            };
            assert!(slots.iter().all(follows), "a rounded copy does not follow its parameter");
            slots.into_iter().flat_map(|slot| [slot.parameter, slot.first, slot.second]).chain([norm]).collect()
        });
    }
}

#[test]
fn what_steps_measure_is_added_up_and_the_first_bad_batch_is_remembered() {
    for threads in [1, 64] {
        with_host_threads(threads, || {
            let sums = LossSums::new(Device::Cpu);
            let step = |batch: i64, numbers: [f64; 2], accuracy: f32| {
                let numbers = numbers.map(Tensor::from);
                sums.add(&[&numbers[0], &numbers[1], &Tensor::from(accuracy)], &Tensor::from(batch));
            };
            step(3, [1.0, 2.0], 0.5);
            step(4, [10.0, f64::NAN], 0.25);
            step(5, [f64::INFINITY, 0.0], 0.0);
            let summed = sums.take(3);
            assert_eq!((summed.steps, summed.first_bad, summed.sums[2]), (3.0, 4.0, 0.75));
            assert!(summed.sums[0].is_infinite() && summed.sums[1].is_nan());
            step(6, [1.5, 2.5], 1.0);
            let summed = sums.take(3);
            assert_eq!((summed.steps, summed.sums), (1.0, vec![1.5, 2.5, 1.0]));
            assert!(summed.first_bad.is_infinite(), "nothing was bad since");
        });
    }
}

#[test]
fn batches_are_taken_from_two_slots_in_turn() {
    // Less than one block copies at once, and more than all blocks copy at once.
    for bytes in [64_i64, 6 << 20] {
        for threads in [1, 64] {
            with_host_threads(threads, || {
                let slots = whole(256, &[2, bytes], Kind::Uint8);
                let place = Tensor::zeros([bytes], (Kind::Uint8, Device::Cpu));
                let taken = Tensor::zeros([2], (Kind::Int, Device::Cpu));
                for step in 0..5_i64 {
                    let _ = slots.get(step % 2).fill_(step);
                    take_batch(&slots, &place, &taken);
                    assert_eq!(place, slots.get(step % 2), "{bytes} bytes, {threads} threads, step {step}");
                    assert_ne!(place, slots.get(1 - step % 2));
                    assert_eq!(taken, Tensor::from_slice(&[i32::try_from(step).expect("few") + 1, 0]));
                }
            });
        }
    }
}

#[test]
fn expected_counts_are_summed_over_cells() {
    alike(|| {
        let sums = [(); 2].map(|()| drawn(&[2, GENES]));
        let library = drawn(&[CELLS]).abs();
        add_expected(&drawn(&[2 * CELLS, GENES]), &drawn(&[2, GENES]), &library, sums.each_ref());
        sums.into()
    });
}
