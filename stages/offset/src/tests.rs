//! Tests of offsets.

use schemas::{conditions::Covariate, config::ModelSettings, vocabulary::TrainedGroup};
use tch::{Device, Kind};

use super::{half_effects::half_effects, rule::AdditiveRule, *};

const CTRL: u32 = 1;
const A: u32 = 2;
const B: u32 = 3;
const DRUG: u32 = 4;

fn vocabulary(groups: &[(&[(u32, f64)], &str)]) -> Vocabulary {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let trained = groups.iter().map(|(parts, cell_type)| TrainedGroup {
        perturbations: parts.iter().map(|(code, _)| *code).collect(),
        doses: parts.iter().map(|(_, dose)| *dose).collect(),
        covariates: names(&[cell_type, "one"]),
        cells: 10,
    });
    Vocabulary {
        perturbations: names(&["<PAD>", "ctrl", "A", "B", "drug"]),
        covariates: vec![
            Covariate { name: "cell_type".into(), values: names(&["x", "y", "z"]) },
            Covariate { name: "batch".into(), values: names(&["one", "two"]) },
        ],
        batch: Some("batch".into()),
        trained: trained.collect(),
        ..Vocabulary::default()
    }
}

/// A rule with controls of three contexts, and half of the drug's effect at 0.5.
fn rule(groups: &[(&[(u32, f64)], &str)]) -> AdditiveRule {
    let controls: [(&[(u32, f64)], &str); 3] = [(&[], "x"), (&[], "y"), (&[], "z")];
    let layout = OffsetLayout::from_vocabulary(&vocabulary(&[&controls, groups].concat()));
    AdditiveRule { layout, half_effects: vec![None, None, None, None, Some(0.5)] }
}

