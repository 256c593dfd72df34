//! Encodes labels: for every batch a CSR matrix of perturbations × doses, classes and covariates.

use reader::{atlas::Atlas, groups::Groups};
use schemas::{
    Error, Result,
    batch::{BatchPlan, Labels, UNKNOWN},
    ids::ConditionId,
    numbers::bounded,
    vocabulary::Vocabulary,
};
use sprs::CsMatI;
use stage::{BoxError, cast::narrow};

/// Codes are prefetched this many cells ahead.
const CELLS_AHEAD: usize = 16;

/// Encodes the labels of an atlas for a model.
#[derive(Debug)]
pub struct LabelEncoder {
    atlas: Atlas,
    groups: Groups,
    vocabulary_size: usize,
    /// Codes and doses of each condition; `None` if one of its perturbations is unknown to the model.
    parts: Vec<Option<Vec<(u32, f64)>>>,
    /// The adversary's class of each condition.
    classes: Vec<u32>,
    /// For each covariate, the model's code for each code of the atlas.
    covariates: Vec<Vec<u32>>,
}

impl LabelEncoder {
    /// Creates an encoder from an atlas's labels to a model's codes.
    ///
    /// # Errors
    /// A covariate of the model that the atlas does not have.
    pub fn new(atlas: &Atlas, groups: Groups, vocabulary: &Vocabulary) -> Result<Self> {
        let manifest = atlas.manifest();
        let table = &manifest.conditions;
        let ids = || (0..table.conditions().len()).map(ConditionId::at);
        let class_of =
            |id: ConditionId| vocabulary.combinations.iter().position(|name| name == table.name(id)).map(bounded);
        let mut covariates = Vec::new();
        for (at, covariate) in vocabulary.covariates.iter().enumerate() {
            if manifest.covariates.get(at).map(|known| &known.name) != Some(&covariate.name) {
                return Err(Error::unknown(
                    "covariate",
                    &covariate.name,
                    manifest.covariates.iter().map(|known| known.name.as_str()),
                ));
            }
            covariates.push(
                manifest.covariates[at].values.iter().map(|value| covariate.code(value).unwrap_or(UNKNOWN)).collect(),
            );
        }
        Ok(Self {
            groups,
            vocabulary_size: vocabulary.perturbations.len(),
            parts: ids().map(|id| vocabulary.parts(table, id)).collect(),
            classes: ids().map(|id| class_of(id).unwrap_or(UNKNOWN)).collect(),
            covariates,
            atlas: atlas.clone(),
        })
    }

    /// Encodes the labels of a plan's cells.
    ///
    /// # Errors
    /// A cell with a perturbation unknown to the model.
    pub fn labels(&self, plan: &BatchPlan) -> Result<Labels, BoxError> {
        let cells = &plan.cells;
        let entries = 2 * cells.len();
        let (mut codes, mut doses) = (Vec::with_capacity(entries), Vec::with_capacity(entries));
        let mut pointers = Vec::with_capacity(cells.len() + 1);
        pointers.push(0_u32);
        let mut labels = Vec::with_capacity(cells.len());
        let mut covariates = vec![Vec::with_capacity(cells.len()); self.covariates.len()];
        let mut groups = Vec::with_capacity(cells.len());
        for (at, cell) in cells.iter().enumerate() {
            if let Some(later) = cells.get(at + CELLS_AHEAD) {
                self.atlas.prefetch_codes(*later);
            }
            let record = self.atlas.codes(*cell);
            let condition = ConditionId(record[0]);
            let parts = self.parts[condition.index()].as_ref().ok_or_else(|| {
                let name = self.atlas.manifest().conditions.name(condition);
                Error::data(
                    format!("cell {cell}"),
                    format!("condition `{name}` holds a perturbation that the model was not trained on"),
                    "",
                )
            })?;
            for (code, dose) in parts {
                codes.push(*code);
                doses.push(narrow(*dose));
            }
            pointers.push(u32::try_from(codes.len())?);
            labels.push(self.classes[condition.index()]);
            for (covariate, out) in covariates.iter_mut().enumerate() {
                out.push(self.covariates[covariate][record[1 + covariate] as usize]);
            }
            groups.push(self.groups.find(record).map_or(UNKNOWN, bounded));
        }
        let perturbations = CsMatI::try_new((cells.len(), self.vocabulary_size), pointers, codes, doses)
            .map_err(|(_, _, _, error)| error)?;
        Ok(Labels { perturbations, combinations: labels, covariates, groups })
    }
}
