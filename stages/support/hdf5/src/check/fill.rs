//! Fill values: the values read where nothing was written (specification, IV.A.2.e and IV.A.2.f).

use super::bytes::{CheckResult, FileSection};

/// Flags of version 3: a value follows; the value is undefined.
const HAS_VALUE: u8 = 0x20;
const IS_UNDEFINED: u8 = 0x10;

/// Position and length of the value; `None` for zeros, or if no value is defined.
type FillValue = Option<(u64, u64)>;

/// The message of the first versions of HDF5.
pub(super) fn old(block: &FileSection) -> CheckResult<FillValue> {
    let mut fields = block.fields();
    let (at, size) = (fields.at(), fields.u32()?);
    value(&mut fields, at, size)
}

/// The message that replaced it.
pub(super) fn new(block: &FileSection) -> CheckResult<FillValue> {
    let mut fields = block.fields();
    if fields.version(1..=3, "a fill value")? < 3 {
        fields.skip(2)?;
        if fields.u8()? == 0 {
            return Ok(None);
        }
        let (at, size) = (fields.at(), fields.u32()?);
        // A negative size means that there is no value.
        return if size.cast_signed() < 0 { Ok(None) } else { value(&mut fields, at, size) };
    }
    let flags = fields.u8()?;
    match (flags & HAS_VALUE != 0, flags & IS_UNDEFINED != 0) {
        (false, _) => Ok(None),
        (true, true) => Err(fields.damaged("a fill value that is both defined and undefined")),
        (true, false) => {
            let (at, size) = (fields.at(), fields.u32()?);
            value(&mut fields, at, size)
        }
    }
}

fn value(fields: &mut super::bytes::Fields<'_>, at: u64, size: u32) -> CheckResult<FillValue> {
    fields.skip(size as usize)?;
    Ok((size != 0).then_some((at, size.into())))
}
