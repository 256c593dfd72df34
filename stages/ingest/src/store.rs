//! The end of ingest: writes blocks as the matrix of an atlas, and the results of all stages as its manifest.

mod origins;

use std::{
    collections::{BTreeMap, HashSet},
    io::{BufWriter, Write},
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
};

use arrow::array::{AsArray, RecordBatch};
use formats::{format, source::Source};
use packed_rows::SLACK;
use reader::members;
use schemas::{
    Error, Result,
    atlas::{
        BLOCK_ROWS, Codec, FORMAT_VERSION, FileEntry, FileStamp, GeneWidth, InPlace, Keys, Manifest, RowOrder,
        Selection, ValueKind, ValueWidth, files,
    },
    counting::counted,
    numbers::checked,
};
use stage::{BoxError, Sink, pool::Pooled};
use storage::{
    disk::{DiskFile, HashedFile, StagedFolder, checksum_of, hex, write_atomically},
    mmap,
    parquet_file::{ParquetFile, conditions_batch},
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    annotate::Annotated,
    census::{BadValue, ValueCensus, ValuesAs},
    pack::PackedBlockRun,
};

/// Bytes of blocks that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// The files of the matrix.
#[derive(Debug)]
pub struct MatrixFiles {
    nonzeros: u64,
    value_width: ValueWidth,
    order: RowOrder,
    codec: Codec,
    written: BTreeMap<String, FileEntry>,
}

impl MatrixFiles {
    /// Adds a file that was written in addition to the matrix.
    pub fn add(&mut self, name: &str, entry: FileEntry) {
        self.written.insert(name.into(), entry);
    }
}

/// Writes `blocks.bin`, `matrix.bin` unless the matrix is read in place, and `rows.bin` and `order.bin` if
/// rows are shuffled.
#[derive(Debug)]
pub struct StoreMatrix {
    path: PathBuf,
    /// `None` if the matrix is read in place.
    matrix: Option<BufWriter<DiskFile>>,
    bytes: u64,
    blocks: HashedFile,
    shuffled: Option<ShuffledOrder>,
    files: MatrixFiles,
}

/// The mapping between rows and cells, in both directions.
#[derive(Debug)]
struct ShuffledOrder {
    order: HashedFile,
    rows: mmap::MappedTable,
    rows_path: PathBuf,
    next: u64,
}

impl StoreMatrix {
    /// Creates the files in the folder; `shuffled_cells` is the number of cells if rows are shuffled.
    ///
    /// # Errors
    /// Files that can't be created.
    pub fn create(folder: &StagedFolder, codec: Codec, shuffled_cells: Option<u64>) -> Result<Self> {
        let path = folder.file(files::MATRIX);
        let matrix = match codec {
            Codec::InPlace => None,
            Codec::Raw | Codec::Packed | Codec::Zstd => {
                Some(BufWriter::with_capacity(WRITTEN_AT_ONCE, DiskFile::create(&path)?))
            }
        };
        let shuffled = match shuffled_cells {
            None => None,
            Some(cells) => {
                let rows_path = folder.file(files::ROWS);
                let order = HashedFile::create(&folder.file(files::ORDER))?;
                Some(ShuffledOrder { order, rows: mmap::MappedTable::create(&rows_path, cells)?, rows_path, next: 0 })
            }
        };
        let order = if shuffled.is_some() { RowOrder::Shuffled } else { RowOrder::Source };
        Ok(Self {
            path,
            matrix,
            bytes: 0,
            blocks: HashedFile::create(&folder.file(files::BLOCKS))?,
            shuffled,
            files: MatrixFiles { nonzeros: 0, value_width: ValueWidth::U8, order, codec, written: BTreeMap::new() },
        })
    }

