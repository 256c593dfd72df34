//! Many files as one source: their cells in sequence, their genes joined.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrays::text::as_text;
use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, new_null_array},
    compute::interleave,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use schemas::{
    Error, Result,
    arrow::place_of_column,
    atlas::Origin,
    chunk::CsrRows,
    numbers::{bounded, checked, to_usize},
};

use self::columns::JoinedColumns;
use super::source::Source;

mod columns;

/// The genes to keep if files have different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GeneJoin {
    /// Genes that every file has.
    #[default]
    Inner,
    /// Genes that any file has; if a file lacks one, it is 0 in the file's cells.
    Outer,
}

/// Options for joining files.
#[derive(Clone, Debug, Default)]
pub struct JoinOptions {
    /// The genes to keep.
    pub genes: GeneJoin,
    /// The column of `var` that identifies genes; by default their names.
    pub gene_id: Option<String>,
    /// A column with the file that each cell comes from.
    pub file_column: Option<FileColumn>,
}

/// A column of `obs` that distinguishes files.
#[derive(Clone, Debug)]
pub struct FileColumn {
    /// Its name.
    pub name: String,
    /// The value for each file, in order: see [`super::file_names`].
    pub files: Vec<String>,
}

/// Files in sequence.
#[derive(Debug)]
pub struct Joined {
    origin: Origin,
    parts: Vec<JoinedFile>,
    var: RecordBatch,
    obs: SchemaRef,
    obs_columns: JoinedColumns,
    file_column: Option<usize>,
}

#[derive(Debug)]
struct JoinedFile {
    source: Arc<dyn Source>,
    /// Its value in the file column.
    file: String,
    /// The range of its cells among all cells.
    cells: Range<u64>,
    /// The joined index of each of its genes; `None` if the gene is left out.
    genes: Vec<Option<u32>>,
    /// For each joined column of `obs`, the index of the column in this file; `None` if the file lacks it.
    columns: Vec<Option<usize>>,
}

impl Joined {
    /// Joins sources, in their order.
    ///
    /// Files that list the same genes in the same order may have several of one name.
    ///
    /// # Errors
    /// No sources, a gene id column that a source lacks or that has missing values, no gene in common, several genes
    /// that could be one of another file, or a name for the file column that is taken.
    pub fn new(sources: Vec<Arc<dyn Source>>, options: &JoinOptions) -> Result<Self> {
        let keys: Vec<Vec<GeneKey>> =
            sources.iter().map(|source| gene_keys(&**source, options.gene_id.as_deref())).collect::<Result<_>>()?;
        if sources.len() > 1 {
            for (source, keys) in sources.iter().zip(&keys) {
                check_genes(&**source, keys, options.gene_id.as_deref())?;
            }
            check_repeated(&sources, &keys, options.gene_id.as_deref())?;
        }
        let (kept, places) = joined_genes(&keys, options.genes);
        let Some(first) = sources.first() else { return Err(Error::usage("there are no files to ingest", "name one")) };
        if kept.is_empty() {
            let files: Vec<&str> = sources.iter().map(|source| source.origin().path.as_str()).collect();
            let message = format!("their genes have no {} in common", options.gene_id.as_deref().unwrap_or("name"));
            let hint = "use --gene-id COLUMN if another column of var identifies genes, or use --join outer";
            return Err(Error::data(files.join(", "), message, hint));
        }
        let named = |source: &Arc<dyn Source>, schema: SchemaRef| (source.origin().path.clone(), schema);
        let vars: Vec<&RecordBatch> = sources.iter().map(|source| source.var()).collect();
        let var_columns = JoinedColumns::from_files(
            "var",
            sources.iter().map(|source| named(source, source.var().schema())).collect(),
        );
        let var = joined_var(&vars, &var_columns, &places, kept.len())?;
        let obs_columns =
            JoinedColumns::from_files("obs", sources.iter().map(|source| named(source, source.obs_schema())).collect());
        let mut fields = obs_columns.fields().to_vec();
        let columns = |schema: &Schema| fields.iter().map(|field| schema.index_of(field.name()).ok()).collect();
        let columns: Vec<Vec<Option<usize>>> = sources.iter().map(|source| columns(&source.obs_schema())).collect();
        let file_column = options.file_column.as_ref().map(|FileColumn { name, files }| {
            if files.len() != sources.len() {
                return Err(Error::Bug(format!("{} names for {} files", files.len(), sources.len())));
            }
            if fields.iter().any(|field| field.name() == name) {
                return Err(Error::usage(format!("obs already has a column `{name}`"), "choose another --file-key"));
            }
            fields.push(Field::new(name, DataType::Utf8, false));
            Ok(fields.len() - 1)
        });
        let file_column = file_column.transpose()?;
        let more = if sources.len() > 1 { format!(" and {} more", sources.len() - 1) } else { String::new() };
        let origin = Origin {
            path: format!("{}{more}", first.origin().path),
            bytes: sources.iter().map(|source| source.origin().bytes).sum(),
            matrix: first.origin().matrix.clone(),
            ..Origin::default()
        };
        let mut parts = Vec::new();
        let mut begin = 0;
        for (at, ((source, genes), columns)) in sources.into_iter().zip(places).zip(columns).enumerate() {
            let left_out = genes.iter().filter(|place| place.is_none()).count();
            if left_out > 0 {
                tracing::warn!("{}: {left_out} of {} genes are left out", source.origin().path, genes.len());
            }
            let cells = begin..begin + source.cells();
            begin = cells.end;
            let file = options.file_column.as_ref().map_or_else(String::new, |column| column.files[at].clone());
            parts.push(JoinedFile { source, file, cells, genes, columns });
        }
        Ok(Self { origin, parts, var, obs: Arc::new(Schema::new(fields)), obs_columns, file_column })
    }

