//! Whether the cells to evaluate were really held out from a model's training, whatever the split says.

use std::collections::HashSet;

use arrow::array::AsArray;
use schemas::{Error, Result, atlas::files, conditions::CONTROL, ids::CellIndex};
use stages::{
    model::saved::Model,
    reader::{
        atlas::Atlas,
        control_roles::ControlRoles,
        split::{Split, SplitPart, training_cells},
    },
};

use super::predicting::own_split;

/// Whether the model learned from a reference control.
///
/// # Errors
/// Perturbed cells that this split holds out, but that the model was trained on.
pub(super) fn learned_from_references(
    atlas: &Atlas,
    model: &Model,
    split: &Split,
    roles: &ControlRoles,
    judged: SplitPart,
) -> Result<bool> {
    let held_out = |cell: &CellIndex| {
        judged == SplitPart::Ood && atlas.condition(*cell) != CONTROL && split.part(*cell) == SplitPart::Ood
    };
    let all = || (0..atlas.cells()).map(CellIndex);
    let Some(own) = own_split(model, atlas)? else {
        return warn_of_names(atlas, model, held_out).map(|()| false);
    };
    let trained = |cell: &CellIndex| own.part(*cell) == SplitPart::Train;
    let count = all().filter(held_out).count();
    let wrong = all().filter(|cell| held_out(cell) && trained(cell)).count();
    if wrong > 0 {
        let message = format!(
            "the model was trained on {wrong} of the {count} cells that the split `{}` holds out",
            split.name()
        );
        let hint =
            "leave out --split to evaluate with the split of its training, or evaluate training cells with --on train";
        return Err(Error::data(model.path.display().to_string(), message, hint));
    }
    let is_reference =
        |cell: &CellIndex| atlas.condition(*cell) == CONTROL && roles.is_reference(*cell, split.part(*cell));
    Ok(all().any(|cell| trained(&cell) && is_reference(&cell)))
}

/// In another atlas than that of the training, cells can only be recognised by their names.
fn warn_of_names(atlas: &Atlas, model: &Model, held_out: impl Fn(&CellIndex) -> bool) -> Result<()> {
    let Some(path) = model.card.split_file(&model.path)? else { return Ok(()) };
    let (mut cell, mut names) = (0, HashSet::new());
    for batch in atlas.obs(&["cell"])? {
        let batch = batch.map_err(|error| Error::damaged(atlas.path().join(files::CELLS), error.to_string()))?;
        for name in batch.column(0).as_string::<i32>() {
            if held_out(&CellIndex(cell)) {
                names.insert(name.unwrap_or_default().to_owned());
            }
            cell += 1;
        }
    }
    let mut known = 0_u64;
    training_cells(&path, |name| known += u64::from(names.contains(name)))?;
    if known > 0 {
        tracing::warn!(
            "{known} of the cells to evaluate have the names of cells that {} was trained on; if they are the same, nothing was held out",
            model.path.display()
        );
    }
    Ok(())
}
