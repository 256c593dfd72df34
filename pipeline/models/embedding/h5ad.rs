//! `… → embed → write`: writes latents to an `.h5ad` file.

use std::path::Path;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use schemas::{Error, Result, conditions::ConditionTable};
use stages::sink::{Published, PublishedFile, h5ad_doses::DoseReading, latent_h5ad::LatentH5ad};

use crate::{flows::completed, runtime::Pipeline};

pub(super) fn write_h5ad(
    schema: &SchemaRef,
    latents: Pipeline<RecordBatch>,
    conditions: &ConditionTable,
    out: &Path,
) -> Result<Published> {
    let most = conditions.conditions().iter().map(|condition| condition.doses.len()).max().unwrap_or(0);
    let doses = DoseReading { rules: conditions.rules().clone(), most };
    let provenance = [("version", env!("CARGO_PKG_VERSION")), ("output", "latent")];
    let run = latents.run("write", LatentH5ad::create(out, schema, doses, &provenance)?);
    let (rows, _) = completed(run, "run the same command again: nothing was written")?;
    let bytes = std::fs::metadata(out).map_err(Error::io("read", out))?.len();
    let name = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = vec![PublishedFile { name, rows, bytes, checksum: None }];
    Ok(Published { plan: String::new(), rows, files })
}
