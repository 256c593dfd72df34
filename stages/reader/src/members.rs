//! The cells of each condition, as lists on disk: drawing one at random takes a single look-up, whatever the
//! size of the atlas.

use std::{ops::Range, path::Path};

use schemas::{
    Error, Result,
    atlas::{FileEntry, files},
    ids::{CellIndex, ConditionId},
};
use storage::{disk::checksum_of, mmap};

use crate::{atlas::Atlas, codes::CodeTable};

/// Writes `members.bin` from the records of `labels.bin`, each of this many codes. Memory grows only with the
/// number of distinct labels.
pub fn write(labels: &Path, codes: usize, out: &Path) -> Result<FileEntry> {
    let labels = mmap::map(labels)?;
    let records = bytemuck::cast_slice::<u8, u32>(&labels).chunks_exact(codes);
    let (mut kinds, mut counts) = (CodeTable::default(), Vec::new());
    for record in records.clone() {
        let kind = kinds.find_or_add(record);
        if kind == counts.len() {
            counts.push(0_usize);
        }
        counts[kind] += 1;
    }
    let mut sorted: Vec<usize> = (0..kinds.len()).collect();
    sorted.sort_unstable_by_key(|kind| kinds.record(*kind));
    let (mut next, mut start) = (vec![0; kinds.len()], 0);
    for kind in sorted {
        next[kind] = start;
        start += counts[kind];
    }
    let mut table = mmap::MappedTable::create(out, records.len() as u64)?;
    let members = table.numbers();
    for (cell, record) in (0_u64..).zip(records) {
        let place = &mut next[kinds.find_or_add(record)];
        members[*place] = cell;
        *place += 1;
    }
    table.finish()?;
    checksum_of(out)
}

/// All cells, sorted by their labels.
#[derive(Debug)]
pub struct Members {
    cells: mmap::MappedFile,
    kinds: Vec<CellKind>,
}

/// The cells with the same labels.
#[derive(Clone, Debug, PartialEq)]
pub struct CellKind {
    /// Their condition id, then their covariate codes.
    pub codes: Vec<u32>,
    /// Their positions among the members.
    pub places: Range<usize>,
}

impl CellKind {
    /// Their condition.
    #[must_use]
    pub fn condition(&self) -> ConditionId {
        ConditionId(self.codes[0])
    }
}

impl Members {
    /// Opens and checks the lists of an atlas.
    ///
    /// # Errors
    /// A file that is damaged, or does not match the labels.
    pub fn open(atlas: &Atlas) -> Result<Self> {
        let path = atlas.path().join(files::MEMBERS);
        let entry = atlas.manifest().files.get(files::MEMBERS);
        let entry = entry.ok_or_else(|| Error::damaged(&path, "the manifest does not list it"))?;
        if entry.bytes != 8 * atlas.cells() {
            return Err(Error::damaged(&path, "it does not have a number for every cell"));
        }
        let mut members = Self { cells: mmap::map_file(&atlas.table(files::MEMBERS)?, &path)?, kinds: Vec::new() };
        let mut kinds: Vec<CellKind> = Vec::new();
        let mut before = None;
        for (place, cell) in members.cells().iter().map(|cell| CellIndex(*cell)).enumerate() {
            let codes = (cell.0 < atlas.cells()).then(|| atlas.codes(cell));
            // Cells are strictly ascending, so none appears twice; there are as many as in the atlas, so none is
            // missing.
            if codes.is_none() || Some((codes, cell)) <= before {
                return Err(Error::damaged(&path, format!("its order is broken at place {place}")));
            }
            before = Some((codes, cell));
            match (kinds.last_mut(), codes) {
                (Some(kind), Some(codes)) if kind.codes == codes => kind.places.end = place + 1,
                (_, codes) => {
                    kinds.push(CellKind { codes: codes.unwrap_or_default().to_vec(), places: place..place + 1 });
                }
            }
        }
        members.kinds = kinds;
        Ok(members)
    }

    /// The cells, sorted by condition, then by covariate codes, then in the order of the source.
    #[must_use]
    pub fn cells(&self) -> &[u64] {
        bytemuck::cast_slice(&self.cells)
    }

    /// The kinds of cells, in the order of their codes.
    #[must_use]
    pub fn kinds(&self) -> &[CellKind] {
        &self.kinds
    }
}
