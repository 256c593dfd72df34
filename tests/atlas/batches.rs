//! The loader's output: the same batches however they are read, mixed as if drawn at random, sampled as requested.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
};

use perturbine::{
    Resources,
    flows::{self, ingesting::IngestOptions},
};
use schemas::{
    atlas::Codec,
    batch::{BatchPlan, Expression},
    conditions::CONTROL,
    ids::{CellIndex, ConditionId},
};
use stages::{
    batcher::{
        order::{Order, OrderSettings, default_window},
        sample::Sampling,
    },
    reader::{
        atlas::{Access, Atlas},
        split::{Scheme, Split, SplitPart, SplitShares},
    },
};

use crate::support::{Home, ingest_chunk, simulator};

const CELLS: u64 = 6000;

/// A file that is sorted by condition, as an atlas.
fn sorted_atlas(home: &Home, name: &str, codec: Codec, shuffle: Option<u64>) -> Atlas {
    let simulator = simulator(CELLS, true);
    let chunk = simulator.chunk(0..CELLS).unwrap();
    let options = IngestOptions { codec, shuffle, ..IngestOptions::default() };
    ingest_chunk(&chunk, simulator.genes(), &home.path(name), &options)
}

fn split(atlas: &Atlas) -> Arc<Split> {
    Arc::new(Split::make(atlas, "random", &Scheme::Random(0.1), SplitShares { valid: 0.2, reference: 0.0 }, 3).unwrap())
}

fn training(atlas: &Atlas, settings: OrderSettings, sampling: &Sampling) -> Arc<Order> {
    Arc::new(Order::sampled(atlas, split(atlas), settings, sampling).unwrap())
}

/// Shares of conditions among cells.
fn shares(atlas: &Atlas, cells: &[CellIndex]) -> BTreeMap<ConditionId, f64> {
    let mut shares = BTreeMap::new();
    cells.iter().for_each(|cell| *shares.entry(atlas.condition(*cell)).or_default() += 1.0 / cells.len() as f64);
    shares
}

fn bits(shares: &BTreeMap<ConditionId, f64>) -> f64 {
    shares.values().map(|share| -share * share.log2()).sum()
}

#[test]
fn batches_are_the_same_however_they_are_read() {
    let home = Home::new();
    for shuffle in [None, Some(5)] {
        let mut expected: Option<Vec<(BatchPlan, Expression)>> = None;
        for codec in [Codec::Raw, Codec::Packed, Codec::Zstd] {
            let name = format!("{codec:?}-{shuffle:?}.atlas");
            sorted_atlas(&home, &name, codec, shuffle);
            for access in [Access::Map, Access::Read] {
                let atlas = Atlas::open_with(home.path(&name), access).unwrap();
                let order = training(&atlas, OrderSettings::new(7, 50, 1000), &Sampling::Uniform);
                // From memory for a few blocks up to memory for all of them, and edges that hold one batch or many.
                for (threads, memory) in [(1, 1 << 15), (4, 1 << 15), (1, 256 << 20), (4, 256 << 20)] {
                    let threads = NonZeroUsize::new(threads).unwrap();
                    let resources = Resources { threads, memory, ..Resources::default() };
                    let rows = flows::rows(&atlas, order.epoch(1, 0), &resources).stream();
                    let found: Vec<_> = rows
                        .map(|rows| rows.map(|rows| (rows.plan, Expression::clone(&rows.expression))).unwrap())
                        .collect();
                    assert!(found.len() > 70);
                    let same = *expected.get_or_insert_with(|| found.clone()) == found;
                    assert!(same, "{name}, {access:?}, {threads} threads, {memory} bytes");
                }
            }
        }
    }
}

#[test]
fn dense_rows_are_those_of_the_source() {
    let home = Home::new();
    for (codec, shuffle) in [(Codec::Raw, None), (Codec::Packed, Some(2)), (Codec::Zstd, Some(1))] {
        let simulator = simulator(700, true);
        let chunk = simulator.chunk(0..700).unwrap();
        let options = IngestOptions { codec, shuffle, ..IngestOptions::default() };
        let atlas = ingest_chunk(&chunk, simulator.genes(), &home.path(&format!("{codec:?}.atlas")), &options);
        let order = training(&atlas, OrderSettings::new(1, 32, 200), &Sampling::Uniform);
        let mut cells = 0;
        for batch in flows::dense_batches(&atlas, order.epoch(0, 0), &Resources::default()).stream() {
            let batch = batch.unwrap();
            assert_eq!(batch.expression.rows(), batch.plan.cells.len());
            for (row, cell) in batch.plan.cells.iter().enumerate() {
                let mut expected = vec![0.0; simulator.genes().len()];
                let (genes, values) = chunk.expression.row(cell.index());
                genes.iter().zip(values).for_each(|(gene, value)| expected[*gene as usize] = *value);
                assert_eq!(batch.expression.row(row), expected, "cell {cell}");
                assert_eq!(batch.conditions[row], atlas.condition(*cell));
                cells += 1;
            }
        }
        assert_eq!(cells, order.cell_count());
    }
}

