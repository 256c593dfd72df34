//! How data walks: the order is a pure function, batches are the source's rows, and no way of reading changes either.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
};

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use perturbine::{
    Resources,
    flows::{self, ingesting::IngestOptions},
};
use proptest::prelude::*;
use schemas::{
    atlas::Codec,
    batch::{BatchPlan, Expression, Labels, Position, Role},
    chunk::Chunk,
    conditions::CONTROL,
    config::Compat,
    ids::{CellIndex, RowIndex},
};
use stages::{
    batcher::order::{Order, OrderSettings, TrainingOrder},
    encoder::{label_encoder::LabelEncoder, vocabulary::from_training_cells},
    reader::{
        atlas::{Access, Atlas},
        groups::Groups,
        selector::Selector,
        split::{Scheme, Split, SplitPart, SplitShares},
    },
};

use crate::support::{self, Home, atlas, simulator, store};

const ORDER: OrderSettings = OrderSettings { seed: 7, batch_size: 50, window: 200, rank: 0, ranks: 1 };

fn random_split(atlas: &Atlas) -> Arc<Split> {
    Arc::new(Split::make(atlas, "random", &Scheme::Random(0.1), SplitShares { valid: 0.2, reference: 0.0 }, 3).unwrap())
}

fn order(atlas: &Atlas, part: SplitPart, settings: OrderSettings) -> Arc<Order> {
    Arc::new(Order::new(atlas, random_split(atlas), part, settings))
}

fn epoch(order: &Arc<Order>, epoch: u32) -> Vec<BatchPlan> {
    order.epoch(epoch, 0).collect()
}

fn cells_of(atlas: &Atlas, part: SplitPart) -> BTreeSet<CellIndex> {
    let split = random_split(atlas);
    (0..atlas.cells()).map(CellIndex).filter(|cell| split.part(*cell) == part).collect()
}

#[test]
fn an_epoch_has_every_training_cell_once_and_no_other() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 1000, true, Codec::Raw);
    let order = order(&atlas, SplitPart::Train, ORDER);
    for number in [0, 1, 9] {
        let plans = epoch(&order, number);
        let cells: Vec<CellIndex> = plans.iter().flat_map(|plan| plan.cells.clone()).collect();
        assert_eq!(cells.len() as u64, order.cell_count(), "a cell comes twice or not at all");
        assert_eq!(cells.iter().copied().collect::<BTreeSet<_>>(), cells_of(&atlas, SplitPart::Train));
        assert!(plans.iter().enumerate().all(|(at, plan)| plan.index == at as u64 && plan.role == Role::Train));
        assert!(plans.iter().rev().skip(1).all(|plan| plan.cells.len() == ORDER.batch_size && !plan.last));
        assert!(plans.last().unwrap().last);
    }
}

#[test]
fn an_epoch_is_the_same_each_time_and_unlike_any_other() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 1000, true, Codec::Raw);
    let first = order(&atlas, SplitPart::Train, ORDER);
    assert_eq!(epoch(&first, 4), epoch(&order(&atlas, SplitPart::Train, ORDER), 4));
    let cells = |plans: Vec<BatchPlan>| plans.into_iter().map(|plan| plan.cells).collect::<Vec<_>>();
    assert_ne!(cells(epoch(&first, 4)), cells(epoch(&first, 5)));
    let reseeded = order(&atlas, SplitPart::Train, OrderSettings { seed: 8, ..ORDER });
    assert_ne!(cells(epoch(&first, 4)), cells(epoch(&reseeded, 4)));
}

