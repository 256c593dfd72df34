//! Encodes row groups as Parquet bytes, on any number of threads: an encoded row group does not depend on its
//! file.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    },
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::writer::SerializedRowGroupWriter,
    schema::types::SchemaDescPtr,
};
use schemas::{ByteSize, Error, Result, numbers::to_usize};
use stage::BoxError;

use super::{
    gather::{RowGroup, RowGroupEvent},
    layout::{OutputLayout, PartRows},
    lists::Lists,
};

/// Events in the writing of files, in order.
#[derive(Debug)]
pub enum Encoded {
    /// A row group.
    Group(EncodedGroup),
    /// A part has no more rows: its files are complete.
    End(PartRows),
}

/// A row group, ready to be appended.
#[derive(Debug)]
pub struct EncodedGroup {
    pub(super) part: usize,
    pub(super) folder: String,
    pub(super) rows: u64,
    pub(super) columns: Vec<EncodedColumn>,
}

/// A column of a row group.
#[derive(Debug)]
pub(super) enum EncodedColumn {
    /// Encoded by Arrow's writer.
    OfTables(Box<ArrowColumnChunk>),
    /// Lists of numbers, encoded by this crate.
    OfLists(Bytes, Box<ColumnCloseResult>),
}

impl EncodedColumn {
    fn bytes(&self) -> u64 {
        match self {
            Self::OfTables(column) => column.close().bytes_written,
            Self::OfLists(bytes, _) => bytes.len() as u64,
        }
    }

    /// Appends the column to a row group of a file.
    pub(super) fn append_to(
        self,
        group: &mut SerializedRowGroupWriter<'_, impl std::io::Write + Send>,
    ) -> Result<(), ParquetError> {
        match self {
            Self::OfTables(column) => column.append_to_row_group(group),
            Self::OfLists(bytes, close) => group.append_column(&bytes, *close),
        }
    }
}

impl ByteSize for Encoded {
    fn byte_size(&self) -> usize {
        match self {
            Self::Group(group) => {
                let bytes = group.columns.iter().map(EncodedColumn::bytes).sum::<u64>();
                to_usize(bytes)
            }
            Self::End(_) => 0,
        }
    }
}

/// Encodes row groups.
#[derive(Debug)]
pub struct RowGroupEncoder {
    layout: Arc<OutputLayout>,
    factory: ArrowRowGroupWriterFactory,
    columns: SchemaDescPtr,
}

impl RowGroupEncoder {
    /// Creates an encoder for a layout's tables.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn new(layout: Arc<OutputLayout>) -> Result<Self> {
        // Nobody reads this file: it only provides the columns and their encodings.
        let (file, factory) =
            ArrowWriter::try_new(Vec::new(), Arc::clone(&layout.stored), Some(layout.properties.clone()))
                .and_then(ArrowWriter::into_serialized_writer)
                .map_err(|error| Error::Bug(error.to_string()))?;
        let columns = Arc::new(file.schema_descr().clone());
        if columns.num_columns() != layout.stored.fields().len() {
            return Err(Error::Bug("a column of predictions is more than one column of a file".into()));
        }
        Ok(Self { layout, factory, columns })
    }

    /// Encodes a row group; other events are passed on.
    ///
    /// # Errors
    /// This fails only through a bug.
    pub fn encode(&self, gathered: RowGroupEvent) -> Result<Encoded, BoxError> {
        Ok(match gathered {
            RowGroupEvent::Group(group) => Encoded::Group(self.group(group)?),
            RowGroupEvent::End(part) => Encoded::End(part),
        })
    }

    fn group(&self, RowGroup { part, folder, rows, batches, .. }: RowGroup) -> Result<EncodedGroup, BoxError> {
        let writers = self.factory.create_column_writers(0)?.into_iter().enumerate();
        let columns = writers.map(|(at, writer)| self.column(&batches, at, writer)).collect::<Result<_, _>>()?;
        Ok(EncodedGroup { part, folder, rows, columns })
    }

    fn column(
        &self,
        tables: &[RecordBatch],
        at: usize,
        mut writer: ArrowColumnWriter,
    ) -> Result<EncodedColumn, BoxError> {
        let precision = self.layout.precision;
        if let Some(lists) = Lists::of(tables, at) {
            let (bytes, close) = lists.encode(&self.columns.column(at), precision)?;
            return Ok(EncodedColumn::OfLists(bytes, Box::new(close)));
        }
        for table in tables {
            for leaf in compute_leaves(self.layout.stored.field(at), &precision.of_column(table.column(at))?)? {
                writer.write(&leaf)?;
            }
        }
        Ok(EncodedColumn::OfTables(Box::new(writer.close()?)))
    }
}
