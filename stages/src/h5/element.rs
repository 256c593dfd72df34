//! The number types of datasets that are read without libhdf5.

use hdf5_metno::{
    Dataset, Datatype,
    types::{FloatSize, IntSize, TypeDescriptor},
};

use crate::element::Element;

/// The type of a dataset's numbers, if it can be read without libhdf5; none if it is any other, be it only in the order of its bytes.
pub(super) fn element_of(dataset: &Dataset) -> Option<Element> {
    let stored = dataset.dtype().ok()?;
    let descriptor = stored.to_descriptor().ok()?;
    // Properties missing in a descriptor (byte order, unused bits) are those of this machine, which is little-endian.
    if Datatype::from_descriptor(&descriptor).ok()? != stored {
        return None;
    }
    Some(match descriptor {
        TypeDescriptor::Integer(IntSize::U1) => Element::I8,
        TypeDescriptor::Integer(IntSize::U2) => Element::I16,
        TypeDescriptor::Integer(IntSize::U4) => Element::I32,
        TypeDescriptor::Integer(IntSize::U8) => Element::I64,
        TypeDescriptor::Unsigned(IntSize::U1) => Element::U8,
        TypeDescriptor::Unsigned(IntSize::U2) => Element::U16,
        TypeDescriptor::Unsigned(IntSize::U4) => Element::U32,
        TypeDescriptor::Unsigned(IntSize::U8) => Element::U64,
        TypeDescriptor::Float(FloatSize::U4) => Element::F32,
        TypeDescriptor::Float(FloatSize::U8) => Element::F64,
        _ => return None,
    })
}
