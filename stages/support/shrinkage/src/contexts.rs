//! How alike contexts respond, by hypothesis: kernels between contexts.

use crate::{Matrix, mean, median, real, shifts::Shifts};

/// Shares of a response that a context has of its own, where contexts are equally alike.
const OWN_OF_EQUALS: [f64; 8] = [0.01, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0];
/// The same where contexts are more or less alike.
const OWN_OF_SIMILAR: [f64; 4] = [0.005, 0.02, 0.1, 0.3];
/// Shares of what contexts have in common that is as alike as their controls.
const BY_SIMILARITY: [f64; 4] = [0.15, 0.3, 0.6, 0.9];
/// Length scales of the squared exponential, as shares of the median squared distance.
const LENGTHS: [f64; 3] = [0.3, 1.0, 3.0];
/// Prior weight of a kernel by similarity, where one of equals has 1.
const PRIOR_OF_SIMILAR: f64 = 0.3;

/// A covariance between the responses of contexts: (1 − o)[(1 − ρ)11ᵀ + ρS] + oI.
#[derive(Clone, Debug)]
pub(crate) struct ContextKernel {
    /// `contexts × contexts`.
    pub(crate) between: Matrix,
    /// The covariance of each context with one whose controls are unknown.
    pub(crate) elsewhere: Vec<f64>,
    /// Prior weight.
    pub(crate) prior: f64,
    /// Whether contexts have nothing in common, o = 1.
    pub(crate) separate: bool,
}

impl ContextKernel {
    /// A kernel with `own` (o) and `alike` (ρ); `similarity` is S and its column for an unknown context.
    fn new(own: f64, alike: f64, prior: f64, similarity: &Similarity) -> Self {
        let common = |similarity: f64| (1.0 - own) * ((1.0 - alike) + alike * similarity);
        let own_part = Matrix::identity(similarity.between.nrows(), similarity.between.ncols()) * own;
        let between = similarity.between.map(common) + own_part;
        let elsewhere = similarity.elsewhere.iter().map(|similarity| common(*similarity)).collect();
        Self { between, elsewhere, prior, separate: own == 1.0 }
    }

    /// The covariance of a known context with another that may be unknown.
    pub(crate) fn to(&self, known: usize, other: Option<usize>) -> f64 {
        other.map_or(self.elsewhere[known], |other| self.between[(known, other)])
    }
}

/// How alike contexts are, S.
struct Similarity {
    between: Matrix,
    elsewhere: Vec<f64>,
}

impl Similarity {
    /// All contexts are alike.
    fn equal(contexts: usize) -> Self {
        Self { between: Matrix::from_element(contexts, contexts, 1.0), elsewhere: vec![1.0; contexts] }
    }

    /// The squared exponential of squared distances. An unknown context is as alike as the others are on average.
    fn squared_exponential(distances: &Matrix, length: f64) -> Self {
        let between = distances.map(|distance| (-distance / length).exp());
        let others = |context: usize| (0..between.nrows()).filter(move |other| *other != context);
        let elsewhere =
            (0..between.ncols()).map(|context| mean(others(context).map(|other| between[(other, context)]))).collect();
        Self { between, elsewhere }
    }

    /// Products of centred profiles, 1 on average for a context with itself. An unknown context is at the centre.
    fn linear(profiles: &Matrix) -> Self {
        let centred = profiles - profiles.column_mean() * nalgebra::RowDVector::from_element(profiles.ncols(), 1.0);
        let products = centred.tr_mul(&centred);
        let scale = (products.trace() / real(products.nrows())).max(1e-12);
        Self { elsewhere: vec![0.0; products.nrows()], between: products / scale }
    }
}

/// The kernels between contexts that are tried: of equals, and from three contexts on by the likeness of their
/// controls.
pub(crate) fn candidates(shifts: &Shifts) -> Vec<ContextKernel> {
    let contexts = shifts.contexts();
    let equal = Similarity::equal(contexts);
    let mut kernels: Vec<_> = OWN_OF_EQUALS.iter().map(|own| ContextKernel::new(*own, 0.0, 1.0, &equal)).collect();
    if contexts < 3 {
        return kernels;
    }
    let distances = squared_distances(shifts);
    let positive = distances.iter().copied().filter(|distance| *distance > 0.0).collect();
    let typical = median(positive).unwrap_or(1.0);
    let by_distance = LENGTHS.iter().map(|length| Similarity::squared_exponential(&distances, length * typical));
    for similarity in by_distance.chain([Similarity::linear(&shifts.controls)]) {
        for own in OWN_OF_SIMILAR {
            let with = |alike: &f64| ContextKernel::new(own, *alike, PRIOR_OF_SIMILAR, &similarity);
            kernels.extend(BY_SIMILARITY.iter().map(with));
        }
    }
    kernels
}

/// Squared distances of the contexts' control means, less what their noise adds.
fn squared_distances(shifts: &Shifts) -> Matrix {
    let total: f64 = shifts.deviations.iter().map(|deviation| deviation * deviation).sum();
    Matrix::from_fn(shifts.contexts(), shifts.contexts(), |a, b| {
        if a == b {
            return 0.0;
        }
        let between = (shifts.controls.column(a) - shifts.controls.column(b)).norm_squared();
        (between - total * (shifts.control_noise[a] + shifts.control_noise[b])).max(0.0)
    })
}
