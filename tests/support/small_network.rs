//! A network that is small enough for float64, and a batch for it.
#![allow(dead_code, reason = "no test needs all of it")]

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use schemas::{
    atlas::ValueKind,
    batch::{BatchPlan, Expression, Genes, Labels, Role, Values},
    conditions::Covariate,
    config::{Objective, Preset, Settings, TrainingPlan},
    ids::{CellIndex, RowIndex},
    vocabulary::Vocabulary,
};
use sprs::CsMatI;
use stages::{
    model::input::Input,
    offset::CellOffsets,
    stage::{batch::Batch, pool::Pool},
};
use tch::{Device, Kind, Tensor};

pub const CELLS: usize = 70;
pub const GENES: u32 = 45;

pub fn plan(assignments: &str) -> TrainingPlan {
    let small = "model.n_latent=6 model.n_hidden_encoder=20 model.n_hidden_decoder=17 model.n_layers_encoder=2 \
                 model.n_layers_decoder=2 adversary.n_hidden_adv=9 model.dropout_rate_encoder=0 \
                 model.dropout_rate_decoder=0 adversary.dropout_rate_adv=0 train.n_epochs_pretrain_ae=0 \
                 train.n_epochs_adv_warmup=0";
    let assignments: Vec<String> = small.split_whitespace().chain(assignments.split(' ')).map(str::to_owned).collect();
    Settings::layered(Preset::Cpa, None, &assignments)
        .and_then(|settings| settings.check(ValueKind::Counts))
        .expect("good settings")
}

pub fn vocabulary() -> Vocabulary {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    Vocabulary {
        perturbations: names(&["<PAD>", "ctrl", "A", "B"]),
        combinations: names(&["A", "A+B", "ctrl"]),
        combination_cells: vec![30, 10, 30],
        covariates: vec![Covariate { name: "cell_type".to_owned(), values: names(&["x", "y"]) }],
        ..Vocabulary::default()
    }
}

/// The same, of a model whose perturbations are described by a table where the settings name one, and with the covariates that
/// `train.match_keys` lists, if any: the first of them has a single value.
pub fn vocabulary_for(plan: &TrainingPlan) -> Vocabulary {
    let embedding_width = plan.model.perturbation_embeddings.as_ref().map(|_| 3);
    let mut vocabulary = Vocabulary { embedding_width, ..vocabulary() };
    let listed = plan.train.match_keys.iter().enumerate();
    let values = |at| ["x", "y"].into_iter().take(1 + at).map(str::to_owned).collect();
    let listed: Vec<_> = listed.map(|(at, name)| Covariate { name: name.clone(), values: values(at) }).collect();
    if !listed.is_empty() {
        vocabulary.covariates = listed;
    }
    vocabulary
}

/// Counts without a pattern; one of the cells has none, one gene is large.
pub fn input(kind: Kind) -> Input {
    input_of(0..CELLS, kind)
}

/// The same as these settings want it: where cells are decoded from others, with offsets too.
#[allow(dead_code, reason = "not every test that shares this module tells settings apart")]
pub fn input_for(plan: &TrainingPlan, kind: Kind) -> Input {
    let input = input(kind);
    if plan.train.objective == Objective::Reconstruction {
        return input;
    }
    let cells = i64::try_from(CELLS).expect("few cells");
    let offset = Tensor::arange(cells * i64::from(GENES), (kind, Device::Cpu)).sin().view([cells, i64::from(GENES)]);
    let rows = Tensor::arange(cells, (Kind::Int64, Device::Cpu));
    let sources = rows.bitwise_xor(1);
    Input { offset: Some(CellOffsets::new(&offset, rows)), sources: Some(sources), ..input }
}

/// Some of these cells.
pub fn input_of(range: Range<usize>, kind: Kind) -> Input {
    Input::new(&batch(range), i64::from(GENES), kind, Device::Cpu)
}

