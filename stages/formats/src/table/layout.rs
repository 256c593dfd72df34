//! Determines which columns of a table are genes, which annotate the cells, and which one names them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemas::{Error, Result};
use storage::parquet_read::pandas_index;

use crate::source::annotation;

/// Names of the column that names cells, tried in this order after the index that pandas wrote.
const CELL_NAMES: [&str; 7] =
    ["cell", "barcode", "obs_name", "cell_id", "obs_id", "__index_level_0__", "BARCODE_SUB_LIB_ID"];

/// Numbers that by convention are not genes: these names, in lower case,
const ANNOTATIONS: &str = "age batch cluster concentration cond_harm condition control day dosage dose dose_val dose_value \
    donor donor_id doublet_score drug drug_conc g2m_score gem_group gene_target guide_count hour hours id index lane leiden \
    library_size louvain mito_frac n_cells n_guides ncounts ngenes nperts num_guides passage perturbation perturbation_name \
    plate product_name pubchem_cid rep replicate s_score sample split target_gene time timepoint treatment well";
/// or names that start with one of these.
const ANNOTATION_STARTS: [&str; 15] = [
    "cell_",
    "dose_",
    "log1p_n_",
    "log1p_total_",
    "n_counts",
    "n_genes",
    "n_umi",
    "ncount_",
    "nfeature_",
    "obs_",
    "pct_",
    "percent",
    "sample_",
    "size_factor",
    "total_",
];

/// Usual names of the columns with genes and with their values, where they are not the columns' names.
const GENES: [&str; 12] = [
    "genes",
    "gene",
    "gene_ids",
    "gene_id",
    "gene_name",
    "gene_symbol",
    "feature",
    "feature_id",
    "token_ids",
    "tokens",
    "input_ids",
    "indices",
];
const VALUES: [&str; 10] =
    ["expressions", "expression", "values", "value", "counts", "count", "umi_count", "umis", "data", "expr"];

/// The columns of a table, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableLayout {
    /// The cells' names.
    pub(super) name: Option<usize>,
    /// Other annotations.
    pub(super) obs: Vec<usize>,
    pub(super) values: ValueColumns,
}

/// Where the values are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueColumns {
    /// One column per gene.
    Wide(Vec<usize>),
    /// For each cell, a list of genes as numbers, and a list of their values.
    Lists { genes: usize, values: usize },
}

impl ValueColumns {
    /// Their indices.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        let (genes, lists) = match self {
            Self::Wide(genes) => (&genes[..], None),
            Self::Lists { genes, values } => (&[][..], Some([*genes, *values])),
        };
        genes.iter().copied().chain(lists.into_iter().flatten())
    }
}

impl TableLayout {
    /// Classifies the columns; `place` names the table in errors.
    pub(super) fn from_schema(schema: &Schema, obs_columns: Option<&[String]>, place: &str) -> Result<Self> {
        let fields = schema.fields();
        for name in obs_columns.into_iter().flatten() {
            if schema.index_of(name).is_err() {
                return Err(Error::unknown("column", name, fields.iter().map(|field| field.name().as_str())));
            }
        }
        let name = name_column(schema);
        let others = || (0..fields.len()).filter(move |at| Some(*at) != name);
        let lists: Vec<usize> = others().filter(|at| list_items(fields[*at].data_type()).is_some()).collect();
        if !lists.is_empty() {
            let (genes, values) = choose_lists(schema, &lists, place)?;
            let obs = others().filter(|at| ![genes, values].contains(at) && is_kept(&fields[*at])).collect();
            return Ok(Self { name, obs, values: ValueColumns::Lists { genes, values } });
        }
        let is_obs = |field: &Field| match obs_columns {
            Some(named) => named.contains(field.name()),
            None => is_annotation(field.name()),
        };
        let may_be_gene = |at: usize| match fields[at].data_type() {
            // Flags are numbers only if all annotations are named.
            DataType::Boolean => obs_columns.is_some(),
            data_type => is_gene_type(data_type),
        };
        let (genes, obs): (Vec<usize>, Vec<usize>) = others().partition(|at| may_be_gene(*at) && !is_obs(&fields[*at]));
        if genes.is_empty() {
            let message = "has no column of numbers that could be a gene, and no lists of genes and of their values";
            let hint =
                "give one column per gene, or two columns of lists; columns named by --obs-columns are not genes";
            return Err(Error::data(place, message, hint));
        }
        check_is_not_long(schema, &genes, place)?;
        match obs_columns {
            Some(named) => check_annotations(schema, &obs, named, place)?,
            None => warn_of_guesses(schema, genes.len(), &obs, place),
        }
        Ok(Self {
            name,
            obs: obs.into_iter().filter(|at| is_kept(&fields[*at])).collect(),
            values: ValueColumns::Wide(genes),
        })
    }

