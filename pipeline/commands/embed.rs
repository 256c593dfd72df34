//! `embed`.

use serde_json::json;

use crate::{device::device, predict::seen_by};
use cli::model_args::{EmbedArg, EmbedArgs};
use cli::{
    CommandContext,
    output::{OutputKind, OutputPlace},
    show::wrote,
};
use perturbine::{
    Error, Model, Result,
    flows::embedding::{EmbeddingKind, write_cells, write_table},
};

pub(super) fn embed(args: &EmbedArgs, context: &CommandContext) -> Result<()> {
    let place = OutputPlace::new("--out", &args.out, OutputKind::Predictions, args.force)?.afresh()?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    let published = match args.of {
        EmbedArg::Perturbations => write_table(&model, EmbeddingKind::Perturbations, place.path(), &context.resources)?,
        EmbedArg::Covariates => write_table(&model, EmbeddingKind::Covariates, place.path(), &context.resources)?,
        EmbedArg::Cells => {
            let atlas = args.atlas.as_ref().ok_or_else(|| {
                Error::usage(
                    "the atlas is missing",
                    "give it after the model, or use --of perturbations or --of covariates",
                )
            })?;
            let atlas = seen_by(&model, &context.open_data(atlas, None)?, args.missing_genes, context)?;
            write_cells(&atlas, &model, place.path(), &context.resources)?
        }
    };
    place.take_place()?;
    let result = json!({ "rows": published.rows, "files": published.files.len(), "bytes": published.bytes() });
    context.show.result(&result, || wrote(published.rows, &args.out, published.bytes()))
}