#[test]
fn dense_rows_of_chosen_genes_have_these_alone_in_their_order() {
    let home = Home::new();
    let simulator = simulator(300, true);
    let chunk = simulator.chunk(0..300).unwrap();
    let all = simulator.genes();
    let atlas = ingest_chunk(&chunk, all, &home.path("s.atlas"), &IngestOptions::default());
    // The last ones first, every second one, and one that there is not.
    let mut chosen: Vec<String> = all.iter().rev().step_by(2).cloned().collect();
    chosen.insert(3, "nobody's".into());
    let subset = atlas.with_genes_or_zeros(&chosen).unwrap();
    let order = training(&subset, OrderSettings::new(1, 32, 200), &Sampling::Uniform);
    for batch in flows::dense_batches(&subset, order.epoch(0, 0), &Resources::default()).stream() {
        let batch = batch.unwrap();
        assert_eq!(batch.expression.genes(), chosen.len());
        for (row, cell) in batch.plan.cells.iter().enumerate() {
            let (genes, values) = chunk.expression.row(cell.index());
            let value = |name: &String| {
                let at = genes.iter().position(|gene| all[*gene as usize] == *name);
                at.map_or(0.0, |at| values[at])
            };
            assert_eq!(batch.expression.row(row), chosen.iter().map(value).collect::<Vec<_>>(), "cell {cell}");
        }
    }
}

#[test]
fn batches_are_as_mixed_as_cells_drawn_at_random() {
    let home = Home::new();
    for shuffle in [None, Some(5)] {
        let atlas = sorted_atlas(&home, &format!("{shuffle:?}.atlas"), Codec::Raw, shuffle);
        let window = usize::try_from(default_window(atlas.manifest().order)).unwrap();
        let sorted_plans = |plans: Vec<Vec<CellIndex>>| {
            let whole: Vec<_> = plans.iter().filter(|cells| cells.len() == 256).collect();
            whole.iter().map(|cells| bits(&shares(&atlas, cells))).sum::<f64>() / whole.len() as f64
        };
        let order = training(&atlas, OrderSettings::new(3, 256, window), &Sampling::Uniform);
        let found = sorted_plans((0..6).flat_map(|epoch| order.epoch(epoch, 0)).map(|plan| plan.cells).collect());
        let mut random: Vec<CellIndex> = order.epoch(0, 0).flat_map(|plan| plan.cells).collect();
        random.sort_unstable_by_key(|cell| mixed(cell.0));
        let expected = sorted_plans(random.chunks(256).map(<[CellIndex]>::to_vec).collect());
        assert!((found - expected).abs() < 0.05, "{found} bits, at random {expected}");
    }
}

/// A number that knows nothing of its neighbours': the finaliser of SplitMix64.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[test]
fn balanced_batches_have_every_condition_equally_often() {
    let home = Home::new();
    let atlas = sorted_atlas(&home, "a.atlas", Codec::Raw, Some(1));
    let split = split(&atlas);
    let order = training(&atlas, OrderSettings::new(1, 500, 4096), &Sampling::Balanced);
    let cells: Vec<CellIndex> = (0..4).flat_map(|epoch| order.epoch(epoch, 0)).flat_map(|plan| plan.cells).collect();
    assert!(cells.iter().all(|cell| split.part(*cell) == SplitPart::Train), "a cell that does not train was drawn");
    let shares = shares(&atlas, &cells);
    assert_eq!(shares.len(), atlas.manifest().conditions.conditions().len());
    let expected = 1.0 / shares.len() as f64;
    assert!(shares.values().all(|share| (share - expected).abs() < 0.2 * expected), "{shares:?}");
    let distinct = cells.iter().collect::<BTreeSet<_>>().len();
    assert!(distinct > 4000, "only {distinct} of 4200 or so cells were ever drawn");
}

