//! Sums over each group's cells, per gene, in a table on disk: there may be more groups and genes than fit
//! into memory.

use std::{collections::HashMap, ops::Range, path::PathBuf, sync::LazyLock};

use reader::records::RowRecord;
use schemas::{
    Result,
    atlas::{GeneWidth, ValueWidth},
};
use storage::mmap::MappedTable;

/// Maximum size of the table; if more groups are needed, summing is abandoned.
const MOST_BYTES: u64 = 4 << 30;
/// Size of statistics, in bytes, that even a small atlas may have.
const FEWEST_STORED: u64 = 16 << 20;
/// Bytes stored per gene of a group: mean, variance and mean count.
const STORED_BYTES: u64 = 12;
/// Bytes of the table at first.
const FIRST_BYTES: usize = 1 << 18;
/// The table doubles, until it grows in steps of about this many bytes.
const STEP_BYTES: usize = 16 << 20;

/// Sums per gene: values, their squares, log(1 + value) and its square.
///
/// Both are summed because it is only known at the end whether the values are counts.
pub type GeneValueSums = [f64; 4];

/// The contribution of each count up to 255.
static OF_COUNT: LazyLock<[GeneValueSums; 256]> = LazyLock::new(|| {
    std::array::from_fn(|count| u32::try_from(count).map_or([0.0; 4], |count| added_by(f64::from(count))))
});

fn added_by(value: f64) -> GeneValueSums {
    let log = value.ln_1p();
    [value, value * value, log, log * log]
}

/// The data of a group other than its per-gene sums.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupCells {
    /// Its condition, then its covariate codes.
    pub codes: Vec<u32>,
    /// Number of cells.
    pub cells: u64,
    /// Sum of the cells' libraries; a library is the sum of a cell's values.
    pub library: f64,
    /// Sum of their squares.
    pub library_squares: f64,
    /// The smallest and the largest library.
    pub library_range: (f64, f64),
    /// Sum of the cells' numbers of genes with a value.
    pub detected: u64,
}

impl GroupCells {
    fn add(&mut self, other: &Self) {
        self.cells += other.cells;
        self.library += other.library;
        self.library_squares += other.library_squares;
        let (smallest, largest) = other.library_range;
        self.library_range = (self.library_range.0.min(smallest), self.library_range.1.max(largest));
        self.detected += other.detected;
    }
}

/// A part of the table.
#[derive(Debug)]
struct Segment {
    /// Its groups, by their indices.
    groups: Range<usize>,
    sums: MappedTable,
}

/// The sums of all groups.
#[derive(Debug)]
pub struct GroupSums {
    /// The folder in which its files are created; they have no name once they are open.
    folder: PathBuf,
    genes: usize,
    /// Maximum size of the table while groups are still split by covariates.
    most_fine_bytes: u64,
    most_bytes: u64,
    by_condition: bool,
    groups: Vec<GroupCells>,
    by_codes: HashMap<Vec<u32>, usize>,
    /// The group of the previous row: the cells of a group are often consecutive in files.
    last: usize,
    segments: Vec<Segment>,
    given_up: bool,
}

impl GroupSums {
    /// Empty sums for an atlas with about this many non-zeros; the files are created in `folder`.
    ///
    /// Groups are split by condition and covariates, but only by condition once their stored size would exceed
    /// the number of non-zeros in bytes: then groups have so few cells that their means are worth less than the
    /// cells.
    #[must_use]
    pub fn new(folder: PathBuf, genes: usize, nonzeros: u64) -> Self {
        Self {
            folder,
            genes,
            most_fine_bytes: (nonzeros.max(FEWEST_STORED) / STORED_BYTES)
                .saturating_mul(size_of::<GeneValueSums>() as u64),
            most_bytes: MOST_BYTES,
            by_condition: false,
            groups: Vec::new(),
            by_codes: HashMap::new(),
            last: 0,
            segments: Vec::new(),
            given_up: false,
        }
    }