/// The same as they come from an atlas.
pub fn batch(range: Range<usize>) -> Batch {
    let mut state = 7_u32;
    let mut draw = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let (mut row_pointers, mut genes, mut values) = (vec![0], Vec::new(), Vec::new());
    for cell in 0..CELLS {
        for gene in (0..GENES).filter(|_| cell != 3) {
            if draw(4) == 0 || gene == 5 {
                let value = u16::try_from(1 + draw(if gene == 5 { 900 } else { 6 })).expect("a small count");
                if range.contains(&cell) {
                    genes.push(u16::try_from(gene).expect("few genes"));
                    values.push(value);
                }
            }
        }
        if range.contains(&cell) {
            row_pointers.push(u32::try_from(genes.len()).expect("few entries"));
        }
    }
    let conditions: Vec<usize> = range.clone().map(|cell| cell % 3).collect();
    let parts: [&[(u32, f32)]; 3] = [&[(2, 0.5)], &[(2, 0.5), (3, 0.25)], &[(1, 1.0)]];
    let (mut pointers, mut codes, mut doses) = (vec![0], Vec::new(), Vec::new());
    for (code, dose) in conditions.iter().map(|condition| parts[*condition]).flat_map(|parts| {
        pointers.push(pointers.last().copied().unwrap_or(0) + u32::try_from(parts.len()).expect("two"));
        parts
    }) {
        codes.push(*code);
        doses.push(*dose);
    }
    let labels = Labels {
        perturbations: CsMatI::new((range.len(), 4), pointers, codes, doses),
        combinations: conditions.iter().map(|condition| u32::try_from(*condition).expect("three")).collect(),
        covariates: vec![range.clone().map(|cell| u32::try_from(cell / 5 % 2).expect("two")).collect()],
        groups: vec![0; range.len()],
    };
    let plan = BatchPlan {
        pass: 0,
        index: 0,
        role: Role::Train,
        last: false,
        cells: range.clone().map(CellIndex::at).collect(),
        rows: range.map(RowIndex::at).collect(),
    };
    let expression = Expression { row_pointers, genes: Genes::U16(genes), values: Values::U16(values) };
    Batch { plan, labels, expression: Pool::default().take(|| expression) }
}

/// The same with the covariates of [`vocabulary_for`].
pub fn batch_for(plan: &TrainingPlan, range: Range<usize>) -> Batch {
    let mut batch = batch(range.clone());
    let code = |cell: usize, at: usize| u32::from(at > 0 && cell / (at + 1) % 2 == 1);
    let listed = plan.train.match_keys.iter().enumerate();
    let codes: Vec<Vec<u32>> = listed.map(|(at, _)| range.clone().map(|cell| code(cell, at)).collect()).collect();
    if !codes.is_empty() {
        batch.labels.covariates = codes;
    }
    batch
}

/// Cells of any number of genes, with this many non-zeros each.
pub fn wide_batch(cells: usize, genes: u32, nonzeros: usize) -> Batch {
    let Batch { plan, mut labels, .. } = batch(0..1);
    let mut expression =
        Expression { row_pointers: vec![0], genes: Genes::U16(Vec::new()), values: Values::U16(Vec::new()) };
    let (mut ids, mut values) = (Vec::new(), Vec::new());
    for cell in 0..cells {
        for at in 0..nonzeros {
            ids.push(u16::try_from(at * genes as usize / nonzeros).expect("few genes"));
            values.push(u16::try_from(1 + (at + cell) % 5).expect("a small count"));
        }
        expression.row_pointers.push(u32::try_from(ids.len()).expect("few entries"));
    }
    (expression.genes, expression.values) = (Genes::U16(ids), Values::U16(values));
    let pointers: Vec<u32> = (0..=u32::try_from(cells).expect("few cells")).collect();
    labels.perturbations = CsMatI::new((cells, 4), pointers, vec![2; cells], vec![1.0; cells]);
    labels.combinations = (0..cells).map(|cell| u32::try_from(cell % 3).expect("three")).collect();
    labels.covariates = vec![(0..cells).map(|cell| u32::try_from(cell % 2).expect("two")).collect()];
    labels.groups = vec![0; cells];
    let at = |at: u64| CellIndex(at);
    let cells: Vec<CellIndex> = (0..cells as u64).map(at).collect();
    let rows = cells.iter().map(|cell| RowIndex(cell.0)).collect();
    Batch { plan: BatchPlan { cells, rows, ..plan }, labels, expression: Pool::default().take(|| expression) }
}

/// Learners are drawn from libtorch's generator, of which a process has one: tests that draw do so in turn.
static GENERATOR: Mutex<()> = Mutex::new(());

pub fn alone() -> MutexGuard<'static, ()> {
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}
