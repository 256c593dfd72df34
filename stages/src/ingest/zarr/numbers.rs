//! Arrays of a store as vectors and matrices of numbers.

use std::ops::Range;

use schemas::Result;

use super::{
    array::{Array, Run},
    element::Fill,
};
use crate::{
    element::{Element, Number},
    ingest::anndata::group::Numbers,
    place::Place,
};

/// An array that holds numbers.
#[derive(Debug)]
pub(super) struct ZarrNumbers {
    array: Array,
    element: Element,
}

impl ZarrNumbers {
    /// Refuses what is no number.
    pub(super) fn new(array: Array) -> Result<Self> {
        match array.element.number() {
            Some(element) => Ok(Self { array, element }),
            None => {
                let message = "holds no numbers, where numbers are expected";
                Err(array.place.error(message, "check how the store was written"))
            }
        }
    }

    /// The array of a vector of numbers.
    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// Appends some rows, one after another.
    pub(super) fn read<T: Number>(&self, rows: Range<u64>, out: &mut Vec<T>) -> Result<()> {
        self.array.for_each(rows, |run| {
            match run {
                Run::Bytes(bytes) => T::append(self.element, bytes, out),
                Run::Fill(Fill::Bytes(bytes), count) => {
                    T::append(self.element, &bytes.repeat(crate::ingest::anndata::index(count)?), out);
                }
                Run::Fill(Fill::Text(_), _) | Run::Text(_) => {}
            }
            Ok(())
        })
    }
}

impl Numbers for ZarrNumbers {
    fn place(&self) -> &Place {
        &self.array.place
    }

    fn dimensions(&self) -> usize {
        self.array.dimensions
    }

    fn rows(&self) -> u64 {
        self.array.rows
    }

    fn columns(&self) -> u64 {
        self.array.columns
    }

    fn floats(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<()> {
        self.read(rows, out)
    }

    fn ids(&self, rows: Range<u64>, out: &mut Vec<u32>) -> Result<()> {
        self.read(rows, out)
    }

    fn integers(&self, rows: Range<u64>, out: &mut Vec<i64>) -> Result<()> {
        self.read(rows, out)
    }
}