    /// Adds a row to the group with these codes.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn add(&mut self, codes: &[u32], record: RowRecord<'_>, gene_width: GeneWidth) -> Result<()> {
        if self.given_up {
            return Ok(());
        }
        let Some(group) = self.group(codes)? else { return Ok(()) };
        let of_genes = self.sums_mut(group);
        let library = match (gene_width, record.width) {
            (GeneWidth::U16, ValueWidth::U8) => add_counts(of_genes, numbers(record.genes, u16_of), record.values),
            (GeneWidth::U32, ValueWidth::U8) => add_counts(of_genes, numbers(record.genes, u32_of), record.values),
            (GeneWidth::U16, width) => {
                add_values(of_genes, numbers(record.genes, u16_of), values(record.values, width))
            }
            (GeneWidth::U32, width) => {
                add_values(of_genes, numbers(record.genes, u32_of), values(record.values, width))
            }
        };
        let known = &mut self.groups[group];
        known.cells += 1;
        known.library += library;
        known.library_squares += library * library;
        known.library_range = (known.library_range.0.min(library), known.library_range.1.max(library));
        known.detected += record.entries as u64;
        Ok(())
    }

    /// The groups, in the order of their first cells; empty if there were too many.
    #[must_use]
    pub fn groups(&self) -> &[GroupCells] {
        &self.groups
    }

    /// Whether groups are split only by condition.
    #[must_use]
    pub fn by_condition(&self) -> bool {
        self.by_condition
    }

    /// Whether there were too many groups to sum.
    #[must_use]
    pub fn given_up(&self) -> bool {
        self.given_up
    }

    /// Number of genes.
    #[must_use]
    pub fn genes(&self) -> usize {
        self.genes
    }

    /// The sums of a group's genes.
    #[must_use]
    pub fn sums(&self, group: usize) -> &[GeneValueSums] {
        let (segment, start) = self.place(group);
        &self.segments[segment].sums.slice()[start..start + self.genes]
    }

    fn sums_mut(&mut self, group: usize) -> &mut [GeneValueSums] {
        let (segment, start) = self.place(group);
        &mut self.segments[segment].sums.slice_mut()[start..start + self.genes]
    }

    /// Merges groups, so that from now on there is one group per condition.
    fn fold(&mut self) -> Result<()> {
        let coarse = Self { by_condition: true, ..Self::new(self.folder.clone(), self.genes, 0) };
        let fine = std::mem::replace(self, coarse);
        for (at, cells) in fine.groups.iter().enumerate() {
            let Some(group) = self.group(&cells.codes)? else { return Ok(()) };
            for (sum, added) in self.sums_mut(group).iter_mut().zip(fine.sums(at)) {
                sum.iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
            }
            self.groups[group].add(cells);
        }
        Ok(())
    }

    fn group(&mut self, codes: &[u32]) -> Result<Option<usize>> {
        let codes = if self.by_condition { &codes[..1] } else { codes };
        if self.groups.get(self.last).is_some_and(|group| group.codes == codes) {
            return Ok(Some(self.last));
        }
        if let Some(group) = self.by_codes.get(codes) {
            self.last = *group;
            return Ok(Some(*group));
        }
        let group = self.groups.len();
        let row_bytes = (self.genes * size_of::<GeneValueSums>()) as u64;
        let bytes = row_bytes.saturating_mul(group as u64 + 1);
        if !self.by_condition && self.most_fine_bytes < bytes {
            self.fold()?;
            return self.group(codes);
        }
        if self.most_bytes < bytes {
            let genes = self.genes;
            tracing::warn!(
                "the atlas has no statistics: {genes} genes in more than {group} groups of cells are too many"
            );
            (self.groups, self.by_codes, self.segments) = Default::default();
            self.given_up = true;
            return Ok(None);
        }
        if self.segments.last().is_none_or(|last| last.groups.end == group) {
            let path = self.folder.join(format!("statistics-{}.tmp", self.segments.len()));
            let row_bytes = self.genes * size_of::<GeneValueSums>();
            let step = (group * row_bytes).clamp(FIRST_BYTES, STEP_BYTES);
            let groups = group..group + (step / row_bytes.max(1)).max(1);
            let sums = MappedTable::create_unnamed(&path, (groups.len() * self.genes) as u64 * 4)?;
            self.segments.push(Segment { groups, sums });
        }
        self.by_codes.insert(codes.to_vec(), group);
        self.groups.push(GroupCells {
            codes: codes.to_vec(),
            cells: 0,
            library: 0.0,
            library_squares: 0.0,
            library_range: (f64::INFINITY, f64::NEG_INFINITY),
            detected: 0,
        });
        self.last = group;
        Ok(Some(group))
    }

    /// The segment of a group, and where its genes start in it.
    fn place(&self, group: usize) -> (usize, usize) {
        let segment = self.segments.partition_point(|segment| segment.groups.end <= group);
        (segment, (group - self.segments[segment].groups.start) * self.genes)
    }
}