#[test]
fn to_resume_anywhere_is_to_read_the_rest() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 1000, true, Codec::Raw);
    let (train, valid) = (order(&atlas, SplitPart::Train, ORDER), order(&atlas, SplitPart::Valid, ORDER));
    for batch_size in [2, 33, 50, 64, 5000] {
        let train = order(&atlas, SplitPart::Train, OrderSettings { batch_size, ..ORDER });
        let whole = epoch(&train, 2);
        assert_eq!(whole.len() as u64, train.batches());
        for position in (0..=whole.len()).step_by(1 + whole.len() / 12) {
            let rest: Vec<BatchPlan> = train.epoch(2, position as u64).collect();
            assert_eq!(rest, whole[position..], "from batch {position} of {batch_size} cells");
        }
    }
    let run = TrainingOrder { train, valid, check_every: 2, epochs: 5 };
    let plans: Vec<BatchPlan> = run.clone().plans(Position::default()).collect();
    for (at, plan) in plans.iter().enumerate().filter(|(_, plan)| plan.role == Role::Train) {
        let position = Position { epoch: plan.pass, batch: plan.index };
        assert!(run.clone().plans(position).eq(plans[at..].iter().cloned()), "from {position:?}");
    }
}

#[test]
fn validation_cells_come_after_every_checked_epoch_as_they_lie() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 1000, true, Codec::Raw);
    let (train, valid) = (order(&atlas, SplitPart::Train, ORDER), order(&atlas, SplitPart::Valid, ORDER));
    let run = TrainingOrder { train, valid, check_every: 2, epochs: 5 };
    let mut cells_by_pass: BTreeMap<u32, Vec<CellIndex>> = BTreeMap::new();
    for plan in run.plans(Position::default()).filter(|plan| plan.role == Role::Valid) {
        cells_by_pass.entry(plan.pass).or_default().extend(plan.cells);
    }
    assert_eq!(cells_by_pass.keys().copied().collect::<Vec<_>>(), [1, 3, 4], "every second epoch, and the last");
    let valid: Vec<CellIndex> = cells_of(&atlas, SplitPart::Valid).into_iter().collect();
    assert!(cells_by_pass.values().all(|cells| *cells == valid));
}

#[test]
fn a_file_that_is_sorted_by_condition_gives_mixed_batches() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 6000, true, Codec::Raw);
    let entropy = |cells: &[CellIndex]| {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        cells.iter().for_each(|cell| *counts.entry(atlas.condition(*cell).0).or_default() += 1.0);
        counts.values().map(|count| count / cells.len() as f64).map(|share| -share * share.ln()).sum::<f64>()
    };
    let all: Vec<CellIndex> = cells_of(&atlas, SplitPart::Train).into_iter().collect();
    let sorted = all.chunks(256).map(entropy).sum::<f64>() / all.chunks(256).count() as f64;
    assert!(sorted < 0.5 * entropy(&all), "the file is not sorted: {sorted}");
    let settings = OrderSettings::new(1, 256, 4096);
    let plans = epoch(&order(&atlas, SplitPart::Train, settings), 0);
    let whole: Vec<&BatchPlan> = plans.iter().filter(|plan| plan.cells.len() == 256).collect();
    let mixed = whole.iter().map(|plan| entropy(&plan.cells)).sum::<f64>() / whole.len() as f64;
    assert!(0.9 * entropy(&all) < mixed, "batches have an entropy of {mixed}, all cells of {}", entropy(&all));
}

/// Every batch of two epochs, validation included, as a trainer would get them.
fn batches(atlas: &Atlas, threads: usize) -> Vec<(BatchPlan, Labels, Expression)> {
    let split = random_split(atlas);
    let groups = Groups::from_atlas(atlas, Some(&split));
    let vocabulary = from_training_cells(atlas, &groups, Compat::None).unwrap();
    let encoder = LabelEncoder::new(atlas, groups, &vocabulary).unwrap();
    let run = TrainingOrder {
        train: order(atlas, SplitPart::Train, ORDER),
        valid: order(atlas, SplitPart::Valid, ORDER),
        check_every: 1,
        epochs: 2,
    };
    let resources = Resources { threads: NonZeroUsize::new(threads).unwrap(), ..Resources::default() };
    let pipeline = flows::batches(atlas, run.plans(Position::default()), encoder, &resources);
    let batches = pipeline.stream().map(|batch| {
        let batch = batch.unwrap();
        (batch.plan, batch.labels, Expression::clone(&batch.expression))
    });
    batches.collect()
}

