//! Datasets that grow, and the attributes from which anndata knows what an object is.

use std::str::FromStr;

use hdf5_metno::{Dataset, Error, Group, H5Type, Location, Result, types::VarLenUnicode};

/// The encoding of an object, in anndata's terms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    Anndata,
    Array,
    Categorical,
    CsrMatrix,
    Dataframe,
    Dict,
    String,
    StringArray,
}

/// Marks an object with its encoding and the encoding's version.
pub(super) fn encode(object: &Location, encoding: Encoding) -> Result<()> {
    let (name, version) = match encoding {
        Encoding::Anndata => ("anndata", "0.1.0"),
        Encoding::Array => ("array", "0.2.0"),
        Encoding::Categorical => ("categorical", "0.2.0"),
        Encoding::CsrMatrix => ("csr_matrix", "0.1.0"),
        Encoding::Dataframe => ("dataframe", "0.2.0"),
        Encoding::Dict => ("dict", "0.1.0"),
        Encoding::String => ("string", "0.2.0"),
        Encoding::StringArray => ("string-array", "0.2.0"),
    };
    write_text(object, "encoding-type", name)?;
    write_text(object, "encoding-version", version)
}

/// Sets an attribute to a text.
pub(super) fn write_text(object: &Location, name: &str, text: &str) -> Result<()> {
    object.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&unicode(text)?)
}

/// Sets an attribute to a list of texts.
pub(super) fn write_texts(object: &Location, name: &str, texts: &[&str]) -> Result<()> {
    let attribute = object.new_attr::<VarLenUnicode>().shape(texts.len()).create(name)?;
    if texts.is_empty() {
        return Ok(());
    }
    attribute.write(&texts.iter().map(|text| unicode(text)).collect::<Result<Vec<_>>>()?)
}

/// Text as HDF5 stores it.
pub(super) fn unicode(text: &str) -> Result<VarLenUnicode> {
    VarLenUnicode::from_str(text).map_err(|error| Error::Internal(format!("`{}`: {error}", text.escape_debug())))
}

/// A one-dimensional dataset that grows at its end.
#[derive(Debug)]
pub(super) struct Vector {
    dataset: Dataset,
    length: usize,
}

impl Vector {
    pub(super) fn create<T: H5Type>(group: &Group, name: &str, chunk: usize, gzip: Option<u8>) -> Result<Self> {
        // Without timestamps, the same rows make the same file.
        let mut builder = group.new_dataset::<T>().chunk((chunk,)).obj_track_times(false);
        if let Some(level) = gzip {
            builder = builder.shuffle().deflate(level);
        }
        Ok(Self { dataset: builder.shape(0..).create(name)?, length: 0 })
    }

    pub(super) fn create_texts(group: &Group, name: &str, chunk: usize, gzip: Option<u8>) -> Result<Self> {
        let vector = Self::create::<VarLenUnicode>(group, name, chunk, gzip)?;
        encode(&vector.dataset, Encoding::StringArray)?;
        Ok(vector)
    }

    pub(super) fn create_array<T: H5Type>(group: &Group, name: &str, chunk: usize, gzip: Option<u8>) -> Result<Self> {
        let vector = Self::create::<T>(group, name, chunk, gzip)?;
        encode(&vector.dataset, Encoding::Array)?;
        Ok(vector)
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn append<T: H5Type>(&mut self, values: &[T]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let end = self.length + values.len();
        self.dataset.resize((end,))?;
        self.dataset.write_slice(values, self.length..end)?;
        self.length = end;
        Ok(())
    }

    pub(super) fn append_texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) -> Result<()> {
        self.append(&texts.into_iter().map(unicode).collect::<Result<Vec<_>>>()?)
    }
}