    fn take(&mut self, run: &PackedBlockRun) -> Result<()> {
        if let Some(matrix) = &mut self.matrix {
            matrix.write_all(&run.bytes).map_err(Error::io("write", &self.path))?;
        }
        for block in &run.blocks {
            self.files.nonzeros += u64::from(block.entries);
            self.files.value_width = self.files.value_width.max(block.value_width);
            let mut entry = *block;
            match self.matrix {
                Some(_) => entry.offset += self.bytes,
                None => (entry.offset, entry.bytes) = (0, 0),
            }
            self.blocks.append(&entry.to_bytes())?;
        }
        self.bytes += run.bytes.len() as u64;
        if let Some(ShuffledOrder { order, rows, next, .. }) = &mut self.shuffled {
            let row_of = rows.numbers();
            for cell in &run.cells {
                row_of[cell.index()] = *next;
                *next += 1;
                order.append(&cell.0.to_le_bytes())?;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<MatrixFiles> {
        let written = &mut self.files.written;
        if let Some(mut matrix) = self.matrix {
            if self.files.codec == Codec::Packed && self.bytes > 0 {
                matrix.write_all(&[0; SLACK]).map_err(Error::io("write", &self.path))?;
                self.bytes += SLACK as u64;
            }
            matrix.flush().map_err(Error::io("write", &self.path))?;
            matrix.get_ref().sync()?;
            // Each of its blocks has a checksum, so that one can be checked without reading the others.
            written.insert(files::MATRIX.into(), FileEntry { bytes: self.bytes, checksum: None });
        }
        written.insert(files::BLOCKS.into(), self.blocks.finish()?);
        if let Some(ShuffledOrder { order, rows, rows_path, .. }) = self.shuffled {
            written.insert(files::ORDER.into(), order.finish()?);
            rows.finish()?;
            written.insert(files::ROWS.into(), checksum_of(&rows_path)?);
        }
        Ok(self.files)
    }
}

impl Sink for StoreMatrix {
    type In = Pooled<PackedBlockRun>;
    type Summary = MatrixFiles;

    fn push(&mut self, run: Pooled<PackedBlockRun>) -> Result<ControlFlow<()>, BoxError> {
        self.take(&run)?;
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self) -> Result<MatrixFiles, BoxError> {
        Ok(self.end()?)
    }
}

/// The inputs of an atlas other than its cells.
#[derive(Debug)]
pub struct AtlasFacts {
    /// The source of the cells.
    pub source: Arc<dyn Source>,
    /// The files or folders of the source, in the order of its origins, each with its length and time before it
    /// was read; empty if there are none.
    pub files: Vec<(PathBuf, FileStamp)>,
    /// The choices with which they were opened.
    pub choice: format::Choice,
    /// The columns that are labels.
    pub keys: Keys,
    /// The selected cells.
    pub selection: Selection,
    /// How values are interpreted.
    pub values: ValuesAs,
    /// The location of the matrix, if it is not in the atlas.
    pub in_place: Option<InPlace>,
}

/// Completes the folder as an atlas, which is not visible yet.
///
/// # Errors
/// No cells, a full or broken disk.
pub fn describe(
    folder: &StagedFolder,
    facts: AtlasFacts,
    annotated: Annotated,
    matrix: MatrixFiles,
) -> Result<Manifest> {
    let values = facts.value_kind(&annotated.census)?;
    let ValueCensus { clipped, dropped, negative_count, .. } = annotated.census;
    if clipped + dropped > 0 {
        tracing::warn!("{clipped} bad values were clipped, {dropped} cells with bad values were left out");
    }
    let names = gene_names(facts.source.var());
    report_duplicate_genes(&names);
    // Tables have lists with one number per gene, whose length is an i32 in Arrow.
    let genes = checked::<i32>(names.len(), "genes")?.unsigned_abs();

    let mut written = matrix.written;
    written.insert(files::LABELS.into(), annotated.labels);
    let lists =
        members::write(&folder.file(files::LABELS), 1 + annotated.covariates.len(), &folder.file(files::MEMBERS))?;
    written.insert(files::MEMBERS.into(), lists);
    for (name, table) in [
        (files::GENES, facts.source.var().clone()),
        (files::CONDITIONS, conditions_batch(&annotated.conditions, &annotated.cells_of)?),
    ] {
        let mut file = ParquetFile::create(&folder.file(name), table.schema())?;
        file.write(&table)?;
        file.finish()?;
    }
    let sources = facts.origins(values)?;
    let in_place = match facts.in_place {
        None => None,
        Some(InPlace { matrix, chunks }) => {
            let mut file = HashedFile::create(&folder.file(files::CHUNKS))?;
            file.append(bytemuck::cast_slice(&chunks))?;
            written.insert(files::CHUNKS.into(), file.finish()?);
            Some(matrix)
        }
    };
    for name in [files::CELLS, files::GENES, files::CONDITIONS] {
        written.insert(name.into(), checksum_of(&folder.file(name))?);
    }

    let mut manifest = Manifest {
        format: FORMAT_VERSION,
        cells: annotated.cells,
        genes,
        nonzeros: matrix.nonzeros,
        values,
        non_negative: (values == ValueKind::Continuous).then_some(negative_count == 0),
        gene_width: GeneWidth::for_genes(genes),
        value_width: matrix.value_width,
        codec: matrix.codec,
        in_place,
        block_rows: BLOCK_ROWS,
        order: matrix.order,
        keys: facts.keys,
        conditions: annotated.conditions,
        covariates: annotated.covariates,
        selection: facts.selection,
        sources,
        written_by: format!("perturbine {}", env!("CARGO_PKG_VERSION")),
        files: written,
        checksum: String::new(),
    };
    let not_json = |error: serde_json::Error| Error::Bug(error.to_string());
    manifest.checksum = hex(xxh3_64(manifest.checked_text().map_err(not_json)?.as_bytes()));
    let text = serde_json::to_vec_pretty(&manifest).map_err(not_json)?;
    write_atomically(&folder.file(files::MANIFEST), &text)?;
    Ok(manifest)
}

impl AtlasFacts {
    fn place(&self) -> String {
        self.source.origin().to_string()
    }

    /// Decides the kind of the values; refuses a source without cells, and invalid values.
    ///
    /// # Errors
    /// No cells, or invalid values; the first ones are listed.
    pub fn check(&self, annotated: &Annotated) -> Result<ValueKind> {
        if annotated.cells == 0 {
            return Err(Error::data(self.place(), "there are no cells", "check the file, or the filter"));
        }
        self.value_kind(&annotated.census)
    }

    /// Decides the kind of the values.
    fn value_kind(&self, census: &ValueCensus) -> Result<ValueKind> {
        let names = gene_names(self.source.var());
        let refuse = |(noun, [one, several]): (&str, [&str; 2]), bad_values: &[BadValue], count: u64, hint: &str| {
            let place = |bad: &BadValue| {
                let (file, row) = self.source.locate(bad.cell);
                let of_file = if file == self.source.origin().path { String::new() } else { format!("{file}, ") };
                format!("{of_file}cell {row}, gene `{}`: {}", names[bad.gene as usize], bad.value)
            };
            let places: Vec<String> = bad_values.iter().map(place).collect();
            let what = if count == 1 { one } else { several };
            let message = format!("{} {what} ({})", counted(count, noun), places.join("; "));
            Err(Error::data(self.place(), message, hint))
        };
        if census.not_finite_count > 0 {
            return refuse(
                ("value", ["is NaN or infinite", "are NaN or infinite"]),
                &census.not_finite,
                census.not_finite_count,
                "--on-bad-values clip makes them 0, --on-bad-values drop leaves their cells out",
            );
        }
        let (negative, fractions, too_large) = (census.negative_count, census.fraction_count, census.too_large_count);
        let refuse_large = || {
            refuse(
                ("count", ["is too large for a float32", "are too large for a float32"]),
                &census.too_large,
                too_large,
                "name the layer that holds raw counts with --layer; for values that are not counts, use --values log1p",
            )
        };
        match self.values {
            ValuesAs::Continuous => Ok(ValueKind::Continuous),
            ValuesAs::Counts if negative > 0 => refuse(
                ("count", ["is negative", "are negative"]),
                &census.negative,
                negative,
                "name the layer that holds raw counts with --layer; --on-bad-values clip makes them 0",
            ),
            ValuesAs::Counts if fractions > 0 => refuse(
                ("value", ["is not an integer", "are not integers"]),
                &census.fractions,
                fractions,
                "name the layer that holds raw counts with --layer, or use --values log1p",
            ),
            ValuesAs::Counts if too_large > 0 => refuse_large(),
            ValuesAs::Auto if negative > 0 && fractions == 0 => refuse(
                ("count", ["is negative", "are negative"]),
                &census.negative,
                negative,
                "name the layer that holds raw counts with --layer; --on-bad-values clip makes them 0; for values that are \
                 not counts, use --values log1p",
            ),
            ValuesAs::Auto if too_large > 0 && fractions == 0 => refuse_large(),
            ValuesAs::Auto | ValuesAs::Counts if negative + fractions > 0 => {
                self.refuse_files_that_differ(census, &names)?;
                Ok(ValueKind::Continuous)
            }
            ValuesAs::Auto | ValuesAs::Counts => Ok(ValueKind::Counts),
        }
    }
}

impl AtlasFacts {
    /// Refuses to join a file of counts with one of continuous values, since their scales differ.
    fn refuse_files_that_differ(&self, census: &ValueCensus, genes: &[String]) -> Result<()> {
        let Some((whole, (other, value))) = census.files_that_differ() else { return Ok(()) };
        let origins = self.source.origins();
        let name = |file: usize| match self.files.get(file) {
            Some((path, _)) => path.display().to_string(),
            None => origins.get(file).map_or_else(String::new, |origin| origin.path.clone()),
        };
        let (_, row) = self.source.locate(value.cell);
        let message = format!(
            "{} holds integers only, as counts are, but {} does not (cell {row}, gene `{}`: {})",
            name(whole),
            name(other),
            genes[value.gene as usize],
            value.value
        );
        let hint = "name the layer that holds raw counts in every file with --layer; if all values are on one scale, use \
                    --values log1p";
        Err(Error::data(self.place(), message, hint))
    }
}

/// The names of the genes: the first column of `var`.
#[must_use]
pub fn gene_names(var: &RecordBatch) -> Vec<String> {
    var.column(0).as_string::<i32>().iter().map(|name| name.unwrap_or_default().to_owned()).collect()
}

fn report_duplicate_genes(names: &[String]) {
    let mut seen = HashSet::new();
    let twice: Vec<&str> = names.iter().filter(|name| !seen.insert(name.as_str())).map(String::as_str).collect();
    if !twice.is_empty() {
        tracing::warn!(
            "{} gene names appear more than once, such as `{}`; genes are identified by position",
            twice.len(),
            twice[0]
        );
    }
}