#[test]
fn weighted_batches_follow_the_weights_of_names() {
    let home = Home::new();
    let atlas = sorted_atlas(&home, "a.atlas", Codec::Raw, Some(1));
    let table = &atlas.manifest().conditions;
    let names: Vec<String> = table.combinations().iter().map(|combination| combination.name.clone()).collect();
    let mut weights: BTreeMap<String, f64> = names.iter().map(|name| (name.clone(), 0.0)).collect();
    weights.insert(names[0].clone(), 3.0);
    weights.insert(names[1].clone(), 1.0);
    let order = training(&atlas, OrderSettings::new(1, 500, 4096), &Sampling::Weighted(weights.clone()));
    let cells: Vec<CellIndex> = order.epoch(0, 0).flat_map(|plan| plan.cells).collect();
    let mut by_name: BTreeMap<&str, f64> = BTreeMap::new();
    shares(&atlas, &cells)
        .iter()
        .for_each(|(condition, share)| *by_name.entry(table.name(*condition)).or_default() += share);
    let doses =
        table.conditions().iter().enumerate().filter(|(at, _)| table.name(ConditionId::at(*at)) == names[1]).count();
    let expected = 3.0 / (3.0 + doses as f64);
    assert_eq!(by_name.len(), 2, "{by_name:?}");
    assert!((by_name[names[0].as_str()] - expected).abs() < 0.05, "{by_name:?}, not {expected}");

    weights.insert("nobody".into(), 1.0);
    let refused = Order::sampled(&atlas, split(&atlas), OrderSettings::new(1, 50, 100), &Sampling::Weighted(weights));
    assert!(refused.unwrap_err().to_string().contains("unknown condition `nobody`"));
}

#[test]
fn each_perturbed_cell_is_followed_by_a_control_of_its_own_kind() {
    let home = Home::new();
    let atlas = sorted_atlas(&home, "a.atlas", Codec::Raw, Some(1));
    let split = split(&atlas);
    let sampling = Sampling::Paired(vec!["cell_type".into()]);
    let order = training(&atlas, OrderSettings::new(1, 100, 4096), &sampling);
    let mut perturbed = BTreeSet::new();
    for plan in order.epoch(0, 0) {
        for pair in plan.cells.chunks(2) {
            assert_ne!(atlas.condition(pair[0]), CONTROL);
            assert_eq!(atlas.condition(pair[1]), CONTROL);
            assert_eq!(atlas.covariates(pair[0]), atlas.covariates(pair[1]), "{pair:?}");
            assert!(pair.iter().all(|cell| split.part(*cell) == SplitPart::Train));
            assert!(perturbed.insert(pair[0]), "cell {} comes twice", pair[0]);
        }
    }
    assert_eq!(perturbed.len() as u64, order.cell_count());
    let refused =
        Order::sampled(&atlas, split, OrderSettings::new(1, 50, 100), &Sampling::Paired(vec!["plate".into()]));
    assert!(refused.unwrap_err().to_string().contains("unknown covariate `plate`"));
}

#[test]
fn ranks_share_the_order_without_a_cell_in_common() {
    let home = Home::new();
    let atlas = sorted_atlas(&home, "a.atlas", Codec::Raw, Some(1));
    let paired = Sampling::Paired(Vec::new());
    for sampling in [Sampling::Uniform, Sampling::Balanced, paired] {
        let alone = training(&atlas, OrderSettings::new(9, 64, 500), &sampling);
        let whole: Vec<Vec<CellIndex>> = alone.epoch(2, 0).map(|plan| plan.cells).collect();
        for ranks in [2, 3, 5] {
            let mut merged = BTreeMap::new();
            for rank in 0..ranks {
                let settings = OrderSettings { rank, ranks, ..OrderSettings::new(9, 64, 500) };
                let order = training(&atlas, settings, &sampling);
                let plans: Vec<BatchPlan> = order.epoch(2, 0).collect();
                assert_eq!(plans.len(), whole.len() / ranks as usize, "every rank has equally many batches");
                let resumed: Vec<BatchPlan> = order.epoch(2, 3).collect();
                assert_eq!(resumed, plans[3..], "to resume a rank is to read the rest");
                merged.extend(
                    plans.into_iter().map(|plan| (plan.index * u64::from(ranks) + u64::from(rank), plan.cells)),
                );
            }
            assert!(merged.values().eq(&whole[..merged.len()]), "{ranks} ranks, {sampling:?}");
        }
    }
}
