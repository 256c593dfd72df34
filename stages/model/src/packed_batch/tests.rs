use device_kernels::mixing::Mixing;

use super::*;
use crate::{schedule::Schedule, step_numbers::Control};

fn labels() -> Labels {
    let perturbations = CsMatI::<f32, u32>::new((3, 5), vec![0, 1, 3, 4], vec![2, 3, 4, 1], vec![0.5, 1.5, 2.5, 1.0]);
    Labels {
        perturbations,
        combinations: vec![1, 2, 0],
        covariates: vec![vec![0, 1, 1], vec![3, 2, 1]],
        groups: vec![0, 1, 2],
    }
}

fn alike(expression: &Expression, genes: i64) {
    let packed = PackedBatch::pack(expression, &labels(), genes, |layout| layout).expect("memory");
    let input = packed.input(Kind::Double, Device::Cpu).expect("memory");
    let plain = Cells::new(expression, genes, Kind::Double, Device::Cpu);
    assert_eq!(input.cells.dense(), plain.dense());
    assert_eq!(input.cells.log1p(), plain.log1p());
    assert_eq!(input.cells.library, plain.library);
    assert_eq!(Vec::<i64>::try_from(input.perturbations.view([-1])).expect("numbers"), [2, 0, 3, 4, 1, 0]);
    assert_eq!(Vec::<f64>::try_from(input.doses.view([-1])).expect("numbers"), [0.5, 0.0, 1.5, 2.5, 1.0, 0.0]);
    let covariates: Vec<Vec<i64>> =
        input.covariates.iter().map(|codes| Vec::try_from(codes).expect("numbers")).collect();
    assert_eq!(covariates, [[0, 1, 1], [3, 2, 1]]);
    assert_eq!(Vec::<i64>::try_from(&input.combinations).expect("numbers"), [1, 2, 0]);

    let alone = PackedBatch::of_cells(expression, genes).and_then(|alone| alone.input(Kind::Float, Device::Cpu));
    let (alone, plain) = (alone.expect("memory").cells, Cells::new(expression, genes, Kind::Float, Device::Cpu));
    assert_eq!((alone.dense(), alone.log1p(), alone.library), (plain.dense(), plain.log1p(), plain.library));
}

#[test]
fn what_was_packed_is_taken_apart_in_every_type() {
    let rows = vec![0, 2, 2, 5];
    let wide = Values::U32(vec![1, 2, 3, 70_000, 5]);
    for values in [Values::U8(vec![1, 2, 3, 200, 5]), Values::U16(vec![1, 2, 3, 40_000, 5]), wide] {
        let genes = Genes::U16(vec![1, 40_000, 0, 2, 65_535]);
        alike(&Expression { row_pointers: rows.clone(), genes, values }, 65_536);
    }
    let genes = Genes::U32(vec![1, 70_000, 0, 2, 65_535]);
    let values = Values::F32(vec![0.5, 2.5, 3.25, 1e-3, 5.0]);
    alike(&Expression { row_pointers: rows, genes, values: values.clone() }, 70_001);
    // Fewer genes than padding: the last cell's gene is written many times.
    let genes = Genes::U16(vec![1, 2, 0, 1, 2]);
    alike(&Expression { row_pointers: vec![0, 2, 2, 5], genes, values }, 3);
}

#[test]
fn a_batch_may_take_the_room_and_the_types_of_another_one() {
    let expression = |values: Values, genes: Genes| Expression { row_pointers: vec![0, 2, 2, 5], genes, values };
    let large = expression(Values::U32(vec![1, 2, 3, 70_000, 5]), Genes::U32(vec![1, 4, 0, 2, 6]));
    let small = [Values::U8(vec![1, 2, 3, 200, 5]), Values::U16(vec![1, 2, 3, 40_000, 5])];
    for values in small {
        let small = expression(values, Genes::U16(vec![1, 4, 0, 2, 6]));
        let large = PackedLayout { parts: 4, entries: 5000, ..PackedLayout::of_parts(&large, &labels(), 7) };
        let joined = PackedLayout::of_parts(&small, &labels(), 7).joined(&large);
        assert_eq!(joined, large);
        let packed = PackedBatch::pack(&small, &labels(), 7, |_| joined).expect("memory");
        let input = packed.input(Kind::Double, Device::Cpu).expect("memory");
        let plain = Cells::new(&small, 7, Kind::Double, Device::Cpu);
        assert_eq!((input.cells.dense(), input.cells.library), (plain.dense(), plain.library));
    }
}

#[test]
fn the_numbers_of_a_step_lie_before_its_batch() {
    let values = Values::U8(vec![1, 2, 3, 200, 5]);
    let expression = Expression { row_pointers: vec![0, 2, 2, 5], genes: Genes::U16(vec![1, 4, 0, 2, 6]), values };
    let mut packed = PackedBatch::pack(&expression, &labels(), 7, |layout| layout).expect("memory");
    let before = packed.input(Kind::Double, Device::Cpu).expect("memory").cells.dense().copy();
    let numbers = StepNumbers {
        rates: [0.5, 0.25, 0.125],
        schedule: Schedule {
            adversarial: true,
            autoencoder_learns: true,
            adversaries_learn: true,
            adversary_weight: 3.0,
            divergence_weight: 1.0,
            mixup_alpha: 0.2,
            rate: 1.0,
            batch: 11,
        },
        seed: 7,
        rows: &[4, 5, 6],
        sources: &[2, 0, 1],
        mixup: Some((&[1, 2, 0], 0.75)),
    };
    packed.write(&numbers).expect("no copy is under way");
    let controls = packed.layout.controls(&packed.bytes);
    let number = |control| controls.number(control).double_value(&[]);
    let rates = [Control::AutoencoderRate, Control::DoserRate, Control::AdversaryRate].map(number);
    assert_eq!((rates, number(Control::AdversaryWeight)), ([0.5, 0.25, 0.125], 3.0));
    assert_eq!((controls.whole(Control::Batch).int64_value(&[]), number(Control::Share)), (11, 0.75));
    let Mixing { partners, partner_of, .. } = controls.mixing();
    let of_cells = [controls.rows(), controls.sources(), partners, partner_of];
    let of_cells = of_cells.map(|numbers| Vec::<i64>::try_from(numbers).expect("numbers"));
    assert_eq!(of_cells, [vec![4, 5, 6], vec![2, 0, 1], vec![1, 2, 0], vec![2, 0, 1]]);
    assert_eq!(packed.input(Kind::Double, Device::Cpu).expect("memory").cells.dense(), before);
}

#[test]
fn there_is_room_for_an_eighth_more_at_most() {
    for entries in [0, 1, 1024, 1025, 100_000, 3_000_000, (1 << 21) + 1] {
        let room = room(entries);
        assert!(entries <= room && room <= (entries + entries / 8).max(entries + SMALLEST_STEP), "{entries}: {room}");
    }
}