    /// The annotations of cells, their names first.
    pub(super) fn obs_schema(&self, schema: &Schema) -> SchemaRef {
        let names: Vec<&str> = self.obs.iter().map(|at| schema.field(*at).name().as_str()).collect();
        let others = self.obs.iter().map(|at| {
            let field = schema.field(*at);
            let data_type = annotation_type(field.data_type()).unwrap_or(DataType::Utf8);
            annotation(("obs", "cell"), field.name(), &names, data_type)
        });
        let cell = Field::new("cell", DataType::Utf8, true);
        Arc::new(Schema::new(std::iter::once(cell).chain(others).collect::<Vec<_>>()))
    }
}

/// Refuses a table with one row per value, whose columns are called `gene` and `value`, say: as a wide table, it has a single gene.
fn check_is_not_long(schema: &Schema, genes: &[usize], place: &str) -> Result<()> {
    let is_called = |field: &Field, names: &[&str]| names.iter().any(|name| field.name().eq_ignore_ascii_case(name));
    let gene = schema.fields().iter().find(|field| is_called(field, &GENES));
    let mut numbers = genes.iter().map(|at| schema.field(*at)).filter(|field| !is_called(field, &GENES));
    let (Some(gene), Some(value), None) = (gene, numbers.next(), numbers.next()) else { return Ok(()) };
    if !is_called(value, &VALUES) {
        return Ok(());
    }
    let (gene, value) = (gene.name(), value.name());
    let message = format!("it has one row for each value: `{gene}` holds genes, and `{value}` their values");
    let hint = format!(
        "write one row for each cell, with one column for each gene (pandas: \
         table.pivot(index='CELL', columns='{gene}', values='{value}').fillna(0)) or with lists of genes and values, \
         or write Matrix Market files"
    );
    Err(Error::data(place, message, hint))
}

/// Refuses an annotation that was not named, unless its type makes it one: text and times are never genes.
fn check_annotations(schema: &Schema, obs: &[usize], named: &[String], place: &str) -> Result<()> {
    let is_open = |field: &&Field| !named.contains(field.name()) && !is_text_or_time(field.data_type());
    let fields = obs.iter().map(|at| schema.field(*at));
    let open: Vec<String> =
        fields.filter(is_open).map(|field| format!("`{}` ({})", field.name(), kind(field))).collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(Error::data(
        place,
        format!("these columns are not in --obs-columns, and can't be read as genes: {}", open.join(", ")),
        "add them to --obs-columns if they annotate cells, or write them as numbers if they are genes",
    ))
}

/// Names the columns that are annotations because of their names, and those that could have been genes but for their types.
fn warn_of_guesses(schema: &Schema, genes: usize, obs: &[usize], place: &str) {
    let fields = || obs.iter().map(|at| schema.field(*at));
    let guessed: Vec<&str> =
        fields().filter(|field| is_gene_type(field.data_type())).map(|field| field.name().as_str()).collect();
    if !guessed.is_empty() {
        let guessed = guessed.join(",");
        tracing::warn!("{place}: {genes} columns are read as genes, the others are not: --obs-columns {guessed}");
    }
    let is_odd = |field: &&Field| !is_gene_type(field.data_type()) && !is_text_or_time(field.data_type());
    let named: Vec<String> =
        fields().filter(is_odd).map(|field| format!("`{}` ({})", field.name(), kind(field))).collect();
    if !named.is_empty() && named.len() < genes {
        tracing::warn!(
            "{place}: {genes} columns are read as genes, but these are not: {}; if they are genes, name every column that \
             annotates cells with --obs-columns",
            named.join(", ")
        );
    }
}