fn u16_of(bytes: [u8; 2]) -> usize {
    u16::from_le_bytes(bytes).into()
}

fn u32_of(bytes: [u8; 4]) -> usize {
    u32::from_le_bytes(bytes) as usize
}

/// Little-endian numbers of `N` bytes.
fn numbers<const N: usize, T>(bytes: &[u8], of: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |bytes| of(*bytes))
}

fn values(bytes: &[u8], width: ValueWidth) -> Vec<f64> {
    match width {
        ValueWidth::U8 => bytes.iter().map(|value| f64::from(*value)).collect(),
        ValueWidth::U16 => numbers(bytes, |bytes| f64::from(u16::from_le_bytes(bytes))).collect(),
        ValueWidth::U32 => numbers(bytes, |bytes| f64::from(u32::from_le_bytes(bytes))).collect(),
        ValueWidth::F32 => numbers(bytes, |bytes| f64::from(f32::from_le_bytes(bytes))).collect(),
    }
}

/// Adds small counts, and returns their sum.
fn add_counts(sums: &mut [GeneValueSums], genes: impl Iterator<Item = usize>, counts: &[u8]) -> f64 {
    let of_count = &*OF_COUNT;
    let mut library = 0_u64;
    for (gene, count) in genes.zip(counts) {
        let added = &of_count[usize::from(*count)];
        sums[gene].iter_mut().zip(added).for_each(|(sum, added)| *sum += added);
        library += u64::from(*count);
    }
    #[expect(clippy::cast_precision_loss, reason = "a cell has fewer than 2^52 molecules")]
    let library = library as f64;
    library
}

/// Adds any values, and returns their sum.
fn add_values(sums: &mut [GeneValueSums], genes: impl Iterator<Item = usize>, values: Vec<f64>) -> f64 {
    let mut library = 0.0;
    for (gene, value) in genes.zip(values) {
        sums[gene].iter_mut().zip(added_by(value)).for_each(|(sum, added)| *sum += added);
        library += value;
    }
    library
}

#[cfg(test)]
mod tests {
    use reader::records::{RowRecords, RowValues};

    use super::*;

    fn sums_of(rows: &[(&[u32], &[u32], &[f32])], most_bytes: u64) -> GroupSums {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut sums = GroupSums::new(home.path().into(), 4, 1 << 20);
        sums.most_bytes = most_bytes;
        let mut records = RowRecords::new(GeneWidth::U16);
        for (row, (codes, genes, values)) in rows.iter().enumerate() {
            records.push(genes, values, RowValues::detect(values));
            sums.add(codes, records.record(row), GeneWidth::U16).expect("a disk with room");
        }
        assert_eq!(std::fs::read_dir(home.path()).expect("the folder").count(), 0, "its files have no name");
        sums
    }

