//! A table of label records: maps a cell's condition and covariate codes to one small number with a single
//! look-up.
//!
//! Every cell of every batch is looked up here, so the table is simple: records are stored side by side, and
//! slots are found by multiplication instead of a keyed hash. If someone makes labels collide, it only costs
//! the time of one scan.

use schemas::numbers::{bounded, to_usize};

/// Distinct records, numbered in order of appearance.
#[derive(Clone, Debug, Default)]
pub struct CodeTable {
    width: usize,
    /// The records, one after another.
    records: Vec<u32>,
    /// The number of each slot's record, plus one; 0: a free slot. The number of slots is a power of two.
    slots: Vec<u32>,
    grid: Option<Grid>,
}

/// A slot for every possible record, found by addition, if there are not too many.
#[derive(Clone, Debug)]
struct Grid {
    /// Number of codes at each position of a record.
    sizes: Vec<u32>,
    /// The number of each record, plus one.
    numbers: Vec<u32>,
}

/// Maximum number of slots of a grid.
const MOST_PLACES: u64 = 1 << 20;

/// An odd multiplier without a pattern: high bits of the product depend on every bit of the other factor.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl CodeTable {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A record, given its number.
    #[must_use]
    pub fn record(&self, number: usize) -> &[u32] {
        &self.records[number * self.width..(number + 1) * self.width]
    }

    /// The number of a record.
    #[must_use]
    pub fn find(&self, record: &[u32]) -> Option<usize> {
        if self.width != record.len() || self.slots.is_empty() {
            return None;
        }
        if let Some(grid) = &self.grid {
            return grid.find(record);
        }
        match self.slots[self.slot_of(record)] {
            0 => None,
            taken => Some(taken as usize - 1),
        }
    }

    /// The number of a record; a new record is added.
    ///
    /// # Panics
    /// On records of different lengths, or more than 2^32 distinct ones.
    pub fn find_or_add(&mut self, record: &[u32]) -> usize {
        if self.is_empty() {
            self.width = record.len();
        }
        assert_eq!(self.width, record.len(), "records have one length");
        if self.slots.len() <= 2 * self.len() {
            self.grow();
        }
        let slot = self.slot_of(record);
        if self.slots[slot] == 0 {
            self.grid = None;
            self.records.extend_from_slice(record);
            self.slots[slot] = bounded(self.len());
        }
        self.slots[slot] as usize - 1
    }

    /// Makes look-ups faster, once all records are added.
    pub fn freeze(&mut self) {
        self.grid = Grid::from_table(self);
    }

    /// The slot of a record, or its future slot.
    fn slot_of(&self, record: &[u32]) -> usize {
        let hash = record.iter().fold(0_u64, |hash, code| (hash.rotate_left(29) ^ u64::from(*code)).wrapping_mul(MIX));
        let mask = self.slots.len() - 1;
        let mut slot = (hash >> 32) as usize & mask;
        while self.slots[slot] != 0 && self.record(self.slots[slot] as usize - 1) != record {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        self.slots = vec![0; (2 * self.slots.len()).max(16)];
        for number in 0..self.len() {
            let slot = self.slot_of(self.record(number));
            self.slots[slot] = bounded(number + 1);
        }
    }
}

impl Grid {
    fn from_table(table: &CodeTable) -> Option<Self> {
        let mut sizes = vec![0_u32; table.width];
        for number in 0..table.len() {
            for (size, code) in sizes.iter_mut().zip(table.record(number)) {
                *size = (*size).max(code.checked_add(1)?);
            }
        }
        let places = sizes.iter().try_fold(1_u64, |places, size| places.checked_mul((*size).into()))?;
        let mut grid = match places <= MOST_PLACES {
            true => Self { sizes, numbers: vec![0; to_usize(places)] },
            false => return None,
        };
        for number in 0..table.len() {
            let place = grid.place(table.record(number))?;
            grid.numbers[place] = bounded(number + 1);
        }
        Some(grid)
    }

    fn place(&self, record: &[u32]) -> Option<usize> {
        let mut place = 0;
        for (size, code) in self.sizes.iter().zip(record) {
            if size <= code {
                return None;
            }
            place = place * *size as usize + *code as usize;
        }
        Some(place)
    }

    fn find(&self, record: &[u32]) -> Option<usize> {
        match self.numbers[self.place(record)?] {
            0 => None,
            taken => Some(taken as usize - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_are_numbered_as_they_come(
            records in prop::collection::vec(
                (0_u32..9, 0_u32..9, prop_oneof![0_u32..9, 0..u32::MAX]).prop_map(|(a, b, c)| [a, b, c]),
                0..400,
            ),
        ) {
            let (mut table, mut known) = (CodeTable::default(), HashMap::new());
            for record in &records {
                let count = known.len();
                let number = *known.entry(*record).or_insert(count);
                prop_assert_eq!(table.find_or_add(record), number);
                prop_assert_eq!(table.record(number), record);
            }
            prop_assert_eq!(table.len(), known.len());
            for frozen in [false, true] {
                if frozen {
                    table.freeze();
                }
                prop_assert!(known.iter().all(|(record, number)| table.find(record) == Some(*number)));
                prop_assert_eq!(table.find(&[9, 9, 9]), None);
                prop_assert_eq!(table.find(&[9]), None);
            }
            table.find_or_add(&[9, 9, 9]);
            prop_assert_eq!(table.find(&[9, 9, 9]), Some(known.len()));
        }
    }
}
