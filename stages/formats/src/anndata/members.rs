//! Members of an AnnData object besides its matrix, `obs` and `var`.

use schemas::arrow::PROVENANCE_KEY;

use super::{
    group::{MemberKind, StoredGroup},
    sparse,
};
use crate::source::AnnDataMember;

/// The groups whose members are arrays.
const FAMILIES: [&str; 5] = ["layers", "obsm", "varm", "obsp", "varp"];
/// Maximum number of members that are described.
const MOST_MEMBERS: usize = 1000;

/// Describes layers, `obsm`, `varm`, `obsp`, `varp`, `raw` and the keys of `uns`; leaves out what can't be read, since nothing
/// depends on it.
pub(super) fn members(root: &dyn StoredGroup) -> Vec<AnnDataMember> {
    let mut all = Vec::new();
    if let Ok(matrix) = root.member("raw.X")
        && matrix != MemberKind::Missing
    {
        all.extend(described(root, "raw.X", "raw/X".into()));
    }
    if let Some(raw) = group(root, "raw") {
        all.extend(described(&*raw, "X", "raw/X".into()));
    }
    for family in FAMILIES {
        let Some(group) = group(root, family) else { continue };
        for name in group.names().unwrap_or_default() {
            all.extend(described(&*group, &name, format!("{family}/{name}")));
        }
    }
    if let Some(uns) = group(root, "uns") {
        for name in uns.names().unwrap_or_default() {
            all.push(AnnDataMember { name: format!("uns/{name}"), ..AnnDataMember::default() });
        }
        if let Some(ours) = group(&*uns, PROVENANCE_KEY) {
            for name in ours.names().unwrap_or_default() {
                let text = ours.scalar_text(&name);
                all.push(AnnDataMember {
                    name: format!("uns/{PROVENANCE_KEY}/{name}"),
                    text,
                    ..AnnDataMember::default()
                });
            }
        }
    }
    all.truncate(MOST_MEMBERS);
    all
}

fn group(parent: &dyn StoredGroup, name: &str) -> Option<Box<dyn StoredGroup>> {
    (parent.member(name).ok()? == MemberKind::Group).then(|| parent.group(name).ok())?
}

fn described(parent: &dyn StoredGroup, name: &str, path: String) -> Option<AnnDataMember> {
    let named = AnnDataMember { name: path, ..AnnDataMember::default() };
    match parent.member(name).ok()? {
        MemberKind::Array => {
            let (shape, data_type) = parent.array_type(name).unwrap_or_default();
            Some(AnnDataMember { form: "dense".into(), shape, data_type, ..named })
        }
        MemberKind::Group => {
            let group = parent.group(name).ok()?;
            let form = sparse::encoding(&*group).unwrap_or_else(|| "group".into()).trim_end_matches("_matrix").into();
            let shape = group.integers("shape").or_else(|| group.integers("h5sparse_shape")).unwrap_or_default();
            let shape = shape.into_iter().filter_map(|size| u64::try_from(size).ok()).collect();
            let data_type = group.array_type("data").map(|(_, data_type)| data_type).unwrap_or_default();
            Some(AnnDataMember { form, shape, data_type, ..named })
        }
        MemberKind::Missing | MemberKind::Other => None,
    }
}
