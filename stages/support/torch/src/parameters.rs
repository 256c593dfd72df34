//! Parameters by name, as in the original's state dict.

use std::{collections::BTreeMap, io, path::Path};

use schemas::{Error, Result};
use storage::disk::StagedFile;
use tch::{Device, Kind, TchError, Tensor};

use super::host_copy::to_host;

/// Trained tensors and running statistics.
#[derive(Debug)]
pub struct Parameters {
    kind: Kind,
    device: Device,
    learned: BTreeMap<String, Tensor>,
    statistics: BTreeMap<String, Tensor>,
}

impl Parameters {
    /// Empty parameters; all will have this type and be on this device.
    #[must_use]
    pub fn new(kind: Kind, device: Device) -> Self {
        Self { kind, device, learned: BTreeMap::new(), statistics: BTreeMap::new() }
    }

    /// The type of all parameters.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The device of all parameters.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Adds a trained tensor drawn uniformly from `[-bound, bound]`.
    pub fn uniform(&mut self, name: &str, size: &[i64], bound: f64) -> Tensor {
        let drawn = Tensor::empty(size, (self.kind, Device::Cpu)).uniform_(-bound, bound);
        self.learn(name, drawn)
    }

    /// Adds a trained tensor drawn from the standard normal.
    pub fn normal(&mut self, name: &str, size: &[i64]) -> Tensor {
        self.learn(name, Tensor::randn(size, (self.kind, Device::Cpu)))
    }

    /// Adds a trained tensor filled with one value.
    pub fn constant(&mut self, name: &str, size: &[i64], value: f64) -> Tensor {
        self.learn(name, Tensor::full(size, value, (self.kind, Device::Cpu)))
    }

    /// Adds a trained tensor. Tensors are drawn on the CPU, so that a seed gives the same ones on every device.
    pub fn learn(&mut self, name: &str, value: Tensor) -> Tensor {
        let value = value.to_device(self.device).set_requires_grad(true);
        self.learned.insert(name.to_owned(), value.shallow_clone());
        value
    }

    /// Adds a running statistic filled with one value.
    pub fn statistic(&mut self, name: &str, size: &[i64], value: f64) -> Tensor {
        let value = Tensor::full(size, value, (self.kind, self.device));
        self.statistics.insert(name.to_owned(), value.shallow_clone());
        value
    }

    /// The trained tensors, by name.
    #[must_use]
    pub fn learned(&self) -> &BTreeMap<String, Tensor> {
        &self.learned
    }

    /// All saved tensors: trained ones and statistics, by name.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.learned.iter().chain(&self.statistics)
    }

    /// A detached copy of everything in host memory.
    ///
    /// # Errors
    /// A lost device.
    pub fn snapshot(&self) -> Result<BTreeMap<String, Tensor>> {
        let (names, tensors): (Vec<&String>, Vec<&Tensor>) = self.all().unzip();
        Ok(names.into_iter().cloned().zip(to_host(&tensors)?).collect())
    }

    /// Shares all tensors with another network of the same layout: writing to one network writes to both.
    pub fn share(&mut self, other: &Self) {
        for ((_, own), (_, theirs)) in self.learned.iter_mut().chain(&mut self.statistics).zip(other.all()) {
            own.set_data(theirs);
        }
    }

    /// Moves everything towards another network; a share of 1 copies it.
    pub fn approach(&mut self, other: &Self, share: f64) {
        let _no_grad = tch::no_grad_guard();
        for ((_, own), (_, theirs)) in self.learned.iter_mut().chain(&mut self.statistics).zip(other.all()) {
            let _ = own.lerp_(theirs, share);
        }
    }

    /// Overwrites everything with tensors of the same names; others are ignored.
    ///
    /// # Errors
    /// A missing name, another shape, or values that are not finite.
    pub fn restore(&mut self, from: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
        for (name, own) in self.learned.iter_mut().chain(&mut self.statistics) {
            let given = from.get(name).ok_or_else(|| Error::damaged(path, format!("tensor `{name}` is missing")))?;
            if given.size() != own.size() {
                return Err(Error::damaged(
                    path,
                    format!("tensor `{name}` has shape {:?}, not {:?}", given.size(), own.size()),
                ));
            }
            if given.isfinite().all().int64_value(&[]) == 0 {
                return Err(Error::damaged(path, format!("tensor `{name}` holds NaN or infinite values")));
            }
            tch::no_grad(|| own.copy_(given));
        }
        Ok(())
    }
}

/// Writes tensors as safetensors, whole or not at all.
///
/// # Errors
/// A full or broken disk.
pub fn write_safetensors(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let staged = StagedFile::beside(path)?;
    let to_list = |(name, tensor): (_, &Tensor)| (name, tensor.to_device(Device::Cpu).contiguous());
    let list: Vec<(&String, Tensor)> = tensors.iter().map(to_list).collect();
    staged.write_by(|hidden| {
        Tensor::write_safetensors(&list, hidden).map_err(|error| Error::io("write", path)(io_error_within(error)))
    })?;
    staged.commit()
}

/// The operating system's error inside another error, to recognise a full disk.
fn io_error_within(error: TchError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(deeper) = cause {
        if let Some(code) = deeper.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        cause = deeper.source();
    }
    // For errors that keep only the text of their cause.
    if error.to_string().contains("No space left on device") {
        return io::ErrorKind::StorageFull.into();
    }
    io::Error::other(error)
}

/// Reads all tensors of a safetensors file.
///
/// # Errors
/// A missing file, or one that is not safetensors.
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "weights" });
    }
    let tensors = Tensor::read_safetensors(path).map_err(|error| Error::damaged(path, error.to_string()))?;
    Ok(tensors.into_iter().collect())
}
