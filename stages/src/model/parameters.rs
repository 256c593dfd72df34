//! Parameters by name, as in the original's state dict.

use std::{collections::BTreeMap, io, path::Path};

use schemas::{Error, Result};
use tch::{Device, Kind, TchError, Tensor};

use super::host_copy::to_host;
use crate::disk::StagedFile;

/// Tensors that are learned, and the running statistics beside them.
#[derive(Debug)]
pub struct Parameters {
    kind: Kind,
    device: Device,
    learned: BTreeMap<String, Tensor>,
    statistics: BTreeMap<String, Tensor>,
}

impl Parameters {
    /// No parameters yet; all will be of one kind, on one device.
    #[must_use]
    pub fn new(kind: Kind, device: Device) -> Self {
        Self { kind, device, learned: BTreeMap::new(), statistics: BTreeMap::new() }
    }

    /// The kind of all parameters.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The device of all parameters.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Adds a learned tensor drawn evenly from `[-bound, bound]`.
    pub fn uniform(&mut self, name: &str, size: &[i64], bound: f64) -> Tensor {
        let drawn = Tensor::empty(size, (self.kind, Device::Cpu)).uniform_(-bound, bound);
        self.learn(name, drawn)
    }

    /// Adds a learned tensor drawn from the standard normal.
    pub fn normal(&mut self, name: &str, size: &[i64]) -> Tensor {
        self.learn(name, Tensor::randn(size, (self.kind, Device::Cpu)))
    }

    /// Adds a learned tensor of one value.
    pub fn constant(&mut self, name: &str, size: &[i64], value: f64) -> Tensor {
        self.learn(name, Tensor::full(size, value, (self.kind, Device::Cpu)))
    }

    /// Adds a learned tensor. Tensors are drawn on the CPU, so that a seed gives the same ones on every device.
    pub fn learn(&mut self, name: &str, value: Tensor) -> Tensor {
        let value = value.to_device(self.device).set_requires_grad(true);
        self.learned.insert(name.to_owned(), value.shallow_clone());
        value
    }

    /// Adds a running statistic of one value.
    pub fn statistic(&mut self, name: &str, size: &[i64], value: f64) -> Tensor {
        let value = Tensor::full(size, value, (self.kind, self.device));
        self.statistics.insert(name.to_owned(), value.shallow_clone());
        value
    }

    /// The learned tensors, by name.
    #[must_use]
    pub fn learned(&self) -> &BTreeMap<String, Tensor> {
        &self.learned
    }

    /// Everything there is to save: learned tensors and statistics, by name.
    pub fn all(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.learned.iter().chain(&self.statistics)
    }

    /// A copy of everything in memory of the host, detached from what comes later.
    ///
    /// # Errors
    /// A device that is gone.
    pub fn snapshot(&self) -> Result<BTreeMap<String, Tensor>> {
        let (names, tensors): (Vec<&String>, Vec<&Tensor>) = self.all().unzip();
        Ok(names.into_iter().cloned().zip(to_host(&tensors)?).collect())
    }

    /// Takes over everything of another network that was laid out alike. No number is copied: whoever writes to one, writes to both.
    pub fn share(&mut self, other: &Self) {
        for ((_, own), (_, theirs)) in self.learned.iter_mut().chain(&mut self.statistics).zip(other.all()) {
            own.set_data(theirs);
        }
    }

    /// Moves everything towards the same of another network, all the way at a share of 1.
    pub fn approach(&mut self, other: &Self, share: f64) {
        let _no_grad = tch::no_grad_guard();
        for ((_, own), (_, theirs)) in self.learned.iter_mut().chain(&mut self.statistics).zip(other.all()) {
            let _ = own.lerp_(theirs, share);
        }
    }

    /// Overwrites everything with tensors of the same names; others among them are not looked at.
    ///
    /// # Errors
    /// A name that is not there, another shape, or values that are not finite.
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
/// A disk that is full or broken.
pub fn write_safetensors(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let staged = StagedFile::beside(path)?;
    let to_list = |(name, tensor): (_, &Tensor)| (name, tensor.to_device(Device::Cpu).contiguous());
    let list: Vec<(&String, Tensor)> = tensors.iter().map(to_list).collect();
    staged.write_by(|hidden| {
        Tensor::write_safetensors(&list, hidden).map_err(|error| Error::io("write", path)(io_error_within(error)))
    })?;
    staged.commit()
}

/// The operating system's own error within another, so that a full disk is told from others.
fn io_error_within(error: TchError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(deeper) = cause {
        if let Some(code) = deeper.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        cause = deeper.source();
    }
    // Errors that only keep the text of the one beneath.
    if error.to_string().contains("No space left on device") {
        return io::ErrorKind::StorageFull.into();
    }
    io::Error::other(error)
}

/// Reads all tensors of a safetensors file.
///
/// # Errors
/// A file that is missing or no safetensors.
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    if !path.exists() {
        return Err(Error::Missing { path: path.into(), kind: "weights" });
    }
    let tensors = Tensor::read_safetensors(path).map_err(|error| Error::damaged(path, error.to_string()))?;
    Ok(tensors.into_iter().collect())
}
