//! Purity of the neighbourhoods of cells in a latent space: low in a basal latent that is independent of the
//! labels.

use schemas::numbers::to_i64;
use tch::{Kind, Tensor};

/// Number of neighbours, if there are that many.
const NEIGHBOURS: i64 = 30;
/// Cells whose distances to all others are computed together.
pub const CELLS_AT_ONCE: usize = 256;

/// The share of each cell's nearest neighbours (Euclidean, without itself) that have its label, averaged
/// within each label, then over labels: for several labels of the same cells; `None` for fewer than two cells.
///
/// `latent` is `[cells, n]`, `labels` are codes.
#[must_use]
pub fn purities(latent: &Tensor, labels: &[&[i64]]) -> Option<Vec<f64>> {
    let _no_grad = tch::no_grad_guard();
    let cells = latent.size()[0];
    let neighbours = NEIGHBOURS.min(cells - 1);
    if neighbours < 1 {
        return None;
    }
    let latent = latent.to_kind(Kind::Double);
    let squares = latent.square().sum_dim_intlist([1_i64].as_slice(), false, Kind::Double);
    let mut nearest = Vec::new();
    let at_once = to_i64(CELLS_AT_ONCE);
    for from in (0..cells).step_by(CELLS_AT_ONCE) {
        let count = at_once.min(cells - from);
        let part = latent.narrow(0, from, count);
        let distances = &squares - part.matmul(&latent.transpose(0, 1)) * 2.0;
        // A cell is not its own neighbour. Within a row, leaving out the cell's own square does not change the order.
        let own = Tensor::arange_start(from, from + count, (Kind::Int64, latent.device())).unsqueeze(-1);
        let distances = distances.scatter_value(1, &own, f64::INFINITY);
        nearest.push(distances.topk(neighbours, 1, false, false).1);
    }
    let nearest = Tensor::cat(&nearest, 0);
    let of_labels = labels.iter().map(|labels| {
        let labels = Tensor::from_slice(labels).to_device(latent.device());
        let theirs = labels.index_select(0, &nearest.reshape([-1])).view_as(&nearest);
        let shares = theirs.eq_tensor(&labels.unsqueeze(-1)).to_kind(Kind::Double);
        let shares = shares.mean_dim([1_i64].as_slice(), false, Kind::Double);
        let (_, class, sizes) = labels.unique_dim(0, true, true, true);
        let sums = Tensor::zeros([sizes.size()[0]], (Kind::Double, latent.device())).index_add(0, &class, &shares);
        (sums / sizes).mean(Kind::Double).double_value(&[])
    });
    Some(of_labels.collect())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn clusters_are_pure_in_their_own_label_and_mixed_in_another() {
        tch::manual_seed(2);
        let cluster: Vec<i64> = (0..600).map(|cell| cell % 2).collect();
        let coin: Vec<i64> = (0..600).map(|cell| (cell / 2) % 2).collect();
        let centres = Tensor::from_slice(&cluster).to_kind(Kind::Double).unsqueeze(-1) * 100.0;
        let latent = Tensor::randn([600, 3], (Kind::Double, Device::Cpu)) + centres;
        let found = purities(&latent, &[&cluster, &coin]).expect("there are cells");
        let [of_clusters, mixed] = found[..] else { panic!("one number for each label") };
        assert_eq!(of_clusters, 1.0);
        assert!((mixed - 0.5).abs() < 0.05, "{mixed}");
    }

    #[test]
    fn rare_labels_count_as_much_as_common_ones() {
        // Of four cells on a line, 0 1 | 10 11, the last has a label of its own.
        let latent = Tensor::from_slice(&[0.0, 1.0, 10.0, 11.0]).view([4, 1]);
        // All three others are neighbours: shares 2/3, 2/3, 2/3 and 0.
        assert_eq!(purities(&latent, &[&[0, 0, 0, 7]]), Some(vec![1.0 / 3.0]));
        assert_eq!(purities(&latent.narrow(0, 0, 1), &[&[0]]), None);
    }
}