    /// The parts that hold some cells, each with the range of its own cells.
    fn within(&self, cells: Range<u64>) -> impl Iterator<Item = (&JoinedFile, Range<u64>)> {
        self.parts.iter().filter_map(move |part| {
            let (start, end) = (cells.start.max(part.cells.start), cells.end.min(part.cells.end));
            (start < end).then(|| (part, start - part.cells.start..end - part.cells.start))
        })
    }

    fn part_of(&self, cell: u64) -> &JoinedFile {
        let at = self.parts.partition_point(|part| part.cells.end <= cell);
        &self.parts[at.min(self.parts.len() - 1)]
    }

    fn part_obs(&self, part: &JoinedFile, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
        let own: Vec<usize> =
            columns.iter().filter_map(|column| part.columns.get(*column).copied().flatten()).collect();
        let rows = to_usize(cells.end - cells.start);
        let found = part.source.obs(cells, &own)?;
        let mut found = found.columns().iter();
        let schema = Arc::new(self.obs.project(columns).map_err(bug)?);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        for (column, field) in columns.iter().zip(schema.fields()) {
            arrays.push(match part.columns.get(*column).copied().flatten() {
                _ if Some(*column) == self.file_column => {
                    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&part.file, rows)))
                }
                None => new_null_array(field.data_type(), rows),
                Some(_) => {
                    let array = found.next().ok_or_else(|| Error::Bug("a column of obs is missing".into()))?;
                    self.obs_columns.converted(*column, array).map_err(bug)?
                }
            });
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema, arrays, &options).map_err(bug)
    }
}

impl Source for Joined {
    fn kind(&self) -> &str {
        "files"
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn origins(&self) -> Vec<Origin> {
        self.parts.iter().flat_map(|part| part.source.origins()).collect()
    }

    fn locate(&self, cell: u64) -> (String, u64) {
        let part = self.part_of(cell);
        part.source.locate(cell - part.cells.start)
    }

    fn origin_of(&self, cell: u64) -> usize {
        let at = self.parts.partition_point(|part| part.cells.end <= cell);
        self.parts[..at].iter().map(|part| part.source.origins().len()).sum()
    }

    fn cells(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.cells.end)
    }

    fn nonzeros(&self) -> Option<u64> {
        self.parts.iter().map(|part| part.source.nonzeros()).sum()
    }

