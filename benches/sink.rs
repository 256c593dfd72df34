//! How fast predicted cells become Parquet: our sink beside the bare writer of the parquet crate, both fed with the same ready
//! batches and with as many threads; of the bare writers each has its own file.
//!
//! ```sh
//! cargo bench --bench sink -- [MEBIBYTES] [THREADS] [ROUNDS]
//! ```
//!
//! 2,000 genes, batches of 256 cells, numbers like expected counts. `bare` writes with the settings of our sink (zstd, bytes set
//! apart by their place in a number, no statistics of single numbers), `bare as it comes` with zstd alone. One line of JSON a
//! run, in turn; then the ratios of the best runs. What is asked is 0.85 of `bare`.
#![allow(clippy::disallowed_methods, reason = "a benchmark writes files of its own")]
#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::{collections::HashMap, error::Error, fs::File, num::NonZero, path::Path, sync::Arc, thread, time::Instant};

use arrow::{
    array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    schema::types::ColumnPath,
};
use perturbine::{
    Capacity, Outcome, Pipeline, Resources,
    flows::publishing::encoded,
    schemas::arrow::{GENES_KEY, cells_schema, list_item},
    stages::{
        sink::{FileOptions, OutputLayout, OutputPrecision, PartRows, Publish},
        storage::disk::ScratchFolder,
    },
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const GENES: usize = 2000;
const CELLS: usize = 256;
/// Distinct batches, which come again and again.
const DISTINCT: usize = 32;
/// Batches of a file: about 256 MiB.
const OF_A_FILE: usize = 128;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let cores = thread::available_parallelism()?.get();
    let (mebibytes, threads, rounds) = (number(0, 2048)?, number(1, cores)?, number(2, 3)?);
    let count = (mebibytes << 20).div_ceil(CELLS * GENES * 4);
    let schema = cells_schema(&["cell_type".to_owned()], i32::try_from(GENES)?, metadata());
    let ready = batches(&schema)?;
    let scratch = ScratchFolder::create()?;
    let names = ["ours", "bare", "bare as it comes", "ours bf16"];
    let mut best = [f64::INFINITY; 4];
    for round in 0..rounds {
        for (at, name) in names.into_iter().enumerate() {
            let folder = scratch.path().join(format!("{at}-{round}"));
            let started = Instant::now();
            match at {
                0 => ours(&schema, &ready, count, threads, OutputPrecision::Single, &folder)?,
                1 => bare(&schema, &ready, count, threads, &like_ours(), &folder)?,
                2 => bare(&schema, &ready, count, threads, &plain(), &folder)?,
                _ => ours(&schema, &ready, count, threads, OutputPrecision::Bfloat16, &folder)?,
            }
            let seconds = started.elapsed().as_secs_f64();
            best[at] = best[at].min(seconds);
            let stored = std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum::<Result<u64>>()?;
            #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
            let values = (count * CELLS * GENES * 4) as f64;
            #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
            let stored = stored as f64;
            let line = serde_json::json!({
                "writer": name,
                "threads": threads,
                "seconds": seconds,
                "mib_per_second": values / seconds / f64::from(1 << 20),
                "stored": stored / values,
            });
            println!("{line}");
            std::fs::remove_dir_all(&folder)?;
        }
    }
    println!("ours against bare: {:.2}", best[1] / best[0]);
    println!("ours against bare as it comes: {:.2}", best[2] / best[0]);
    Ok(())
}

fn metadata() -> HashMap<String, String> {
    let genes: Vec<String> = (0..GENES).map(|gene| format!("G{gene:05}")).collect();
    HashMap::from([(GENES_KEY.to_owned(), serde_json::Value::from(genes).to_string())])
}

/// Expected counts: shares of genes over many orders of magnitude, that differ a little between cells, times a library size.
fn batches(schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut normal = || -> f32 { (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0 };
    let profile: Vec<f32> = (0..GENES).map(|_| 1.8 * normal() - 8.5).collect();
    let batch = |at: usize| {
        let mut values = Vec::with_capacity(CELLS * GENES);
        for _ in 0..CELLS {
            let library: f32 = (0.5 * normal() + 8.5_f32).exp();
            values.extend(profile.iter().map(|share| library * (share + 0.3 * normal()).exp()));
        }
        let text = |text: String| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, CELLS))) as ArrayRef;
        let names = (0..CELLS).map(|cell| format!("cell_{:07}", at * CELLS + cell));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(names)), text("ctrl".into())];
        columns.push(text(format!("P{at}+P{}", at + 1)));
        columns.extend(["1+1", "type_0", "combination"].map(|value| text(value.into())));
        let values = Arc::new(Float32Array::from(values));
        let lists = FixedSizeListArray::try_new(Arc::new(list_item()), i32::try_from(GENES)?, values, None)?;
        columns.push(Arc::new(lists));
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    };
    (0..DISTINCT).map(batch).collect()
}

fn ours(
    schema: &SchemaRef,
    ready: &[RecordBatch],
    count: usize,
    threads: usize,
    precision: OutputPrecision,
    folder: &Path,
) -> Result<()> {
    let rows = |number: usize| CELLS * OF_A_FILE.min(count - number * OF_A_FILE);
    let part = |number: usize| PartRows { number, rows: rows(number) as u64, folders: 1 };
    let parts = (0..count.div_ceil(OF_A_FILE)).map(part).collect();
    let options = FileOptions { precision, ..FileOptions::default() };
    let layout = Arc::new(OutputLayout::new(schema, &options, parts)?);
    let resources = Resources { threads: NonZero::new(threads).ok_or("no threads")?, ..Resources::default() };
    let again: Vec<_> = ready.iter().cycle().take(count).cloned().map(Ok::<_, Box<dyn Error + Send + Sync>>).collect();
    let source = Pipeline::from_source("ready", Capacity { items: 4, bytes: 64 << 20 }, again);
    let sink = Publish::create(folder, Arc::clone(&layout), "bench")?;
    match encoded(source, layout, &resources)?.run("write", sink)?.outcome {
        Outcome::Complete(_) => Ok(()),
        Outcome::Stopped => Err("nobody stopped it".into()),
    }
}

fn bare(
    schema: &SchemaRef,
    ready: &[RecordBatch],
    count: usize,
    threads: usize,
    properties: &WriterProperties,
    folder: &Path,
) -> Result<()> {
    std::fs::create_dir(folder)?;
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || -> Result<()> {
                    let file = File::create(folder.join(format!("{thread}.parquet")))?;
                    let mut writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties.clone()))?;
                    for batch in ready.iter().cycle().take(count).skip(thread).step_by(threads) {
                        writer.write(batch)?;
                    }
                    writer.into_inner()?.sync_all()?;
                    Ok(())
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer panicked")?)
    })
}

/// Row groups as large as ours.
fn zstd() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(1024))
}

fn plain() -> WriterProperties {
    zstd().build()
}

fn like_ours() -> WriterProperties {
    let lists = ColumnPath::from(vec!["expression".into(), "list".into(), "item".into()]);
    zstd()
        .set_column_dictionary_enabled(lists.clone(), false)
        .set_column_statistics_enabled(lists.clone(), EnabledStatistics::None)
        .set_column_encoding(lists, Encoding::BYTE_STREAM_SPLIT)
        .build()
}
