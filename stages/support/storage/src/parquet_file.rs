//! Parquet: tables written batch by batch, so that no table is ever entirely in memory.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder, UInt64Array,
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};
use schemas::{Error, Result, arrow::conditions_schema, conditions::ConditionTable, ids::ConditionId};

use crate::{disk::DiskFile, parquet_checksum};

/// Bytes of encoded values after which a row group is closed.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Rows after which a row group is closed.
const ROW_GROUP_ROWS: usize = 1 << 14;

/// A Parquet file being written; it has no footer, and can't be read, before [`ParquetFile::finish`].
pub struct ParquetFile {
    writer: ArrowWriter<DiskFile>,
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFile").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl ParquetFile {
    /// Creates the file.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        Self::with(path, schema, properties().build())
    }

    /// Creates a file that consists mostly of measured numbers: corresponding bytes of all numbers are stored
    /// together, which makes them a fifth smaller.
    ///
    /// # Errors
    /// A file that can't be created.
    pub fn create_of_numbers(path: &Path, schema: SchemaRef) -> Result<Self> {
        let mut properties = properties();
        let lists = schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::FixedSizeList(..)));
        for list in lists {
            let column = ColumnPath::from(vec![list.name().clone(), "list".into(), "item".into()]);
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT);
        }
        Self::with(path, schema, properties.build())
    }

    fn with(path: &Path, schema: SchemaRef, properties: WriterProperties) -> Result<Self> {
        let file = DiskFile::create(path)?;
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(|error| written(path, error))?;
        Ok(Self { writer })
    }

    fn path(&self) -> &Path {
        self.writer.inner().path()
    }

    /// Adds an entry to the metadata of the file.
    pub fn set_metadata(&mut self, key: &str, text: String) {
        self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), text));
    }

    /// Appends rows.
    ///
    /// # Errors
    /// A full or broken disk, or rows with another schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.writer.write(batch).map_err(|error| written(self.writer.inner().path(), error))?;
        if self.writer.in_progress_size() > ROW_GROUP_BYTES {
            self.writer.flush().map_err(|error| written(self.writer.inner().path(), error))?;
        }
        Ok(())
    }

    /// Writes the footer and syncs everything to the disk.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn finish(mut self) -> Result<()> {
        // `into_inner` would report a full disk as a different kind of error.
        self.writer.finish().map_err(|error| written(self.writer.inner().path(), error))?;
        self.writer.inner().sync()
    }

    /// Does the same as [`ParquetFile::finish`], and puts a checksum of the whole file into its metadata, which
    /// [`parquet_checksum::check`] compares.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn finish_with_checksum(mut self) -> Result<()> {
        self.set_metadata(parquet_checksum::KEY, parquet_checksum::BLANK.to_owned());
        self.writer.finish().map_err(|error| written(self.writer.inner().path(), error))?;
        parquet_checksum::fill_in(self.writer.inner_mut())?;
        self.writer.inner().sync()
    }
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
}

/// How predictions are stored. For lists of measured numbers, and columns of them, corresponding bytes of all
/// numbers are stored together. Lists have no statistics of their smallest and largest number, because nobody
/// searches lists for a number. What the schema says about the table is also in the file's metadata, for
/// readers that know nothing of Arrow.
pub fn properties_of_predictions(schema: &Schema) -> WriterProperties {
    let texts = schema.metadata().iter().map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()));
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(texts.collect()));
    for field in schema.fields() {
        let column = match field.data_type() {
            DataType::FixedSizeList(item, _) | DataType::List(item) if *item.data_type() == DataType::Float32 => {
                let column = ColumnPath::from(vec![field.name().clone(), "list".into(), item.name().clone()]);
                properties = properties.set_column_statistics_enabled(column.clone(), EnabledStatistics::None);
                column
            }
            DataType::Float32 => ColumnPath::from(vec![field.name().clone()]),
            _ => continue,
        };
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT);
    }
    properties.build()
}

/// Keeps the operating system's own error if there is one, so that a full disk is recognised.
pub fn written(path: &Path, error: ParquetError) -> Error {
    let source = match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(source) => *source,
            Err(cause) => match cause.downcast::<ArrowError>() {
                Ok(arrow) => from_arrow(*arrow),
                Err(cause) => std::io::Error::other(cause),
            },
        },
        other => std::io::Error::other(other),
    };
    Error::io("write", path)(source)
}

fn from_arrow(error: ArrowError) -> std::io::Error {
    match error {
        ArrowError::IoError(_, source) => source,
        other => std::io::Error::other(other),
    }
}

/// `conditions.parquet` as one batch.
///
/// # Errors
/// This fails only through a bug.
pub fn conditions_batch(table: &ConditionTable, cells_of: &[u64]) -> Result<RecordBatch> {
    let ids: Vec<ConditionId> = (0..table.conditions().len()).map(ConditionId::at).collect();
    let names = StringArray::from_iter_values(ids.iter().map(|id| table.name(*id)));
    let dose_labels = StringArray::from_iter_values(ids.iter().map(|id| table.dose_label(*id)));
    let mut perturbations =
        ListBuilder::new(StringBuilder::new()).with_field(Field::new_list_field(DataType::Utf8, false));
    let mut doses = ListBuilder::new(Float64Builder::new()).with_field(Field::new_list_field(DataType::Float64, false));
    for id in &ids {
        for (perturbation, dose) in table.parts(*id) {
            perturbations.values().append_value(&table.perturbations()[perturbation.index()]);
            doses.values().append_value(dose);
        }
        perturbations.append(true);
        doses.append(true);
    }
    let control = BooleanArray::from_iter(ids.iter().map(|id| Some(*id == schemas::conditions::CONTROL)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(names),
        Arc::new(dose_labels),
        Arc::new(perturbations.finish()),
        Arc::new(doses.finish()),
        Arc::new(control),
        Arc::new(UInt64Array::from(cells_of.to_vec())),
    ];
    RecordBatch::try_new(conditions_schema(), columns).map_err(|error| Error::Bug(error.to_string()))
}
