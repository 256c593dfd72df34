//! Dataspaces: the dimensions of values (specification, IV.A.2.b).

use super::bytes::{CheckResult, Fields, FileSection};

/// Maximum number of dimensions in an HDF5 file.
pub(super) const MOST_DIMENSIONS: usize = 32;
/// The maximum of a dimension that may grow without limit.
pub(super) const UNLIMITED: u64 = u64::MAX;
/// A flag: the maximum of each dimension follows.
const HAS_MOST: u8 = 1;
/// In version 2, the kinds of spaces: a single value, an array, or no values.
const SCALAR: u8 = 0;
const SIMPLE: u8 = 1;
const NULL: u8 = 2;

/// The dimensions of values.
#[derive(Debug)]
pub(super) struct Dataspace {
    pub(super) dimensions: Vec<u64>,
    /// The maximum of each dimension; empty if not given. [`UNLIMITED`]: no limit.
    pub(super) most: Vec<u64>,
    /// Number of values: the product of the dimensions.
    pub(super) values: u64,
}

impl Dataspace {
    pub(super) fn parse(block: &FileSection) -> CheckResult<Self> {
        Self::read(block.fields())
    }

    pub(super) fn read(mut fields: Fields<'_>) -> CheckResult<Self> {
        let at = fields;
        let version = fields.version(1..=2, "dimensions")?;
        let rank = usize::from(fields.u8()?);
        let flags = fields.u8()?;
        if rank > MOST_DIMENSIONS {
            return Err(at.damaged(format!("{rank} dimensions, where at most {MOST_DIMENSIONS} are allowed")));
        }
        let kind = match version {
            1 => {
                fields.skip(5)?;
                if rank == 0 { SCALAR } else { SIMPLE }
            }
            _ => fields.u8()?,
        };
        if kind > NULL || (kind != SIMPLE && rank > 0) {
            return Err(at.damaged(format!("a space of kind {kind} with {rank} dimensions")));
        }
        let dimensions = (0..rank).map(|_| fields.length()).collect::<CheckResult<Vec<_>>>()?;
        let mut most = dimensions.clone();
        for (most, dimension) in most.iter_mut().zip(&dimensions).filter(|_| flags & HAS_MOST != 0) {
            *most = fields.length()?;
            if *most == UNLIMITED >> (64 - 8 * fields.widths().length) {
                *most = UNLIMITED;
            }
            if *most < *dimension {
                return Err(at.damaged(format!("a dimension of {dimension}, where at most {most} is allowed")));
            }
        }
        let product = dimensions.iter().try_fold(1_u64, |product, dimension| product.checked_mul(*dimension));
        let values = product.filter(|values| i64::try_from(*values).is_ok());
        let values =
            values.ok_or_else(|| at.damaged(format!("{dimensions:?} have more values than can be counted")))?;
        Ok(Self { dimensions, most, values: if kind == NULL { 0 } else { values } })
    }
}