    fn var(&self) -> &RecordBatch {
        &self.var
    }

    fn obs_schema(&self) -> SchemaRef {
        Arc::clone(&self.obs)
    }

    fn obs(&self, cells: Range<u64>, columns: &[usize]) -> Result<RecordBatch> {
        let parts = self.within(cells).map(|(part, cells)| self.part_obs(part, cells, columns));
        let parts: Vec<RecordBatch> = parts.collect::<Result<_>>()?;
        let schema = Arc::new(self.obs.project(columns).map_err(|error| Error::Bug(error.to_string()))?);
        arrow::compute::concat_batches(&schema, &parts).map_err(|error| Error::Bug(error.to_string()))
    }

    fn range_end(&self, first: u64) -> Result<u64> {
        let part = self.part_of(first);
        Ok(part.cells.start + part.source.range_end(first - part.cells.start)?)
    }

    fn expression(&self, cells: Range<u64>, spare: CsrRows) -> Result<CsrRows> {
        let (mut pointers, mut genes, mut values) = spare.into_parts();
        pointers.push(0);
        let mut row_entries: Vec<(u32, f32)> = Vec::new();
        for (part, cells) in self.within(cells) {
            let rows = part.source.expression(cells, CsrRows::default())?;
            for row in 0..rows.rows() {
                let (row_genes, row_values) = rows.row(row);
                let joined = row_genes.iter().map(|gene| part.genes[*gene as usize]).zip(row_values);
                row_entries.extend(joined.filter_map(|(gene, value)| Some((gene?, *value))));
                row_entries.sort_unstable_by_key(|(gene, _)| *gene);
                for (gene, value) in row_entries.drain(..) {
                    genes.push(gene);
                    values.push(value);
                }
                pointers.push(checked(genes.len(), "entries of a piece")?);
            }
        }
        let count = checked(self.var.num_rows(), "genes")?;
        CsrRows::canonical(pointers, genes, values, count).map_err(|error| Error::Bug(error.to_string()))
    }
}

/// The name of a gene, and the number of earlier genes with the same name in the file.
type GeneKey = (String, u32);

fn gene_keys(source: &dyn Source, gene_id: Option<&str>) -> Result<Vec<GeneKey>> {
    let var = source.var();
    let column = match gene_id {
        None => var.column(0),
        Some(name) => var.column(gene_id_place(source, name)?),
    };
    let names = as_text(column).map_err(|error| Error::Bug(error.to_string()))?;
    let mut occurrences: HashMap<String, u32> = HashMap::new();
    let key = |name: Option<&str>| {
        let name = name.unwrap_or_default().to_owned();
        let before = occurrences.entry(name.clone()).or_default();
        *before += 1;
        (name, *before - 1)
    };
    Ok(names.as_string::<i32>().iter().map(key).collect())
}

/// The place in `var` of the column that `--gene-id` names.
///
/// # Errors
/// A column that the file does not have.
pub fn gene_id_place(source: &dyn Source, name: &str) -> Result<usize> {
    let schema = source.var().schema();
    place_of_column(&schema, name).ok_or_else(|| {
        let unknown = Error::unknown("var column", name, schema.fields().iter().map(|field| field.name().as_str()));
        let hint = "name a column of var with --gene-id, or leave it out to join genes by name";
        Error::data(&source.origin().path, unknown.to_string(), hint)
    })
}

