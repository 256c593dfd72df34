//! `embed`.

use serde_json::json;
use stages::sink::layout::{is_named, is_one_file};

use crate::{
    arrow_stream,
    commit::{EARLIER, FILES, complete, show_plan, show_published},
    device::device,
    predict::seen_by,
};
use cli::{
    CommandContext,
    args::size::parse_size,
    model_args::{EmbedArg, EmbedArgs},
    output::{OutputKind, OutputPlace, is_standard_stream},
    show::bytes,
};
use perturbine::{
    Atlas, Error, Model, Result,
    flows::{
        embedding::{CellLatents, EmbeddingKind, embed_cells, table, write_table},
        publishing::WriteOptions,
    },
    schemas::counting::counted,
};

pub(super) fn embed(args: &EmbedArgs, context: &CommandContext) -> Result<()> {
    let out = args.out.as_deref();
    if out.is_some_and(is_standard_stream) && !args.shards.only_shows() {
        return stream(args, context);
    }
    args.shards.check(out)?;
    let kind = match args.of {
        EmbedArg::Cells => OutputKind::Latents,
        EmbedArg::Perturbations | EmbedArg::Covariates => OutputKind::Embeddings,
    };
    let place = |out| OutputPlace::new("--out", out, kind, args.force)?.afresh();
    let place = out.map(place).transpose()?;
    let shard = args.shards.shard()?;
    if !matches!(args.of, EmbedArg::Cells) && (shard.is_some() || args.shards.only_shows()) {
        let message = "a model's table is one unit";
        return Err(Error::usage(message, "leave out --shard, --dry-run and --plan-only, or embed cells"));
    }
    if shard.is_none() && !args.shards.only_shows() {
        place.iter().try_for_each(OutputPlace::check_free)?;
    }
    let model = Model::load(&args.model, device(&args.device)?)?;
    let target = || match &place {
        Some(place) if !args.shards.is_portable() => Ok(place.path()),
        _ => args.shards.place(out),
    };
    let (resources, none) = (&context.resources, json!({}));
    let table = |kind| write_table(&model, kind, target()?, resources);
    let (published, rate) = match args.of {
        EmbedArg::Perturbations => (table(EmbeddingKind::Perturbations)?, ""),
        EmbedArg::Covariates => (table(EmbeddingKind::Covariates)?, ""),
        EmbedArg::Cells => {
            let atlas = embedded_atlas(&model, args, context)?;
            let file_bytes = parse_size(&args.file_size)?.max(1) as u64;
            let portable = args.shards.is_portable();
            let options = WriteOptions { shard, portable, file_bytes, ..WriteOptions::default() };
            let latents = CellLatents::new(&atlas, &model, &options);
            if args.shards.only_shows() {
                return show_only(&latents, args, context);
            }
            let earlier =
                shard.map(|shard| complete(target()?, &latents.plan(), shard, portable)).transpose()?.flatten();
            match earlier {
                Some(published) => (published, EARLIER),
                None => (latents.write(target()?, resources)?, ""),
            }
        }
    };
    place.iter().try_for_each(OutputPlace::take_place)?;
    show_published(&published, args.shards.place(out)?, none, rate, context)
}

/// Shows what would be written.
fn show_only(latents: &CellLatents<'_>, args: &EmbedArgs, context: &CommandContext) -> Result<()> {
    let one_file = args
        .out
        .as_deref()
        .is_some_and(|out| is_one_file(out) || ["csv", "h5ad"].iter().any(|format| is_named(out, format)));
    let units = if one_file { 1 } else { latents.units() };
    if args.shards.plan_only {
        return show_plan(&latents.plan(), units, FILES, context);
    }
    let (cells, value_bytes) = (latents.cells(), latents.value_bytes());
    let result = json!({ "rows": cells, "files": units, "units": units, "value_bytes": value_bytes });
    context.show.result(&result, || {
        let (cells, files) = (counted(cells, "cell"), counted(units as u64, "file"));
        format!("{cells} would be embedded: {} of values in {files}", bytes(value_bytes))
    })
}

/// Writes latents or tables to standard output as they come.
fn stream(args: &EmbedArgs, context: &CommandContext) -> Result<()> {
    if args.force.force {
        return Err(Error::usage("--out - replaces nothing", "leave out --force"));
    }
    if args.shards.shard()?.is_some() {
        return Err(Error::usage("--out - is one stream, not shards", "leave out --shard"));
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