/// The shift of a target in a context, if row `n` was trained to shift by `shifts[n]`.
fn shift(rule: &AdditiveRule, parts: &[(u32, f64)], context: u32, shifts: &[f64]) -> f64 {
    let own = rule.layout.context(&[context, 0]);
    let stand_ins = own.map_or_else(Vec::new, |own| rule.layout.stand_ins_of(own));
    rule.shift(parts, &TargetContext { own, stand_ins }).into_iter().map(|(row, weight)| weight * shifts[row]).sum()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn additive_takes_what_was_seen_in_the_context_or_else_the_mean_of_the_others() {
    let rule = rule(&[(&[(A, 1.0)], "x"), (&[(A, 1.0)], "y"), (&[(B, 1.0)], "x")]);
    close(shift(&rule, &[(A, 1.0)], 0, &[1.0, 3.0, 10.0]), 1.0);
    close(shift(&rule, &[(A, 1.0)], 2, &[1.0, 3.0, 10.0]), 2.0);
    close(shift(&rule, &[(A, 1.0), (B, 1.0)], 1, &[1.0, 3.0, 10.0]), 13.0);
    close(shift(&rule, &[(CTRL, 1.0)], 1, &[1.0, 3.0, 10.0]), 0.0);
}

#[test]
fn a_combination_that_was_trained_elsewhere_is_still_the_sum_of_its_parts() {
    let both = [(A, 1.0), (B, 1.0)];
    let rule = rule(&[(&[(A, 1.0)], "x"), (&[(B, 1.0)], "x"), (&both, "x"), (&[(A, 1.0)], "y"), (&[(B, 1.0)], "y")]);
    close(shift(&rule, &both, 1, &[1.0, 2.0, 7.0, 1.0, 2.0]), 3.0);
}

#[test]
fn what_was_trained_in_combinations_alone_has_what_they_show_beyond_their_other_parts() {
    let rule = rule(&[(&[(A, 1.0)], "x"), (&[(A, 1.0), (B, 1.0)], "x")]);
    close(shift(&rule, &[(B, 1.0)], 0, &[1.0, 5.0]), 4.0);
    close(shift(&rule, &[(DRUG, 1.0)], 0, &[1.0, 5.0]), 1.0);
}

#[test]
fn doses_are_interpolated_between_trained_ones_and_saturate_beyond_them() {
    let rule = rule(&[(&[(DRUG, 0.5)], "x"), (&[(DRUG, 1.5)], "x")]);
    let effect = |dose: f64| dose / (dose + 0.5);
    // Row n has the effect of its dose; so do all doses between, below and above.
    for dose in [0.1, 0.5, 0.7, 1.2, 1.5, 4.5] {
        close(shift(&rule, &[(DRUG, dose)], 0, &[effect(0.5), effect(1.5)]), effect(dose));
    }
}

#[test]
fn beyond_trained_doses_all_of_them_count() {
    let rule = rule(&[(&[(DRUG, 0.5)], "x"), (&[(DRUG, 1.5)], "x")]);
    let effect = |dose: f64| dose / (dose + 0.5);
    let [low, high] = [0.5, 1.5].map(effect);
    // The lower dose has twice the effect expected from the higher one.
    let height = (2.0 * low * low + high * high) / (low * low + high * high);
    close(shift(&rule, &[(DRUG, 4.5)], 0, &[2.0 * low, high]), effect(4.5) * height);
}

#[test]
fn nothing_is_known_of_how_an_effect_goes_on_where_one_dose_was_trained() {
    let rule = rule(&[(&[(A, 1.0)], "x")]);
    close(shift(&rule, &[(A, 3.0)], 0, &[2.0]), 2.0);
    close(shift(&rule, &[(A, 0.0)], 0, &[2.0]), 0.0);
}

#[test]
fn a_context_without_controls_has_those_that_share_most_covariate_values() {
    let mut vocabulary = vocabulary(&[(&[], "x"), (&[], "y"), (&[(A, 1.0)], "z")]);
    vocabulary.covariates.push(Covariate { name: "sex".into(), values: vec!["f".into(), "m".into()] });
    for (group, sex) in vocabulary.trained.iter_mut().zip(["f", "m", "m"]) {
        group.covariates.push(sex.into());
    }
    let layout = OffsetLayout::from_vocabulary(&vocabulary);
    assert_eq!(layout.stand_ins_of(2), [1]);
    assert_eq!(layout.stand_ins(&[None, None, Some(0)]), [0]);
    assert_eq!(layout.stand_ins(&[None, None, None]), [0, 1]);
}

#[test]
fn the_error_that_is_expected_is_of_what_is_open_and_of_the_noise_of_the_shifts() {
    let vocabulary = vocabulary(&[(&[], "x"), (&[(A, 1.0)], "x"), (&[(B, 1.0)], "x")]);
    let mut parameters = Parameters::new(Kind::Double, Device::Cpu);
    let model = ModelSettings { offset: OffsetChoice::Additive, ..ModelSettings::default() };
    let settings = Settings { model, ..Settings::default() };
    let mut offset = Offset::new(&mut parameters, &settings, 2, &vocabulary, None).expect("it is asked for");
    let filled = offset.fill(&OffsetProfiles {
        genes: 2,
        library: 100.0,
        controls: vec![1.0; 2],
        shifts: vec![1.0, 0.0, 2.0, 1.0],
        noises: vec![0.25, 0.5],
        ..OffsetProfiles::default()
    });
    filled.expect("shifts can be weighed");
    let terms = [CovariateTerm::Value(0), CovariateTerm::Nothing];
    assert_eq!(offset.uncertainty(&[(A, 1.0)], &terms).double_value(&[]), 0.0, "it was trained on");
    // The sum of two shifts, (3, 1); a fifth of its square is uncertain.
    close(offset.uncertainty(&[(A, 1.0), (B, 1.0)], &terms).double_value(&[]).powi(2), 0.2 * 5.0 + 0.25 + 0.5);
}

/// An offset by shrinkage of a perturbation in two contexts with 100 controls and 100 perturbed cells each, of which one gene of three
/// is shifted by 1 in both, and of 40 more genes that nothing shifts.
fn shrunken(loss: ReconLoss) -> Offset {
    let genes = 43;
    let vocabulary = vocabulary(&[(&[], "x"), (&[(A, 1.0)], "x"), (&[], "y"), (&[(A, 1.0)], "y"), (&[], "z")]);
    let mut parameters = Parameters::new(Kind::Double, Device::Cpu);
    let model = ModelSettings { offset: OffsetChoice::Shrinkage, recon_loss: loss, ..ModelSettings::default() };
    let settings = Settings { model, ..Settings::default() };
    let mut offset = Offset::new(&mut parameters, &settings, 43, &vocabulary, None).expect("it is asked for");
    let shift = (0..genes).map(|gene| if gene == 0 { 1.0 } else { 0.01 * (gene as f32 % 5.0 - 2.0) });
    let shifts: Vec<f32> = shift.collect::<Vec<_>>().repeat(2);
    let libraries = if loss == ReconLoss::Gauss { vec![0.0; LIBRARIES] } else { vec![1_000.0; LIBRARIES] };
    let filled = offset.fill(&OffsetProfiles {
        genes,
        library: 1_000.0,
        controls: vec![1.0; 3 * genes],
        shifts,
        noises: vec![0.01; 2],
        shrinkage: Some(ShrinkageProfiles {
            controls: vec![1.0; 3 * genes],
            control_noises: vec![0.01; 3],
            variances: vec![0.04; genes],
            libraries,
        }),
        ..OffsetProfiles::default()
    });
    filled.expect("they are sound");
    offset
}

#[test]
fn a_shift_is_kept_where_it_is_far_beyond_noise_and_all_but_vanishes_where_it_is_not() {
    let offset = shrunken(ReconLoss::Gauss);
    let terms = |context| [CovariateTerm::Value(context), CovariateTerm::Nothing];
    let of =
        |parts: &[(u32, f64)], context| Vec::<f64>::try_from(offset.of_terms(parts, &terms(context)).offset.view([-1]));
    for context in [0, 1, 2] {
        let control = of(&[(CTRL, 1.0)], context).expect("it has numbers");
        assert!(control.iter().all(|value| (value - 1.0).abs() < 1e-9), "{control:?}");
        let shifted = of(&[(A, 1.0)], context).expect("it has numbers");
        assert!((1.8..2.05).contains(&shifted[0]), "context {context}: {}", shifted[0]);
        assert!(shifted[1..].iter().all(|value| (value - 1.0).abs() < 0.01), "{shifted:?}");
    }
    let error = |parts: &[(u32, f64)], context| offset.uncertainty(parts, &terms(context)).double_value(&[]);
    assert_eq!(error(&[(CTRL, 1.0)], 0), 0.0);
    assert!(error(&[(A, 1.0)], 0) < error(&[(A, 1.0)], 2), "less is known of a context without the perturbation");
    assert!(error(&[(A, 1.0)], 2) < error(&[(B, 1.0)], 2), "and less still of a perturbation without cells");
}

#[test]
fn counts_start_where_their_expected_logarithm_is_shifted_by_the_estimate() {
    let offset = shrunken(ReconLoss::Nb);
    let terms = [CovariateTerm::Value(0), CovariateTerm::Nothing];
    let means =
        |parts| Vec::<f64>::try_from(offset.of_terms(parts, &terms).offset.exp().view([-1])).expect("it has numbers");
    let (control, shifted) = (means(&[(CTRL, 1.0)]), means(&[(A, 1.0)]));
    let shift = offset.of_terms(&[(A, 1.0)], &terms).log_shift.expect("it is of counts").double_value(&[0, 0]);
    let expected = |mean: f64| statistics::counted_log::expectation(mean, 10.0);
    close((control[0] - 1.0_f64.exp_m1()).abs(), 0.0);
    let change = expected(shifted[0]) - expected(control[0]);
    assert!((change - shift).abs() < 1e-3 && shift > 0.8, "{change} is not {shift}");
}

#[test]
fn the_dose_of_half_an_effect_is_found_from_three_doses() {
    let groups: [(&[(u32, f64)], &str); 3] = [(&[(DRUG, 0.1)], "x"), (&[(DRUG, 0.3)], "x"), (&[(DRUG, 1.0)], "x")];
    let layout = rule(&groups).layout;
    let shifts: Vec<f32> = [0.1_f32, 0.3, 1.0].iter().map(|dose| 2.0 * dose / (dose + 0.3)).collect();
    let profiles = OffsetProfiles { genes: 1, controls: vec![0.0; 3], shifts, ..OffsetProfiles::default() };
    let halves = half_effects(&layout, &profiles, 5);
    assert_eq!(halves[DRUG as usize], Some(0.3));
    assert_eq!(halves[A as usize], None);
}
