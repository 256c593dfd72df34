//! `predict MODEL -`: predictions of tables of cells on standard input, an Arrow stream of rows for each Arrow stream of cells.

use std::{
    io::{BufRead, BufReader},
    sync::Arc,
};

use arrow::{
    array::RecordBatch, compute::concat_batches, datatypes::Schema, error::ArrowError, ipc::reader::StreamReader,
};
use cli::{
    CommandContext,
    input::StoppableInput,
    model_args::{OnMissingGenesArg, PredictArgs},
    output::is_standard_stream,
};
use perturbine::{
    Error, Model, Result,
    flows::{AGAIN, predicting::tables::TablePredictor},
    schemas::counting::counted,
};
use serde_json::json;
use stages::formats::table::handed::HANDED_TABLE;

use crate::{arrow_stream, device::device, predict};

/// The key of an answer's metadata with the number of its rows, which a stream that is cut lacks.
const ROWS_KEY: &str = "rows";

/// Answers tables until standard input ends.
pub(super) fn predict_tables(args: &PredictArgs, context: &CommandContext) -> Result<()> {
    if !args.out.as_deref().is_some_and(is_standard_stream) || args.writing.shards.only_shows() || args.split.is_some()
    {
        let message = "predictions of tables on standard input are streams on standard output";
        return Err(Error::usage(message, "give --out -, without --dry-run, --plan-only and --split"));
    }
    arrow_stream::refuse_files(&args.writing, args.force.force)?;
    let model = Model::load(&args.model, device(&args.device)?)?;
    let (query, terms) = (predict::query(args, predict::requests(args, None)?)?, predict::terms(&args.terms)?);
    let form = predict::output_of(args);
    let may_lack_genes = matches!(args.missing_genes, OnMissingGenesArg::Zero);
    let predictor = TablePredictor::new(model, query, terms, form, may_lack_genes, context.resources.clone())?;
    let (mut tables, mut rows) = (0_u64, 0_u64);
    let stop = &context.resources.stop;
    let mut input = BufReader::new(StoppableInput::new(stop.clone()));
    let mut next = || match next_table(&mut input) {
        Err(_) if stop.requested() => Err(Error::Stopped { resume: AGAIN.into() }),
        next => next,
    };
    while let Some(table) = next()? {
        rows += match predictor.predict(&table)? {
            Some(prediction) => {
                for skipped in &prediction.jobs().skipped {
                    context.show.note(&skipped.to_string());
                }
                let schema = with_rows(predictor.schema(), prediction.jobs().predicted_cells());
                arrow_stream::write(&schema, prediction.pipeline(form)?)?
            }
            None => arrow_stream::write_all(&with_rows(predictor.schema(), 0), &[])?,
        };
        tables += 1;
    }
    let result = json!({ "rows": rows, "tables": tables });
    context.show.result_beside(&result, || {
        format!("wrote {} of {} to standard output", counted(rows, "row"), counted(tables, "table"))
    })
}

/// The next table; `None` at the end of the input.
fn next_table(input: &mut impl BufRead) -> Result<Option<RecordBatch>> {
    if input.fill_buf().map_err(Error::io("read", "standard input"))?.is_empty() {
        return Ok(None);
    }
    let read = || {
        let reader = StreamReader::try_new(input, None)?;
        let schema = reader.schema();
        concat_batches(&schema, &reader.collect::<Result<Vec<_>, _>>()?)
    };
    read().map(Some).map_err(|error: ArrowError| {
        let hint = "write each table as one Arrow stream, to its end";
        Error::data(HANDED_TABLE, format!("standard input is not an Arrow stream: {error}"), hint)
    })
}

fn with_rows(schema: &Schema, rows: u64) -> Arc<Schema> {
    let mut schema = schema.clone();
    schema.metadata.insert(ROWS_KEY.to_owned(), rows.to_string());
    Arc::new(schema)
}
