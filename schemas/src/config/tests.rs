use super::*;
use crate::atlas::ValueKind;

#[test]
fn assignments_win_over_the_file_and_the_file_over_the_preset() {
    let file = "seed = 3\n[model]\nn_latent = 8\nn_layers_encoder = 2";
    let settings = Settings::layered(
        Preset::Cpa,
        Some(("a.toml", file)),
        &["model.n_latent=16".into(), "model.doser_type=linear".into()],
    );
    let settings = settings.expect("good settings");
    assert_eq!((settings.seed, settings.model.n_latent, settings.model.n_layers_encoder), (3, 16, 2));
    assert_eq!(settings.model.doser_type, Doser::Linear);
    assert_eq!(settings.train, TrainSettings::default());
}

#[test]
fn a_key_that_there_is_not_is_refused_by_name() {
    let error = Settings::layered(Preset::Cpa, None, &["model.n_latnet=16".into()]).expect_err("a misspelt key");
    assert!(error.to_string().contains("n_latnet"), "{error}");
}

#[test]
fn settings_read_back_from_their_own_text() {
    let settings = Settings::layered(Preset::Cpa, None, &["train.lr=0.25".into()]).expect("good settings");
    let back = Settings::layered(Preset::Cpa, Some(("config.toml", &settings.to_toml())), &[]).expect("its own text");
    assert_eq!(back, settings);
}

#[test]
fn genes_are_all_a_number_or_a_file_and_read_back_as_such() {
    for (assignment, genes) in [
        ("data.genes=all", GeneChoice::All),
        ("data.genes=2000", GeneChoice::Variable(2000)),
        ("data.genes=panel.txt", GeneChoice::Listed("panel.txt".into())),
    ] {
        let assignments = [assignment.to_owned(), r#"data.genes_keep=["perturbed", "more.txt"]"#.to_owned()];
        let settings = Settings::layered(Preset::Cpa, None, &assignments).expect("good settings");
        assert_eq!(settings.data.genes, genes);
        assert_eq!(settings.data.genes_keep, [GenesKept::Perturbed, GenesKept::Listed("more.txt".into())]);
        let back = Settings::layered(Preset::Cpa, Some(("config.toml", &settings.to_toml())), &[]).expect("its text");
        assert_eq!(back, settings);
    }
    for bad in ["data.genes=0", "data.genes=-5", "data.genes=99999999999", "data.genes=true", "data.genes=1.5"] {
        assert!(Settings::layered(Preset::Cpa, None, &[bad.to_owned()]).is_err(), "{bad}");
    }
}

#[test]
fn half_of_a_short_run_is_left_for_training_at_full_weight() {
    let assignments = ["train.n_epochs_pretrain_ae=30".to_owned(), "train.n_epochs_adv_warmup=50".to_owned()];
    let settings = Settings::layered(Preset::Cpa, None, &assignments).expect("good settings");
    let plan = settings.check(ValueKind::Counts).expect("a good plan");
    let warm = |epochs| {
        let train = plan.clone().fitted_to(epochs).train.clone();
        (train.n_epochs_pretrain_ae, train.n_epochs_adv_warmup)
    };
    assert_eq!([200, 80, 8, 1].map(warm), [(30, 50), (15, 25), (1, 2), (0, 0)]);
}

#[test]
fn the_negative_binomial_is_for_counts_only() {
    let mut settings = Settings::default();
    settings.model.recon_loss = ReconLoss::Nb;
    assert!(settings.clone().check(ValueKind::Continuous).is_err());
    assert!(settings.check(ValueKind::Counts).is_ok());
}

#[test]
fn a_preset_has_its_name_and_reads_back_as_it_is() {
    for preset in Preset::ALL {
        let settings = Settings::layered(preset, None, &[]).expect("a preset is good");
        assert_eq!((settings.preset, &settings), (preset, &preset.settings()));
        let text = format!("preset = \"{}\"", preset.name());
        assert_eq!(Settings::layered(Preset::Cpa, Some(("a.toml", &text)), &[]).expect("a good file"), settings);
        assert!(settings.check(ValueKind::Counts).is_ok(), "{}", preset.name());
    }
}

#[test]
fn the_original_is_named_with_its_version() {
    let compat =
        |name: &str| Settings::layered(Preset::Cpa, None, &[format!("compat={name}")]).map(|settings| settings.compat);
    assert_eq!(compat("cpa-tools-0.8.8").expect("the original"), Compat::CpaTools088);
    assert_eq!(compat("none").expect("nobody"), Compat::None);
    assert!(compat("cpa-tools-0.8.7").is_err());
}

#[test]
fn a_batch_size_is_a_number_or_left_to_the_memory() {
    let size = |text: &str| Settings::layered(Preset::Cpa, None, &[format!("train.batch_size={text}")]);
    assert_eq!(size("512").expect("a number").train.batch_size, 512);
    let auto = size("auto").expect("a word that is known");
    assert_eq!(auto.train.batch_size, 0);
    let plan = auto.check(ValueKind::Counts).expect("a good plan").with_batch_size(64);
    assert!(plan.to_toml().contains("batch_size = 64"), "what was chosen is what is written");
    assert!(size("large").expect_err("another word").to_string().contains("`large`"));
    assert!(size("1").expect("a number").check(ValueKind::Counts).is_err(), "a batch of one cell has no variance");
}
