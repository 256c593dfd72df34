//! `response`.

use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, Series};
use stages::{
    reader::selector::Selector,
    sink::{csv_table::CsvTable, layout::is_named},
    storage::{disk::StagedFile, parquet_file::ParquetFile},
};

use crate::{arrow_stream, device::device, predict::note_perturbed_sources};
use cli::model_args::ResponseArgs;
use cli::{
    CommandContext,
    output::{OutputKind, OutputPlace, is_standard_stream},
};
use perturbine::{
    Error, Model, Result,
    flows::dose_response::{ResponseQuery, Responses, parse_doses, respond},
    schemas::counting::counted,
};

pub(super) fn response(args: &ResponseArgs, context: &CommandContext) -> Result<()> {
    let place = |out| OutputPlace::new("--out", out, OutputKind::Curves, args.force)?.afresh();
    let is_streamed = args.out.as_deref().is_some_and(is_standard_stream);
    let place = args.out.as_deref().filter(|_| !is_streamed).map(place).transpose()?;
    place.iter().try_for_each(OutputPlace::check_free)?;
    let query = ResponseQuery {
        condition: args.condition.clone(),
        doses: args.doses.iter().map(|text| parse_doses(text)).collect::<Result<_>>()?,
        from: args.from.as_deref().map(Selector::parse).transpose()?,
        cells_per_condition: args.cells_per_condition,
        genes: args.genes.clone(),
    };
    let atlas = context.open_data(&args.atlas, None)?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    note_perturbed_sources(query.from.as_ref(), &atlas, context)?;
    let responses = respond(&atlas, &model, &query, &context.resources)?;
    for skipped in &responses.skipped {
        context.show.note(&skipped.to_string());
    }
    if is_streamed {
        let table = responses.table()?;
        let rows = arrow_stream::write_all(&table.schema(), &[table])?;
        let text = || format!("wrote {} to standard output", counted(rows, "row"));
        return context.show.result_beside(&serde_json::json!({ "rows": rows, "skipped": responses.skipped }), text);
    }
    if let Some(place) = &place {
        let table = responses.table()?;
        if is_named(place.path(), "csv") {
            CsvTable::write(place.path(), &table)?;
        } else {
            let staged = StagedFile::create(place.path())?;
            let mut file = ParquetFile::create(staged.path(), table.schema())?;
            file.write(&table)?;
            file.finish()?;
            staged.commit()?;
        }
        place.take_place()?;
    }
    let table = response_table(&responses).map_err(|error| Error::Bug(error.to_string()))?;
    context.show.result_with_table(&responses, &table, || context.show.table(&table))
}

/// One row per covariate combination and dose, with the predicted change of each gene.
fn response_table(responses: &Responses) -> polars::prelude::PolarsResult<DataFrame> {
    let points = || responses.curves.iter().flat_map(|curve| curve.points.iter().map(move |point| (curve, point)));
    let text = |name: &str, values: Vec<String>| -> Column { Series::new(name.into(), values).into_column() };
    let number = |name: &str, values: Vec<f64>| -> Column { Series::new(name.into(), values).into_column() };
    let label = |covariates: &std::collections::BTreeMap<String, String>| {
        let pairs: Vec<String> = covariates.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(", ")
    };
    let mut columns = vec![
        text("covariates", points().map(|(curve, _)| label(&curve.covariates)).collect()),
        text("condition", points().map(|_| responses.condition.clone()).collect()),
        text("dose", points().map(|(_, point)| point.dose.clone()).collect()),
        text("extrapolation", points().map(|(_, point)| point.extrapolation.to_owned()).collect()),
        text("dose_was", points().map(|(_, point)| point.dose_was.to_owned()).collect()),
        Series::new("distance".into(), points().map(|(_, point)| point.distance.map(f64::from)).collect::<Vec<_>>())
            .into_column(),
        number("effect_size", points().map(|(_, point)| point.effect_size).collect()),
    ];
    for (at, gene) in responses.genes.iter().enumerate() {
        // A gene may have the name of one of the columns before.
        let taken = |name: &String| columns.iter().any(|column| column.name() == name);
        let mut others = (2..).map(|number| format!("{gene} ({number})"));
        let name = Some(gene.clone()).filter(|gene| !taken(gene)).or_else(|| others.find(|name| !taken(name)));
        let name = name.unwrap_or_default();
        columns.push(number(&name, points().map(|(_, point)| point.change[at].into()).collect()));
    }
    DataFrame::new_infer_height(columns)
}
