//! The layers of a network: names, sizes and number of parameters, from its tensors.

use std::{fs::File, io::Read, path::Path};

use polars::prelude::DataFrame;
use schemas::{Error, Result, counting::counted};
use serde_json::{Value, json};

use super::{column, table_of};

/// Largest size of the description at the start of a file of weights.
const MOST_HEADER_BYTES: u64 = 100 << 20;
/// How the names of layers begin, in the order of the network.
const ORDER: [&str; 4] = ["encoder", "pert_network", "covars_embeddings", "decoder"];
/// The prefix of nearly all names, as in the original's state dict.
const PREFIX: &str = "module.";

/// A tensor of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSize {
    /// The name, as in the file of weights.
    pub name: String,
    /// The number of values along each axis.
    pub shape: Vec<u64>,
}

/// A layer: tensors whose names differ in their last part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NetworkLayer {
    name: String,
    size: String,
    parameters: u64,
    is_learned: bool,
}

impl TensorSize {
    fn count(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Whether it is trained; others are measured: running statistics, profiles of the offset, given embeddings.
    fn is_learned(&self) -> bool {
        self.name.starts_with(PREFIX) && !self.name.contains(".running_") && !self.name.contains(".num_batches")
    }
}

/// The layers of a network, and its number of trained parameters, as JSON.
pub fn network_value(tensors: &[TensorSize]) -> Value {
    let parameters: u64 = tensors.iter().filter(|tensor| tensor.is_learned()).map(TensorSize::count).sum();
    let layers = layers(tensors).into_iter().map(|layer| {
        json!({ "name": layer.name, "size": layer.size, "parameters": layer.parameters, "trained": layer.is_learned })
    });
    json!({ "parameters": parameters, "layers": layers.collect::<Value>() })
}

/// The same layers as a table.
pub fn network_table(network: &Value) -> Result<DataFrame> {
    let layers = network["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text =
        |key: &str| layers.iter().map(|one| one[key].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    table_of(vec![
        column("layer", text("name")),
        column("size", text("size")),
        column("parameters", layers.iter().map(|one| one["parameters"].as_u64()).collect::<Vec<_>>()),
        column("trained", layers.iter().map(|one| one["trained"].as_bool()).collect::<Vec<_>>()),
    ])
}

/// `network: 12,345 parameters`.
pub fn network_text(network: &Value) -> String {
    format!("network: {}\n", counted(network["parameters"].as_u64().unwrap_or(0), "trained parameter"))
}

fn layers(tensors: &[TensorSize]) -> Vec<NetworkLayer> {
    let mut layers: Vec<NetworkLayer> = Vec::new();
    for tensor in tensors {
        let whole = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name);
        let name = whole.rsplit_once('.').map_or(whole, |(layer, _)| layer).to_owned();
        // Weights of a linear layer are outputs × inputs.
        let size = match tensor.shape.as_slice() {
            [outputs, inputs] if tensor.is_learned() && !name.contains("embedding") => format!("{inputs} → {outputs}"),
            sizes => sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × "),
        };
        let is_learned = tensor.is_learned();
        match layers.iter_mut().find(|layer| layer.name == name && layer.is_learned == is_learned) {
            Some(layer) => {
                layer.parameters += tensor.count();
                if tensor.shape.len() > 1 {
                    layer.size = size;
                }
            }
            None => layers.push(NetworkLayer { name, size, parameters: tensor.count(), is_learned }),
        }
    }
    // The order in which a cell goes through the network.
    layers.sort_by_key(|layer| ORDER.iter().position(|begin| layer.name.starts_with(begin)).unwrap_or(ORDER.len()));
    layers
}

/// The tensors in a file of weights, from the description at its start.
///
/// # Errors
/// A file that is missing or is not safetensors.
pub fn tensors_of_file(path: &Path) -> Result<Vec<TensorSize>> {
    let damaged = || Error::damaged(path, "it is not a file of weights");
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| damaged())?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES {
        return Err(damaged());
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(Error::io("read", path))?;
    let header: Value = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let tensors = header.as_object().ok_or_else(damaged)?.iter().filter(|(name, _)| *name != "__metadata__");
    let mut tensors: Vec<TensorSize> = tensors
        .map(|(name, tensor)| {
            let shape = tensor["shape"].as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
            Some(TensorSize { name: name.clone(), shape })
        })
        .collect::<Option<_>>()
        .ok_or_else(damaged)?;
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_a_layer_are_counted_together() {
        let tensor = |name: &str, shape: &[u64]| TensorSize { name: name.into(), shape: shape.to_vec() };
        let network = network_value(&[
            tensor("module.encoder.0.bias", &[16]),
            tensor("module.encoder.0.weight", &[16, 60]),
            tensor("module.encoder.1.running_mean", &[16]),
            tensor("module.encoder.1.weight", &[16]),
            tensor("offset.shifts", &[7, 60]),
        ]);
        assert_eq!(network["parameters"], 16 + 16 * 60 + 16);
        let layers = network["layers"].as_array().expect("a list");
        assert_eq!((&layers[0]["name"], &layers[0]["size"]), (&json!("encoder.0"), &json!("60 → 16")));
        assert_eq!(layers.len(), 4);
        assert_eq!(network_text(&network), "network: 992 trained parameters\n");
    }
}
