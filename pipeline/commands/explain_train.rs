//! The part of `explain train` besides the graph: the network, the steps, the settings and the expected time.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use cli::{
    CommandContext,
    inspect::{
        layers::{TensorSize, network_table, network_text, network_value},
        shown_rows,
    },
    progress::clock,
};
use perturbine::{Error, Result, Settings, Training, schemas::counting::counted};

/// How long products of matrices are timed.
const MEASURED: Duration = Duration::from_millis(30);
/// Rows and columns of the matrices of which products are timed.
const SIDE: i64 = 384;
/// Multiplications and additions for each weight and cell: forwards, and backwards for inputs and weights.
const OPERATIONS: f64 = 6.0;
/// The time of a step, as a multiple of that of its products: the rest are norms, losses and optimisers.
const WHOLE_STEP: f64 = 2.0;

/// The description of a run, in JSON.
pub(super) fn training_value(training: &Training) -> Result<Value> {
    let tensors = training.tensors()?.into_iter().map(|(name, shape)| TensorSize {
        name,
        shape: shape.into_iter().filter_map(|size| u64::try_from(size).ok()).collect(),
    });
    let network = network_value(&tensors.collect::<Vec<_>>());
    let config = &training.card().config;
    let (train, adversary) = (&config.train, &config.adversary);
    let cells = training.cells() * u64::from(training.epochs());
    let seconds = (training.device() == Device::Cpu)
        .then(|| expected_seconds(network["parameters"].as_u64().unwrap_or(0), cells));
    let mut rates = json!({ "train.lr": train.lr });
    if network["layers"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|layer| layer["name"].as_str().unwrap_or_default().contains("dosers"))
    {
        rates["train.doser_lr"] = train.doser_lr.into();
    }
    if adversary.reg_adv > 0.0 {
        rates["adversary.adv_lr"] = adversary.adv_lr.into();
    }
    Ok(json!({
        "network": network,
        "preset": config.preset.name(),
        "cells": training.cells(),
        "genes": training.card().genes.len(),
        "epochs": training.epochs(),
        "batch_size": train.batch_size,
        "batches_per_epoch": training.batches(),
        "steps": training.steps(),
        "learning_rates": rates,
        "expected_seconds": seconds,
        "settings": changed_settings(config)?,
        // For programs that train by other means: the model's card and its settings as the run would write them.
        "card": training.card(),
        "config": config.to_toml(),
    }))
}

/// The same as text.
pub(super) fn training_text(value: &Value, context: &CommandContext) -> Result<String> {
    let count = |key: &str| value[key].as_u64().unwrap_or(0);
    let mut text = network_text(&value["network"]);
    text += &shown_rows(&network_table(&value["network"])?, "layer", context);
    text += &format!(
        "{} × {}\nat most {} of {} of {}, {} in all\n",
        counted(count("cells"), "training cell"),
        counted(count("genes"), "gene"),
        counted(count("epochs"), "epoch"),
        counted(count("batches_per_epoch"), "batch"),
        counted(count("batch_size"), "cell"),
        counted(count("steps"), "step")
    );
    let rates = value["learning_rates"].as_object().into_iter().flatten();
    let rates: Vec<String> = rates.map(|(name, rate)| format!("{name} {rate}")).collect();
    text += &format!("learning rates: {}\n", rates.join(", "));
    text += &match value["expected_seconds"].as_f64() {
        Some(seconds) => format!(
            "expected time: about {} (estimated from the speed of matrix products here; early stopping ends sooner)\n",
            clock(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))
        ),
        None => "expected time: unknown on a GPU before the first epoch\n".to_owned(),
    };
    let settings = value["settings"].as_object().into_iter().flatten();
    let settings: Vec<String> = settings
        .map(|(name, change)| format!("  {name} = {} (preset: {})", change["value"], change["preset"]))
        .collect();
    text += &match settings.as_slice() {
        [] => format!("settings: those of the preset {}\n", value["preset"].as_str().unwrap_or_default()),
        changed => format!(
            "settings that differ from the preset {}, or were resolved:\n{}\n",
            value["preset"].as_str().unwrap_or_default(),
            changed.join("\n")
        ),
    };
    Ok(text)
}

/// Seconds for this many cells (in all epochs) of a network with this many parameters, on this machine's processor.
fn expected_seconds(parameters: u64, cells: u64) -> f64 {
    let operands = [(); 2].map(|()| Tensor::rand([SIDE, SIDE], (Kind::Float, Device::Cpu)));
    // The first product starts the threads.
    let product = || drop(std::hint::black_box(operands[0].matmul(&operands[1])));
    product();
    let started = Instant::now();
    let mut products = 0_u32;
    while started.elapsed() < MEASURED {
        product();
        products += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 52 bits")]
    let (side, work) = (SIDE as f64, OPERATIONS * parameters as f64 * cells as f64);
    let rate = 2.0 * side.powi(3) * f64::from(products) / started.elapsed().as_secs_f64();
    WHOLE_STEP * work / rate
}

/// Settings that differ from those of the preset, each with both values.
fn changed_settings(config: &Settings) -> Result<Value> {
    let flat = |settings: &Settings| -> Result<Map<String, Value>> {
        let value = serde_json::to_value(settings).map_err(|error| Error::Bug(error.to_string()))?;
        let mut flat = Map::new();
        for (section, value) in value.as_object().into_iter().flatten() {
            match value {
                Value::Object(keys) => {
                    flat.extend(keys.iter().map(|(key, value)| (format!("{section}.{key}"), value.clone())));
                }
                value => _ = flat.insert(section.clone(), value.clone()),
            }
        }
        Ok(flat)
    };
    let before = flat(&config.preset.settings())?;
    let changed = flat(config)?.into_iter().filter_map(|(name, value)| {
        let preset = before.get(&name).cloned().unwrap_or_default();
        (preset != value).then(|| (name, json!({ "value": value, "preset": preset })))
    });
    Ok(Value::Object(changed.collect()))
}