#[test]
fn neither_workers_nor_blocks_nor_the_way_of_reading_change_a_batch() {
    let home = Home::new();
    let (raw, _) = atlas(&home, "raw.atlas", 1500, true, Codec::Raw);
    let (packed, _) = atlas(&home, "packed.atlas", 1500, true, Codec::Packed);
    let (small, _) = atlas(&home, "small.atlas", 1500, true, Codec::Zstd);
    let bytes = |atlas: &Atlas| atlas.manifest().files["matrix.bin"].bytes;
    assert!(2 * bytes(&packed) < bytes(&raw), "packed blocks are not half as large");
    assert!(bytes(&small) < bytes(&raw), "zstd blocks are no smaller");
    let expected = batches(&raw, 1);
    assert!(expected.len() > 40);
    for folder in ["raw.atlas", "packed.atlas", "small.atlas"] {
        for access in [Access::Map, Access::Read] {
            let atlas = Atlas::open_with(home.path(folder), access).unwrap();
            for threads in [1, 4] {
                assert!(batches(&atlas, threads) == expected, "{folder}, {access:?}, {threads} threads");
            }
        }
    }
}

/// Rows of the source as a batch should have them.
fn dense(chunk: &Chunk, cells: &[CellIndex], genes: usize) -> Vec<f32> {
    let mut out = vec![0.0; cells.len() * genes];
    for (row, cell) in cells.iter().enumerate() {
        let (ids, values) = chunk.expression.row(cell.index());
        ids.iter().zip(values).for_each(|(gene, value)| out[row * genes + *gene as usize] = *value);
    }
    out
}