/// Refuses several genes of one name that could each be that of another file, unless all files list the same genes in the same order.
fn check_repeated(sources: &[Arc<dyn Source>], keys: &[Vec<GeneKey>], gene_id: Option<&str>) -> Result<()> {
    if keys.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    let path = |at: usize| &sources[at].origin().path;
    let mut files_of: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, keys) in keys.iter().enumerate() {
        keys.iter().filter(|(_, before)| *before == 0).for_each(|(name, _)| files_of.entry(name).or_default().push(at));
    }
    for (at, keys) in keys.iter().enumerate() {
        let other = |name: &str| files_of[name].iter().copied().find(|other| *other != at);
        let repeated = keys.iter().filter(|(_, before)| *before > 0);
        let Some((name, other)) = repeated.into_iter().find_map(|(name, _)| Some((name, other(name)?))) else {
            continue;
        };
        let times = keys.iter().filter(|(own, _)| own == name).count();
        let message = format!(
            "{times} genes are called `{name}`, and each of them could be the gene of that name in {}",
            path(other)
        );
        let hint = match gene_id {
            None => {
                "name a column of var that identifies genes with --gene-id, or write files in which no two genes have one name"
            }
            Some(_) => {
                "name a column with a different id for each gene, or write files in which no two genes have one id"
            }
        };
        return Err(Error::data(path(at), message, hint));
    }
    Ok(())
}

/// Refuses genes without a name or id: they would be matched with each other.
fn check_genes(source: &dyn Source, keys: &[GeneKey], gene_id: Option<&str>) -> Result<()> {
    let without = keys.iter().filter(|(name, _)| name.is_empty()).count();
    let Some(first) = keys.iter().position(|(name, _)| name.is_empty()) else { return Ok(()) };
    let (path, all) = (&source.origin().path, keys.len());
    let Some(column) = gene_id else {
        let message = format!("{without} of {all} genes have no name, the first of them in row {first}");
        return Err(Error::data(
            format!("{path}, var"),
            message,
            "name them, or join by another column with --gene-id",
        ));
    };
    let names = source.var().column(0).as_string::<i32>();
    let name = if names.is_null(first) { "" } else { names.value(first) };
    let message = format!("{without} of {all} genes have no id, the first of them `{name}` in row {first}");
    let hint = "fill the column or name another one; without --gene-id, genes are joined by name";
    Err(Error::data(format!("{path}, var column `{column}`"), message, hint))
}

/// The genes that are kept and, for each file, the index of each of its genes among them.
fn joined_genes(files: &[Vec<GeneKey>], join: GeneJoin) -> (Vec<GeneKey>, Vec<Vec<Option<u32>>>) {
    let mut counts: HashMap<&GeneKey, usize> = HashMap::new();
    files.iter().flatten().for_each(|key| *counts.entry(key).or_default() += 1);
    let is_kept = |key: &GeneKey| join == GeneJoin::Outer || counts[key] == files.len();
    let (mut kept, mut place_of) = (Vec::new(), HashMap::new());
    for key in files.iter().flatten().filter(|key| is_kept(key)) {
        if !place_of.contains_key(key) {
            place_of.insert(key, bounded(kept.len()));
            kept.push(key.clone());
        }
    }
    let places = files.iter().map(|keys| keys.iter().map(|key| place_of.get(key).copied()).collect()).collect();
    (kept, places)
}

/// The files' annotations of each kept gene; for a gene in several files, those of the first file.
fn joined_var(
    vars: &[&RecordBatch],
    joined: &JoinedColumns,
    places: &[Vec<Option<u32>>],
    genes: usize,
) -> Result<RecordBatch> {
    let bug = |error: arrow::error::ArrowError| Error::Bug(error.to_string());
    let mut from: Vec<Option<(usize, usize)>> = vec![None; genes];
    for (file, places) in places.iter().enumerate() {
        for (row, place) in places.iter().enumerate() {
            if let Some(place) = place {
                from[*place as usize].get_or_insert((file, row));
            }
        }
    }
    let from: Vec<(usize, usize)> = from.into_iter().flatten().collect();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (at, field) in joined.fields().iter().enumerate() {
        let of_file = |var: &&RecordBatch| match var.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), var.num_rows())),
            Some(column) => joined.converted(at, column),
        };
        let arrays: Vec<ArrayRef> = vars.iter().map(of_file).collect::<Result<_, _>>().map_err(bug)?;
        let arrays: Vec<&dyn Array> = arrays.iter().map(|array| &**array).collect();
        columns.push(interleave(&arrays, &from).map_err(bug)?);
    }
    RecordBatch::try_new(Arc::new(Schema::new(joined.fields().to_vec())), columns).map_err(bug)
}

#[cfg(test)]
mod tests;
