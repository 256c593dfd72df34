//! Steps whose likelihood is differentiated by hand: on a GPU what costs is how often the dense matrix of cells and genes is gone over,
//! and automatic differentiation does so about twice as often as is needed.
//!
//! Everything up to the decoder's logits, and what adversaries and divergence add, is differentiated automatically. The negative
//! binomial's part is written down; other reconstructions are [`Plain`]'s.

use tch::{Kind, Tensor};

use super::{
    draws::Draws,
    input::Cells,
    layers::Mode,
    network::Network,
    optimiser::Adam,
    step::{Given, Learner, Plain, Sides, StepLosses},
};
use crate::libtorch::backward;

/// Guards logarithms and divisions, as in [`losses`](super::losses).
const EPSILON: f64 = 1e-8;

/// Steps by libtorch's operations in few passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FewPasses;

/// The negative log-likelihood of cells, averaged over them, and its gradients.
struct Likelihood {
    loss: Tensor,
    by_logits: Tensor,
    /// By the logarithm of the inverse dispersion.
    by_dispersion: Tensor,
}

/// What [`reconstruction`](super::losses::reconstruction) says of a negative binomial with mean μ = softmax(logits) · library and inverse
/// dispersion θ, and its gradients. With s = θ + μ + ε:
///
/// ```text
/// ∂/∂μ = −θ/s + x (1/(μ+ε) − 1/s)          ∂/∂logits = μ (∂/∂μ − Σ μ ∂/∂μ / library)
/// ∂/∂θ = ln(θ+ε) + θ/(θ+ε) − ln s − θ/s − x/s + ψ(x+θ) − ψ(θ)
/// ```
///
/// Whatever x multiplies, and ψ(x+θ) − ψ(θ), vanish where x is zero.
fn negative_binomial(logits: &Tensor, dispersion: &Tensor, cells: &Cells) -> Likelihood {
    let _no_grad = tch::no_grad_guard();
    let kind: Kind = logits.kind();
    let (count, x, genes) = (cells.shape[0], &cells.values, &cells.genes);
    let over_cells = |dense: &Tensor| dense.sum_dim_intlist([0_i64].as_slice(), false, kind);
    let at_non_zeros = |dense: &Tensor| dense.view([-1]).index_select(0, cells.places());
    let of_genes = |gene: &Tensor| gene.index_select(0, genes);
    let theta = dispersion.exp();

    let mut mean = logits.softmax(-1, kind);
    mean *= &cells.library;
    let mut sum = &mean + (&theta + EPSILON);
    let (mean_there, sum_there) = (at_non_zeros(&mean) + EPSILON, at_non_zeros(&sum));
    let mut slope = sum.reciprocal();
    let inverses = over_cells(&slope);
    let logarithms = over_cells(&sum.log_());
    drop(sum);

    let theta_there = of_genes(&theta);
    let beside = x * (mean_there.log() - sum_there.log()) + (x + &theta_there).lgamma()
        - of_genes(&theta.lgamma())
        - (x + 1.0).lgamma();
    let loss = (theta.dot(&((&theta + EPSILON).log() * count - &logarithms)) + beside.sum(kind)) / -count;

    let there = x / &sum_there;
    let of_theta = (x + theta_there).digamma() - of_genes(&theta.digamma()) - &there;
    let by_theta = ((&theta + EPSILON).log() + &theta / (&theta + EPSILON)) * count - logarithms - &theta * inverses;
    let by_theta = by_theta.index_add(0, genes, &of_theta);

    // From here on of the loss, which is the other sign and averaged.
    slope *= &theta / count;
    let _ = slope.view([-1]).scatter_add_(0, cells.places(), &((there - x / mean_there) / count));
    slope *= &mean;
    // A cell without a count has no mean, and no slope.
    let along = slope.sum_dim_intlist([1_i64].as_slice(), true, kind) / cells.library.clamp_min(EPSILON);
    let by_logits = slope.addcmul_(&mean, &-along);
    Likelihood { loss, by_logits, by_dispersion: by_theta * theta / -count }
}

impl Sides for FewPasses {
    fn basal(&self, network: &Network, cells: &Cells, draws: &Draws) -> Tensor {
        Plain.basal(network, cells, draws)
    }

    fn autoencoder(&self, learner: &mut Learner, given: Given<'_>, learns: bool, losses: &mut StepLosses) -> Tensor {
        let network = &learner.network;
        let Some((to_logits, dispersion)) = network.decoder.negative_binomial().filter(|_| learns) else {
            return Plain.autoencoder(learner, given, learns, losses);
        };
        let Given { input, draws, schedule } = given;
        let latent = network.latent(input, Mode::Train, draws);
        let hidden = network.decoder.hidden().forward(&latent.after(), Mode::Train);
        let logits = to_logits.forward_in(&hidden, Mode::Train);
        let logits = match &input.offset {
            Some(offset) => logits + offset,
            None => logits,
        };
        let Likelihood { loss, by_logits, by_dispersion } = negative_binomial(&logits, dispersion, &input.cells);
        losses.add("recon", &loss);
        let rest = losses.with_divergence(loss.zeros_like(), &latent.basal, schedule);
        let basal = latent.basal.latent.detach();
        let rest = losses.less_adversaries(rest, &learner.adversaries, schedule, |adversaries| {
            adversaries.judge(&latent.basal.latent, input, draws.mixup.as_ref(), false)
        });
        let one = rest.detach().ones_like();
        let (mut of, mut slopes) = (vec![&logits], vec![&by_logits]);
        if rest.requires_grad() {
            of.push(&rest);
            slopes.push(&one);
        }
        let mut parameters = learner.autoencoder_adam.parameters();
        let autoencoder_count = parameters.len();
        parameters.extend(learner.doser_adam.parameters());
        let place = parameters.iter().position(|parameter| parameter.data_ptr() == dispersion.data_ptr());
        // As with every operation of libtorch's, only a bug makes it fail.
        let mut gradients =
            backward(&of, &slopes, &parameters).expect("outputs have a history, and slopes their shape");
        // The optimiser has its own to hold.
        drop((logits, by_logits));
        if let Some(place) = place {
            gradients[place] = by_dispersion;
        }
        let (autoencoder, doser) = gradients.split_at(autoencoder_count);
        learner.autoencoder_learns((autoencoder, doser), schedule, losses, Adam::step);
        basal
    }

    fn adversaries(&self, learner: &mut Learner, basal: &Tensor, given: Given<'_>, losses: &mut StepLosses) {
        Plain.adversaries(learner, basal, given, losses);
    }
}