#[test]
fn a_batch_holds_the_rows_and_labels_of_the_source() {
    let home = Home::new();
    let (atlas, chunk) = atlas(&home, "a.atlas", 700, true, Codec::Raw);
    let column = |name: &str| chunk.obs.column_by_name(name).unwrap().as_string::<i32>();
    let (conditions, doses, types) = (column("condition"), column("dose"), column("cell_type"));
    let vocabulary =
        from_training_cells(&atlas, &Groups::from_atlas(&atlas, Some(&random_split(&atlas))), Compat::None).unwrap();
    for (plan, labels, expression) in batches(&atlas, 2) {
        let mut found = Vec::new();
        support::write_dense(&expression, 60, &mut found);
        assert_eq!(found, dense(&chunk, &plan.cells, 60));
        for (row, cell) in plan.cells.iter().map(|cell| cell.index()).enumerate() {
            assert_eq!(vocabulary.combinations[labels.combinations[row] as usize], conditions.value(cell));
            assert_eq!(vocabulary.covariates[0].values[labels.covariates[0][row] as usize], types.value(cell));
            let parts = labels.perturbations.outer_view(row).unwrap();
            let found: BTreeMap<&str, String> =
                parts.iter().map(|(code, dose)| (vocabulary.perturbations[code].as_str(), dose.to_string())).collect();
            let labelled = conditions.value(cell).split('+').zip(doses.value(cell).split('+').map(str::to_owned));
            assert_eq!(found, labelled.collect(), "cell {cell}: a dose belongs to the perturbation at its own place");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_plan_gathers_the_rows_it_names(
        cells in prop::collection::vec(0_u64..333, 1..80),
        codec in prop::sample::select(&[Codec::Raw, Codec::Packed, Codec::Zstd][..]),
        shuffle: Option<u64>,
        threads in 1_usize..4,
    ) {
        let home = Home::new();
        let simulator = support::simulator(333, false);
        let chunk = simulator.chunk(0..333).unwrap();
        let options = IngestOptions { codec, shuffle, ..IngestOptions::default() };
        let atlas = support::ingest_chunk(&chunk, simulator.genes(), &home.path("a.atlas"), &options);
        let cells: Vec<CellIndex> = cells.into_iter().map(CellIndex).collect();
        let rows = cells.iter().map(|cell| atlas.row(*cell)).collect();
        let plan = BatchPlan { pass: 0, index: 0, role: Role::Source, last: true, cells, rows };
        let resources = Resources { threads: NonZeroUsize::new(threads).unwrap(), ..Resources::default() };
        let rows = flows::rows(&atlas, vec![plan.clone()], &resources).stream().next().unwrap().unwrap();
        let mut found = Vec::new();
        support::write_dense(&rows.expression, 60, &mut found);
        prop_assert_eq!(found, dense(&chunk, &plan.cells, 60));
    }
}

/// The conditions and cell types of a part, and how many of each.
#[test]
fn a_shuffle_is_a_permutation_that_its_seed_decides() {
    let home = Home::new();
    let simulator = support::simulator(3000, true);
    let chunk = simulator.chunk(0..3000).unwrap();
    let shuffled = |name: &str, seed| {
        let options = IngestOptions { shuffle: Some(seed), ..IngestOptions::default() };
        let atlas = support::ingest_chunk(&chunk, simulator.genes(), &home.path(name), &options);
        (0..3000).map(|row| atlas.cell(RowIndex(row))).collect::<Vec<CellIndex>>()
    };
    let order = shuffled("a.atlas", 1);
    assert!(order.iter().copied().collect::<BTreeSet<_>>().into_iter().eq((0..3000).map(CellIndex)));
    assert_eq!(shuffled("b.atlas", 1), order, "the same seed");
    assert_ne!(shuffled("c.atlas", 2), order, "another seed");
    // Each tenth of the rows holds cells of each tenth of the source: 30 expected, and a standard deviation of 5.
    let mut counts = [[0_u32; 10]; 10];
    order.iter().enumerate().for_each(|(row, cell)| counts[row / 300][cell.index() / 300] += 1);
    assert!(counts.as_flattened().iter().all(|count| (8..=56).contains(count)), "{counts:?}");
}

fn labels_of(atlas: &Atlas, split: &Split, part: SplitPart) -> BTreeMap<(String, String), usize> {
    let mut found = BTreeMap::new();
    for cell in (0..atlas.cells()).map(CellIndex).filter(|cell| split.part(*cell) == part) {
        let manifest = atlas.manifest();
        let cell_type = &manifest.covariates[0].values[atlas.covariates(cell)[0] as usize];
        let name = manifest.conditions.name(atlas.condition(cell)).to_owned();
        *found.entry((name, cell_type.clone())).or_default() += 1;
    }
    found
}

#[test]
fn a_split_holds_out_what_its_scheme_says() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 2000, true, Codec::Raw);
    let make =
        |scheme: &str| Split::make(&atlas, "s", &Scheme::parse(scheme).unwrap(), SplitShares::default(), 5).unwrap();
    let held = |split: &Split| labels_of(&atlas, split, SplitPart::Ood);
    let used = |split: &Split| [SplitPart::Train, SplitPart::Valid].map(|part| labels_of(&atlas, split, part));

    let combos = make("combos:0.5");
    assert_eq!(held(&combos).keys().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), 1, "half of two");
    assert!(held(&combos).keys().all(|(name, _)| name.contains('+')));
    assert!(used(&combos).iter().all(|used| held(&combos).keys().all(|label| !used.contains_key(label))));

    let perturbations = make("perturbations:0.25");
    let singles: BTreeSet<&str> = atlas.manifest().conditions.perturbations().iter().map(String::as_str).collect();
    let gone: BTreeSet<&str> =
        singles.into_iter().filter(|single| held(&perturbations).keys().any(|(name, _)| name == single)).collect();
    assert_eq!(gone.len(), 1, "a quarter of four");
    let contains = |name: &str| name.split('+').any(|part| gone.contains(part));
    assert!(held(&perturbations).keys().all(|(name, _)| contains(name)));
    assert!(used(&perturbations).iter().all(|used| used.keys().all(|(name, _)| !contains(name))));

    let left_out = make("leave-out:cell_type");
    let types: BTreeSet<String> = held(&left_out).into_keys().map(|(_, cell_type)| cell_type).collect();
    assert_eq!(types.len(), 1);
    let control = atlas.manifest().conditions.name(CONTROL);
    let of_type = |labels: &BTreeMap<(String, String), usize>| {
        labels
            .keys()
            .filter(|(_, cell_type)| types.contains(cell_type))
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert!(used(&left_out).iter().all(|used| of_type(used) == [control]), "its controls stay, nothing else does");

    let random = make("random:0.3").counts();
    assert!((500..700).contains(&random[&SplitPart::Ood]), "30% of 2000: {random:?}");
    let expected = 0.15 * (2000 - random[&SplitPart::Ood]) as f64;
    assert!((random[&SplitPart::Valid] as f64 - expected).abs() < 0.2 * expected, "15% of the rest: {random:?}");
}

