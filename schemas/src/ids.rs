//! Integer types with different meanings.

use crate::numbers::{bounded, to_usize};
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $repr);

        impl $name {
            /// The index in a table.
            #[must_use]
            pub fn index(self) -> usize {
                to_usize(self.0)
            }

            /// The number for this index.
            ///
            /// # Panics
            /// If a table outgrows the number's type.
            #[must_use]
            pub fn at(index: usize) -> Self {
                Self(bounded(index))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A cell of an atlas, in source order.
    CellIndex(u64)
}
id! {
    /// A row of an atlas's matrix.
    RowIndex(u64)
}
id! {
    /// A column of an atlas.
    GeneId(u32)
}
id! {
    /// A single perturbation (a gene, a drug) of an atlas; control is not one.
    PerturbationId(u32)
}
id! {
    /// A set of perturbations without their doses; 0 is control, the empty set.
    CombinationId(u32)
}
id! {
    /// A set of perturbations with their doses; 0 is control.
    ConditionId(u32)
}
id! {
    /// Rows that are stored together.
    BlockIndex(u32)
}
