//! Unpacks a batch on a device: the encoder's input, and labels in the types that steps use (`cuda/sparse.cuh`).

use tch::{Kind, Tensor};
use torch::launch::{Address, Argument, arguments};

use super::{
    mixing::{Mixing, MixingArguments},
    run_rows,
};

arguments! {
    UnpackArguments<'a>, "unpack" {
        cells: SparseRows<'a>,
        dense: Address<'a>,
        counts: Address<'a>,
        is_logarithm: i64,
        mixing: MixingArguments<'a>,
        library: Address<'a>,
        codes: Address<'a>,
        doses: Address<'a>,
        covariates: Address<'a>,
        combinations: Address<'a>,
        library_out: Address<'a>,
        codes_out: Address<'a>,
        doses_out: Address<'a>,
        covariates_out: Address<'a>,
        combinations_out: Address<'a>,
        count: i64,
        genes: i64,
        parts: i64,
        covariate_count: i64,
    }
}

/// Transfer types of a batch's numbers: `NarrowType` in the source, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Narrow {
    /// Unsigned, 1 byte.
    U8,
    /// Unsigned, 2 bytes.
    U16,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 4 bytes.
    I32,
    /// Signed, 8 bytes.
    I64,
    /// Floating point, 4 bytes.
    F32,
    /// Floating point, 8 bytes.
    F64,
}

impl Narrow {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }
}

/// A packed batch: parts of one buffer on a device.
#[derive(Debug)]
pub struct Packed {
    /// Row pointers, `[cells + 1]`, int32.
    pub pointers: Tensor,
    /// Number of non-zeros, `[1]`, int32; the rest is padding.
    pub entries: Tensor,
    /// The gene of each non-zero, as bytes.
    pub genes: Tensor,
    /// The value of each non-zero, as bytes.
    pub values: Tensor,
    /// The type of the genes.
    pub gene_type: Narrow,
    /// The type of the values.
    pub value_type: Narrow,
    /// Library sizes, `[cells]`, float64.
    pub library: Tensor,
    /// Codes of perturbations, `[cells, parts]`, int32, padded with 0.
    pub codes: Tensor,
    /// Their doses, `[cells, parts]`, float32, padded like them.
    pub doses: Tensor,
    /// The value of each covariate, `[covariates, cells]`, int32.
    pub covariates: Tensor,
    /// The combination of each cell, `[cells]`, int32.
    pub combinations: Tensor,
}

/// The non-zeros of a batch, in their transfer types.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct SparseRows<'a> {
    pub(super) pointers: Address<'a>,
    pub(super) entries: Address<'a>,
    pub(super) genes: Address<'a>,
    pub(super) values: Address<'a>,
    pub(super) gene_type: i64,
    pub(super) value_type: i64,
}

impl Argument for SparseRows<'_> {}

/// The batch in the types that steps use.
#[derive(Debug)]
pub struct Unpacked {
    packed: Packed,
    /// How cells are mixed, and the mixed counts, `[cells, genes]`.
    pub(super) mixed: Option<(Mixing, Tensor)>,
    /// The encoder's input, `[cells, genes]`.
    pub dense: Tensor,
    /// Library sizes, `[cells]`.
    pub library: Tensor,
    /// Codes of perturbations, `[cells, parts]`, int64.
    pub codes: Tensor,
    /// Their doses, `[cells, parts]`.
    pub doses: Tensor,
    /// The value of each covariate, `[covariates, cells]`, int64.
    pub covariates: Tensor,
    /// The combination of each cell, `[cells]`, int64.
    pub combinations: Tensor,
}

impl Packed {
    /// Unpacks the batch for this many genes, to this type; the encoder's input is log(1 + value), or the value.
    /// Expression may be mixed; labels stay unchanged.
    pub fn unpack(self, genes: i64, kind: Kind, is_logarithm: bool, mixing: Option<Mixing>) -> Unpacked {
        let device = self.pointers.device();
        let count = self.library.size()[0];
        let wide = |like: &Tensor| Tensor::empty(like.size(), (Kind::Int64, device));
        let unpacked = Unpacked {
            dense: Tensor::empty([count, genes], (kind, device)),
            library: Tensor::empty([count], (kind, device)),
            codes: wide(&self.codes),
            doses: Tensor::empty(self.doses.size(), (kind, device)),
            covariates: wide(&self.covariates),
            combinations: wide(&self.combinations),
            mixed: mixing.map(|mixing| (mixing, Tensor::empty([count, genes], (kind, device)))),
            packed: self,
        };
        let packed = &unpacked.packed;
        let arguments = UnpackArguments {
            cells: unpacked.rows(),
            dense: Address::from_tensor_mut(&unpacked.dense),
            counts: Address::from_optional(unpacked.counts()),
            mixing: unpacked.mixing(),
            is_logarithm: i64::from(is_logarithm),
            library: Address::from_tensor(&packed.library),
            codes: Address::from_tensor(&packed.codes),
            doses: Address::from_tensor(&packed.doses),
            covariates: Address::from_tensor(&packed.covariates),
            combinations: Address::from_tensor(&packed.combinations),
            library_out: Address::from_tensor_mut(&unpacked.library),
            codes_out: Address::from_tensor_mut(&unpacked.codes),
            doses_out: Address::from_tensor_mut(&unpacked.doses),
            covariates_out: Address::from_tensor_mut(&unpacked.covariates),
            combinations_out: Address::from_tensor_mut(&unpacked.combinations),
            count,
            genes,
            parts: packed.codes.size()[1],
            covariate_count: packed.covariates.size()[0],
        };
        run_rows(&arguments, &unpacked.dense, count);
        unpacked
    }
}

impl Unpacked {
    /// Counts of mixed cells, `[cells, genes]`.
    pub(super) fn counts(&self) -> Option<&Tensor> {
        self.mixed.as_ref().map(|(_, counts)| counts)
    }

    /// Rows of cells, `[cells, any]`, mixed like their expression, with libtorch's operations.
    pub fn mixed_rows(&self, rows: Tensor) -> Tensor {
        match &self.mixed {
            Some((mixing, _)) => {
                let share = mixing.share.to_kind(rows.kind());
                rows.index_select(0, &mixing.partners).lerp_tensor(&rows, &share)
            }
            None => rows,
        }
    }

    /// How cells are mixed.
    pub(super) fn mixing(&self) -> MixingArguments<'_> {
        Mixing::arguments(self.mixed.as_ref().map(|(mixing, _)| mixing))
    }

    /// The non-zeros.
    pub(super) fn rows(&self) -> SparseRows<'_> {
        let Packed { pointers, entries, genes, values, gene_type, value_type, .. } = &self.packed;
        SparseRows {
            pointers: Address::from_tensor(pointers),
            entries: Address::from_tensor(entries),
            genes: Address::from_tensor(genes),
            values: Address::from_tensor(values),
            gene_type: *gene_type as i64,
            value_type: *value_type as i64,
        }
    }
}
