//! `embed`.

use serde_json::json;

use crate::{arrow_stream, device::device, predict::seen_by};
use cli::model_args::{EmbedArg, EmbedArgs};
use cli::{
    CommandContext,
    output::{OutputKind, OutputPlace, is_standard_output},
    show::wrote,
};
use perturbine::{
    Atlas, Error, Model, Result,
    flows::embedding::{EmbeddingKind, embed_cells, table, write_cells, write_table},
    schemas::counting::counted,
};

pub(super) fn embed(args: &EmbedArgs, context: &CommandContext) -> Result<()> {
    if is_standard_output(&args.out) {
        return stream(args, context);
    }
    let kind = match args.of {
        EmbedArg::Cells => OutputKind::Latents,
        EmbedArg::Perturbations | EmbedArg::Covariates => OutputKind::Embeddings,
    };
    let place = OutputPlace::new("--out", &args.out, kind, args.force)?.afresh()?;
    place.check_free()?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    let published = match args.of {
        EmbedArg::Perturbations => write_table(&model, EmbeddingKind::Perturbations, place.path(), &context.resources)?,
        EmbedArg::Covariates => write_table(&model, EmbeddingKind::Covariates, place.path(), &context.resources)?,
        EmbedArg::Cells => {
            write_cells(&embedded_atlas(&model, args, context)?, &model, place.path(), &context.resources)?
        }
    };
    place.take_place()?;
    let result = json!({ "rows": published.rows, "files": published.files.len(), "bytes": published.bytes() });
    context.show.result(&result, || wrote(published.rows, &args.out, published.bytes()))
}

/// Writes latents or tables to standard output as they come.
fn stream(args: &EmbedArgs, context: &CommandContext) -> Result<()> {
    if args.force.force {
        return Err(Error::usage("--out - replaces nothing", "leave out --force"));
    }
    let model = Model::load(&args.model, device(&args.device)?)?;
    let of_table = |kind| table(&model, kind).and_then(|(schema, batches)| arrow_stream::write_all(&schema, &batches));
    let rows = match args.of {
        EmbedArg::Perturbations => of_table(EmbeddingKind::Perturbations)?,
        EmbedArg::Covariates => of_table(EmbeddingKind::Covariates)?,
        EmbedArg::Cells => {
            let (schema, cells) = embed_cells(&embedded_atlas(&model, args, context)?, &model, &context.resources)?;
            arrow_stream::write(&schema, cells)?
        }
    };
    let text = || format!("wrote {} to standard output", counted(rows, "row"));
    context.show.result_beside(&json!({ "rows": rows }), text)
}

/// The atlas with the cells to embed.
fn embedded_atlas(model: &Model, args: &EmbedArgs, context: &CommandContext) -> Result<Atlas> {
    let atlas = args.atlas.as_ref().ok_or_else(|| {
        Error::usage("the atlas is missing", "give it after the model, or use --of perturbations or --of covariates")
    })?;
    seen_by(model, &context.open_data(atlas, None)?, args.missing_genes, context)
}