    #[test]
    fn cells_add_up_by_group_whatever_the_width_of_their_values() {
        let rows: [(&[u32], &[u32], &[f32]); 4] =
            [(&[0, 1], &[1, 3], &[2.0, 300.0]), (&[2, 1], &[0], &[0.5]), (&[0, 1], &[1], &[7.0]), (&[2, 1], &[], &[])];
        let sums = sums_of(&rows, MOST_BYTES);
        let [first, second] = sums.groups() else { panic!("two groups, not {:?}", sums.groups()) };
        assert_eq!((first.cells, first.library, first.library_range, first.detected), (2, 309.0, (7.0, 302.0), 3));
        assert_eq!((second.cells, second.library, second.library_range, second.detected), (2, 0.5, (0.0, 0.5), 1));
        let log = 3_f64.ln() + 8_f64.ln();
        let log_squares = 3_f64.ln().powi(2) + 8_f64.ln().powi(2);
        let near = |found: &GeneValueSums, expected: GeneValueSums| {
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + b))
        };
        assert!(near(&sums.sums(0)[1], [9.0, 53.0, log, log_squares]));
        assert!(near(&sums.sums(0)[3], added_by(300.0)));
        assert!(near(&sums.sums(1)[0], added_by(0.5)) && near(&sums.sums(1)[1], [0.0; 4]));
    }

    #[test]
    fn the_table_is_as_small_as_its_groups() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut sums = GroupSums::new(home.path().into(), 1000, u64::MAX);
        let mut records = RowRecords::new(GeneWidth::U16);
        records.push(&[7], &[3.0], RowValues::detect(&[3.0]));
        for group in 0..2000_u32 {
            sums.add(&[group], records.record(0), GeneWidth::U16).expect("a disk with room");
            let bytes: usize = sums.segments.iter().map(|segment| segment.sums.slice::<u8>().len()).sum();
            let used = (group as usize + 1) * 32_000;
            assert!(bytes <= FIRST_BYTES.max(2 * used) && bytes <= used + STEP_BYTES, "{bytes} for {group}");
        }
        assert!((0..2000).all(|group| sums.sums(group)[7][0].to_bits() == 3_f64.to_bits()));
    }

    #[test]
    fn groups_of_too_few_cells_are_those_of_a_condition() {
        let rows: [(&[u32], &[u32], &[f32]); 4] = [
            (&[0, 1], &[1, 3], &[2.0, 300.0]),
            (&[2, 1], &[0], &[0.5]),
            (&[0, 0], &[1], &[7.0]),
            (&[0, 1], &[1], &[1.0]),
        ];
        let fine = sums_of(&rows, MOST_BYTES);
        assert!(!fine.by_condition() && fine.groups().len() == 3);
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut coarse = GroupSums::new(home.path().into(), 4, 0);
        coarse.most_fine_bytes = 2 * 4 * 32;
        let mut records = RowRecords::new(GeneWidth::U16);
        for (row, (codes, genes, values)) in rows.iter().enumerate() {
            records.push(genes, values, RowValues::detect(values));
            coarse.add(codes, records.record(row), GeneWidth::U16).expect("a disk with room");
        }
        let by_condition: [(&[u32], &[u32], &[f32]); 4] =
            [(&[0], &[1, 3], &[2.0, 300.0]), (&[2], &[0], &[0.5]), (&[0], &[1], &[7.0]), (&[0], &[1], &[1.0])];
        let expected = sums_of(&by_condition, MOST_BYTES);
        assert!(coarse.by_condition());
        assert_eq!(coarse.groups(), expected.groups());
        assert!((0..2).all(|group| coarse.sums(group) == expected.sums(group)));
    }

    #[test]
    fn too_many_groups_are_given_up() {
        let rows: [(&[u32], &[u32], &[f32]); 3] = [(&[0], &[1], &[2.0]), (&[1], &[0], &[1.0]), (&[2], &[0], &[1.0])];
        let sums = sums_of(&rows, 2 * 4 * 32);
        assert!(sums.given_up() && sums.groups().is_empty());
        assert_eq!(sums_of(&rows, 3 * 4 * 32).groups().len(), 3);
    }
}
