//! Filters: how chunks were transformed when they were written (specification, IV.A.2.l).

use super::bytes::{CheckResult, FileSection, StructureError};

/// Filter ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilterId(u16);

const SHUFFLE: u16 = 2;
const FLETCHER32: u16 = 3;
/// Filters of libhdf5 whose decoders trust their parameters; files of cells do not use them.
const NOT_READ: [(u16, &str); 3] = [(4, "szip"), (5, "n-bit"), (6, "scale-offset")];
const MOST_FILTERS: u8 = 32;
/// In version 2, only filters from this one on have names.
const FIRST_FOREIGN: u16 = 256;
/// Maximum number of parameters of a filter.
const MOST_PARAMETERS: u16 = 256;

/// The filters of a message, in the order in which they were applied.
pub(super) fn read(block: &FileSection) -> CheckResult<Vec<FilterId>> {
    let mut fields = block.fields();
    let version = fields.version(1..=2, "filters")?;
    let count = fields.u8()?;
    if count > MOST_FILTERS {
        return Err(fields.damaged(format!("{count} filters, where at most {MOST_FILTERS} are allowed")));
    }
    fields.skip(if version == 1 { 6 } else { 0 })?;
    let mut filters = Vec::new();
    for _ in 0..count {
        let at = fields.at();
        let id = fields.u16()?;
        let name = if version == 1 || id >= FIRST_FOREIGN { usize::from(fields.u16()?) } else { 0 };
        let (_flags, parameters) = (fields.u16()?, fields.u16()?);
        if version == 1 && name % 8 != 0 {
            return Err(StructureError::damaged(
                at,
                format!("a filter's name of {name} bytes, which is not a multiple of 8"),
            ));
        }
        if name > 0 && !fields.take(name)?.contains(&0) {
            return Err(StructureError::damaged(at, "a filter's name that does not end"));
        }
        if parameters > MOST_PARAMETERS || (id == FLETCHER32 && parameters != 0) || (id == SHUFFLE && parameters > 1) {
            return Err(StructureError::damaged(at, format!("filter {id} with {parameters} parameters")));
        }
        fields.skip(4 * usize::from(parameters))?;
        fields.skip(if version == 1 && parameters % 2 == 1 { 4 } else { 0 })?;
        if let Some((_, name)) = NOT_READ.iter().find(|(number, _)| *number == id) {
            return Err(StructureError::unread(at, format!("values packed with {name}")));
        }
        filters.push(FilterId(id));
    }
    Ok(filters)
}
