//! Finds the replacement for a covariate value that was not trained: the trained value with the most similar
//! controls.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
};

use reader::{
    atlas::Atlas,
    group_statistics::{ControlMeans, control_means},
};
use schemas::{Error, Result, conditions::Covariate};
use statistics::metrics::pearson;

use super::names::SHOWN_VALUES;

/// Finds nearest values from the mean controls of an atlas.
#[derive(Debug)]
pub(super) struct NearestValues<'a> {
    atlas: &'a Atlas,
    controls: OnceCell<Vec<ControlMeans>>,
    found: RefCell<HashMap<(String, String), String>>,
}

impl<'a> NearestValues<'a> {
    /// Creates the search; nothing is read before the first request.
    pub(super) fn new(atlas: &'a Atlas) -> Self {
        Self { atlas, controls: OnceCell::new(), found: RefCell::default() }
    }

    /// The trained value of `covariate` whose controls' mean correlates best with that of the controls with
    /// `value`. Trained values without controls in the atlas can't be compared; a warning names them.
    ///
    /// # Errors
    /// An atlas without controls of either value, or without statistics.
    pub(super) fn nearest_to(&self, covariate: &Covariate, value: &str) -> Result<String> {
        let key = (covariate.name.clone(), value.to_owned());
        if let Some(known) = self.found.borrow().get(&key) {
            return Ok(known.clone());
        }
        let hint = "use --unseen-covariate mean, or give --to the value to use instead";
        let none = |what: String| Error::data(self.atlas.path().display().to_string(), what, hint);
        let own = self
            .mean(&covariate.name, value)?
            .ok_or_else(|| none(format!("there are no controls to compare {} `{value}` by", covariate.name)))?;
        let (mut best, mut without_controls) = (None::<(f64, &String)>, Vec::new());
        for trained in &covariate.values {
            let Some(mean) = self.mean(&covariate.name, trained)? else {
                without_controls.push(trained.as_str());
                continue;
            };
            let Some(correlation) = pearson(&own, &mean) else { continue };
            if best.is_none_or(|(known, _)| known < correlation) {
                best = Some((correlation, trained));
            }
        }
        let (correlation, nearest) =
            best.ok_or_else(|| none(format!("it has no controls with a {} that was trained on", covariate.name)))?;
        tracing::info!("{} `{value}`: its controls are most like those of `{nearest}` ({correlation:.3})", key.0);
        if !without_controls.is_empty() {
            let more = if without_controls.len() > SHOWN_VALUES { ", ..." } else { "" };
            without_controls.truncate(SHOWN_VALUES);
            tracing::warn!(
                "{} `{value}` is replaced by `{nearest}`; others that were trained on may be more similar, but have no controls in the \
                 atlas: {}{more}",
                key.0,
                without_controls.join(", "),
            );
        }
        self.found.borrow_mut().insert(key, nearest.clone());
        Ok(nearest.clone())
    }

    /// The mean of the controls with a value, over all other covariates; `None` if there are none.
    fn mean(&self, covariate: &str, value: &str) -> Result<Option<Vec<f64>>> {
        let controls = match self.controls.get() {
            Some(controls) => controls,
            None => {
                let read = control_means(self.atlas)?;
                self.controls.get_or_init(|| read)
            }
        };
        let mut cells = 0.0;
        let mut sum = Vec::new();
        for group in controls.iter().filter(|group| group.covariates.get(covariate).is_some_and(|own| own == value)) {
            #[expect(clippy::cast_precision_loss, reason = "a weight needs no more than 52 bits of a count")]
            let weight = group.cells as f64;
            sum.resize(group.mean.len(), 0.0);
            sum.iter_mut().zip(&group.mean).for_each(|(sum, mean)| *sum += weight * f64::from(*mean));
            cells += weight;
        }
        Ok((cells > 0.0).then(|| sum.into_iter().map(|sum| sum / cells).collect()))
    }
}