/// A column's type, as named in messages.
fn kind(field: &Field) -> String {
    match field.data_type() {
        DataType::Null => "no values".into(),
        DataType::Boolean => "true or false".into(),
        other => other.to_string(),
    }
}

pub(super) fn name_column(schema: &Schema) -> Option<usize> {
    let index = pandas_index(schema);
    let is_name = |at: &usize| annotation_type(schema.field(*at).data_type()).is_some();
    index
        .first()
        .map(String::as_str)
        .into_iter()
        .chain(CELL_NAMES)
        .find_map(|name| schema.index_of(name).ok().filter(&is_name))
}

/// Which of two columns of lists are genes and which are values, judged by their types, or else by their
/// names.
fn choose_lists(schema: &Schema, lists: &[usize], place: &str) -> Result<(usize, usize)> {
    let named = |names: &[&str]| {
        let is_called = |at: &usize, name: &str| schema.field(*at).name().eq_ignore_ascii_case(name);
        names.iter().find_map(|name| lists.iter().copied().find(|at| is_called(at, name)))
    };
    let is_whole = |at: usize| list_items(schema.field(at).data_type()).is_some_and(DataType::is_integer);
    let by_type = match *lists {
        [a, b] if is_whole(a) != is_whole(b) => Some(if is_whole(a) { (a, b) } else { (b, a) }),
        _ => None,
    };
    let chosen = by_type.or_else(|| named(&GENES).zip(named(&VALUES)));
    chosen.filter(|(genes, values)| genes != values && is_whole(*genes)).ok_or_else(|| {
        let names: Vec<&str> = lists.iter().map(|at| schema.field(*at).name().as_str()).collect();
        let message =
            format!("it is not clear which of its lists ({}) are genes and which are values", names.join(", "));
        Error::data(place, message, "name the list of whole numbers `genes` and the other one `expressions`")
    })
}

/// The type of a list's items, if numeric.
fn list_items(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_number(item.data_type()).then(|| item.data_type())
        }
        _ => None,
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

/// Whether a column holds numbers, in any storage type; flags are not numbers.
fn is_gene_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_gene_type(values),
        DataType::Decimal128(..) | DataType::Decimal256(..) => true,
        other => is_number(other),
    }
}

fn is_text_or_time(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text_or_time(values),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        other => other.is_temporal(),
    }
}

fn is_annotation(name: &str) -> bool {
    let name = name.to_lowercase();
    ANNOTATIONS.split_ascii_whitespace().any(|known| known == name)
        || ANNOTATION_STARTS.iter().any(|start| name.starts_with(start))
}

fn is_kept(field: &Field) -> bool {
    let kept = annotation_type(field.data_type()).is_some();
    if !kept {
        tracing::warn!("column `{}` has an unsupported type ({}) and is left out", field.name(), field.data_type());
    }
    kept
}

/// The stored type of an annotation; `None` if it is not supported.
pub(super) fn annotation_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Boolean => Some(DataType::Boolean),
        DataType::Dictionary(_, values) => annotation_type(values),
        DataType::Float16 | DataType::Float32 => Some(DataType::Float32),
        DataType::Float64 | DataType::Decimal128(..) | DataType::Decimal256(..) => Some(DataType::Float64),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Some(DataType::Utf8),
        DataType::UInt64 => Some(DataType::UInt64),
        whole if whole.is_integer() => Some(DataType::Int64),
        time if time.is_temporal() => Some(DataType::Utf8),
        _ => None,
    }
}
