//! Row groups become bytes of Parquet, on as many threads as there are: a row group knows nothing of its file.

use std::sync::Arc;

use parquet::{
    arrow::{
        ArrowWriter,
        arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves},
    },
    errors::ParquetError,
};
use schemas::{ByteSize, Error, Result};

use super::{
    gather::{Gathered, Group},
    layout::{Layout, PartRows},
};
use crate::BoxError;

/// What is said of files in the order in which they grow.
#[derive(Debug)]
pub enum Encoded {
    /// A row group.
    Group(EncodedGroup),
    /// A part has no more rows: its files are whole.
    End(PartRows),
}

/// A row group, ready to be appended.
#[derive(Debug)]
pub struct EncodedGroup {
    pub(super) part: usize,
    pub(super) folder: String,
    pub(super) rows: u64,
    pub(super) columns: Vec<ArrowColumnChunk>,
}

impl ByteSize for Encoded {
    fn byte_size(&self) -> usize {
        match self {
            Self::Group(group) => {
                let bytes = group.columns.iter().map(|column| column.close().bytes_written).sum::<u64>();
                usize::try_from(bytes).unwrap_or(usize::MAX)
            }
            Self::End(_) => 0,
        }
    }
}

/// Encodes row groups.
#[derive(Debug)]
pub struct Encoder {
    layout: Arc<Layout>,
    factory: ArrowRowGroupWriterFactory,
}

impl Encoder {
    /// An encoder of a layout's tables.
    ///
    /// # Errors
    /// None that data can cause.
    pub fn new(layout: Arc<Layout>) -> Result<Self> {
        // A file that nobody reads: what it knows of columns and their encodings is wanted.
        let (_, factory) =
            ArrowWriter::try_new(Vec::new(), Arc::clone(&layout.stored), Some(layout.properties.clone()))
                .and_then(ArrowWriter::into_serialized_writer)
                .map_err(|error| Error::Bug(error.to_string()))?;
        Ok(Self { layout, factory })
    }

    /// Encodes a row group; whatever else comes passes.
    ///
    /// # Errors
    /// None that data can cause.
    pub fn encode(&self, gathered: Gathered) -> Result<Encoded, BoxError> {
        Ok(match gathered {
            Gathered::Group(group) => Encoded::Group(self.group(group)?),
            Gathered::End(part) => Encoded::End(part),
        })
    }

    fn group(&self, Group { part, folder, rows, batches, .. }: Group) -> Result<EncodedGroup, BoxError> {
        let mut writers = self.factory.create_column_writers(0)?;
        for batch in batches {
            let batch = self.layout.precision.of(batch)?;
            let mut columns = writers.iter_mut();
            for (field, column) in self.layout.stored.fields().iter().zip(batch.columns()) {
                for leaf in compute_leaves(field, column)? {
                    columns.next().ok_or("a column has no writer")?.write(&leaf)?;
                }
            }
        }
        let columns = writers.into_iter().map(|writer| writer.close()).collect::<Result<_, ParquetError>>()?;
        Ok(EncodedGroup { part, folder, rows, columns })
    }
}
