//! Members of an AnnData object besides its matrix.

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

/// Describes layers, `obsm`, `varm`, `obsp`, `varp`, `raw`, the keys of `uns` and the columns of `obs` and `var`; leaves out what can't be read, since nothing
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
    for frame in ["obs", "var"] {
        let Some(group) = group(root, frame) else { continue };
        let names = group.names().unwrap_or_default();
        all.extend(names.iter().filter_map(|name| described_column(&*group, name, format!("{frame}/{name}"))));
    }
    all.truncate(MOST_MEMBERS);
    all
}

fn group(parent: &dyn StoredGroup, name: &str) -> Option<Box<dyn StoredGroup>> {
    (parent.member(name).ok()? == MemberKind::Group).then(|| parent.group(name).ok())?
}

/// A column of a data frame, with the type that pandas gives it.
fn described_column(frame: &dyn StoredGroup, name: &str, path: String) -> Option<AnnDataMember> {
    let data_type = match frame.member(name).ok()? {
        MemberKind::Array if frame.old_categories(name).ok()?.is_some() => "category".into(),
        MemberKind::Array => frame.array_type(name)?.1,
        MemberKind::Group => {
            let group = frame.group(name).ok()?;
            match group.text("encoding-type")?.as_str() {
                "categorical" => "category".into(),
                "nullable-integer" => group.array_type("values")?.1.replace("uint", "UInt").replace("int", "Int"),
                "nullable-boolean" => "boolean".into(),
                _ => return None,
            }
        }
        MemberKind::Missing | MemberKind::Other => return None,
    };
    Some(AnnDataMember { name: path, form: "column".into(), data_type, ..AnnDataMember::default() })
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