#[test]
fn a_selector_holds_out_the_cells_it_names_and_no_others() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 2000, true, Codec::Raw);
    let name = atlas.manifest().conditions.combinations().last().unwrap().name.clone();
    let (first, second) = name.split_once('+').unwrap();
    let hold_out = |texts: &[String]| {
        let selectors = texts.iter().map(|text| Selector::parse(text).unwrap()).collect();
        Split::make(&atlas, "s", &Scheme::HoldOut(selectors), SplitShares::default(), 5).unwrap()
    };
    let split = hold_out(&[format!("condition={name},cell_type=type_1")]);
    let held = labels_of(&atlas, &split, SplitPart::Ood);
    assert_eq!(held.keys().collect::<Vec<_>>(), [&(name.clone(), "type_1".to_owned())]);
    assert_eq!(split, hold_out(&[format!("condition={second}+{first},cell_type=type_1")]), "B+A is A+B");
    let either = hold_out(&[format!("condition={first}"), format!("condition={second}")]);
    let names: BTreeSet<String> =
        labels_of(&atlas, &either, SplitPart::Ood).into_keys().map(|(name, _)| name).collect();
    assert_eq!(names, BTreeSet::from([first.to_owned(), second.to_owned()]), "not their combination");
    for part in [SplitPart::Train, SplitPart::Valid] {
        assert!(!labels_of(&atlas, &either, part).keys().any(|(name, _)| names.contains(name)));
    }
}

#[test]
fn a_split_is_read_back_as_it_was_made_and_changes_no_checksum() {
    let home = Home::new();
    let (atlas, _) = atlas(&home, "a.atlas", 500, true, Codec::Raw);
    let split = random_split(&atlas);
    split.write(&atlas).unwrap();
    let again = Atlas::open(atlas.path()).unwrap();
    assert_eq!(Split::names(&again), ["random"]);
    assert_eq!(Split::read(&again, "random").unwrap(), *split);
    assert_eq!(again.manifest().checksum, atlas.manifest().checksum);
    assert!(again.verify().unwrap().is_empty());
}

#[test]
fn a_split_comes_out_of_a_column_where_test_means_valid() {
    let home = Home::new();
    let simulator = simulator(300, true);
    let mut chunk = simulator.chunk(0..300).unwrap();
    let parts: StringArray = (0..300).map(|cell| Some(["train", "test", "ood"][cell % 3])).collect();
    let mut columns: Vec<(String, ArrayRef)> = chunk
        .obs
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .zip(chunk.obs.columns().to_vec())
        .collect();
    columns.push(("assigned".into(), Arc::new(parts)));
    chunk.obs = RecordBatch::try_from_iter(columns).unwrap();
    let atlas = store(&chunk, simulator.genes(), &home.path("a.atlas"), Codec::Raw);
    let (split, said_test) = Split::from_obs(&atlas, atlas.path(), "mine", "assigned").unwrap();
    assert!(said_test, "it is told that test was taken for valid");
    for cell in 0..300 {
        let part = [SplitPart::Train, SplitPart::Valid, SplitPart::Ood][cell % 3];
        assert_eq!(split.part(CellIndex::at(cell)), part);
    }
}
