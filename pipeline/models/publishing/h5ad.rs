//! `predict → round ×N → write`: writes an `.h5ad` file, with real controls after the predicted cells if
//! requested.

use std::path::Path;

use schemas::{Error, Result, conditions::parse};
use stages::{
    predictor::controls::{RealControls, control_cells},
    sink::{h5ad::PredictedH5ad, h5ad_doses::DoseReading},
};

use super::{super::predicting::source_plans, Prediction, PredictionForm, WriteOptions, Written, one_file};
use crate::flows::{Deferred, completed, rows};
use runtime::Pipeline;

/// Number of real cells per batch.
const CONTROLS: usize = 256;

impl Prediction {
    pub(super) fn publish_h5ad(
        self,
        output: PredictionForm,
        out: &Path,
        options: &WriteOptions,
        with_controls: bool,
        again: &str,
    ) -> Result<Written> {
        let (schema, atlas, resources) = (self.schema(output), self.atlas.clone(), self.resources.clone());
        if with_controls && self.terms.reading.library.is_some() {
            return Err(Error::usage(
                "the atlas's counts can't be combined with predictions of another library size",
                "leave out --controls copy, or --library",
            ));
        }
        let parts = self.parts(output, options)?;
        let jobs = self.jobs.only(parts.into_iter().flat_map(|part| part.spans).collect());
        let contexts = self.contexts();
        let controls = match with_controls {
            true => Some(RealControls::new(atlas.clone(), schema.clone())?),
            false => None,
        };
        let plan = self.plan(output, options).plan;
        let uns_texts = [("version", env!("CARGO_PKG_VERSION")), ("output", output.name())];
        let rules = atlas.manifest().conditions.rules().clone();
        let targets = jobs.jobs.iter().flat_map(|job| &job.targets);
        let parts = |name: &str| parse(name, None, &rules).map_or(0, |parts| parts.len());
        let most = targets.map(|target| parts(&target.condition)).max().unwrap_or(0);
        let sink =
            PredictedH5ad::create(out, &schema, DoseReading { rules, most }, options.files.precision, &uns_texts)?;
        let predicted = Self { jobs, ..self }.rounded(output, options.files.precision)?;
        let run = match controls {
            None => predicted.run("write", sink),
            Some(stage) => {
                let plans = source_plans(&atlas, 0, 0, CONTROLS, control_cells(&atlas, contexts));
                let real = rows(&atlas, plans, &resources).then("controls", stage);
                let both =
                    Deferred(move || predicted.stream().chain(std::iter::once_with(move || real.stream()).flatten()));
                Pipeline::from_source("cells", resources.edge(), both)
                    .with_stop(resources.stop.clone())
                    .run("write", sink)
            }
        };
        let (rows, report) = completed(run, again)?;
        Ok(Written { published: one_file(plan, out, rows)?, report })
    }
}
