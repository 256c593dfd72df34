//! Offsets of the cells of a batch.

use tch::Tensor;

/// Offsets of the cells of a batch, as rows of a table: they are gathered where they are added, since a matrix of the batch's size
/// costs as much as the decoder's output.
#[derive(Debug)]
pub struct CellOffsets {
    /// Offsets, `[rows, genes]`.
    table: Tensor,
    /// The row of each cell, `[cells]`, int64.
    rows: Tensor,
    /// The row of each cell's partner, and the cell's own share, if cells are mixed in pairs.
    partners: Option<(Tensor, f64)>,
}

impl CellOffsets {
    /// The offsets of cells in these rows, `[cells]`, int64, of a table, `[rows, genes]`, on the same device.
    #[must_use]
    pub fn new(table: &Tensor, rows: Tensor) -> Self {
        Self { table: table.shallow_clone(), rows, partners: None }
    }

    /// The same, each mixed with the offset of a partner, `[cells]`, int64; the cell's own share is `share`.
    #[must_use]
    pub fn mixed(&self, partners: &Tensor, share: f64) -> Self {
        Self { partners: Some((self.rows.index_select(0, partners), share)), ..self.shallow_clone() }
    }

    /// A shallow copy.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let partners = self.partners.as_ref().map(|(rows, share)| (rows.shallow_clone(), *share));
        Self { table: self.table.shallow_clone(), rows: self.rows.shallow_clone(), partners }
    }

    /// The offsets of `count` cells from `start` on.
    #[must_use]
    pub fn narrow(&self, start: i64, count: i64) -> Self {
        let of_cells = |rows: &Tensor| rows.narrow(0, start, count);
        let partners = self.partners.as_ref().map(|(rows, share)| (of_cells(rows), *share));
        Self { table: self.table.shallow_clone(), rows: of_cells(&self.rows), partners }
    }

    /// A matrix of the offsets, `[cells, genes]`.
    pub fn gathered(&self) -> Tensor {
        let own = self.table.index_select(0, &self.rows);
        match &self.partners {
            Some((rows, share)) => own * *share + self.table.index_select(0, rows) * (1.0 - share),
            None => own,
        }
    }

    /// The offsets, written to a matrix `[cells, genes]`.
    pub fn write(&self, out: &Tensor) {
        let _ = self.table.index_select_out(out, 0, &self.rows);
        if let Some((rows, share)) = &self.partners {
            let mut out = out.shallow_clone();
            out *= *share;
            out += self.table.index_select(0, rows) * (1.0 - share);
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn offsets_are_rows_of_the_table_mixed_with_those_of_partners() {
        let table = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([4, 3]);
        let plain = CellOffsets::new(&table, Tensor::from_slice(&[2_i64, 0, 3]));
        let mixed = plain.mixed(&Tensor::from_slice(&[1_i64, 2, 0]), 0.75);
        let expected = [6.0, 7.0, 8.0, 0.0, 1.0, 2.0, 9.0, 10.0, 11.0];
        let mixed_expected = [4.5, 5.5, 6.5, 2.25, 3.25, 4.25, 8.25, 9.25, 10.25];
        for (offsets, expected) in [(&plain, expected), (&mixed, mixed_expected)] {
            let written = Tensor::empty([3, 3], (Kind::Float, Device::Cpu));
            for (start, count) in [(0, 1), (1, 2)] {
                offsets.narrow(start, count).write(&written.narrow(0, start, count));
            }
            for found in [offsets.gathered(), written] {
                assert_eq!(Vec::<f32>::try_from(found.view([-1])).expect("numbers"), expected);
            }
        }
    }
}
