//! Cells that share condition and covariates, found in one pass over the labels.

use schemas::{
    ids::{CellIndex, ConditionId},
    vocabulary::{GroupCodes, Vocabulary},
};

use crate::{
    atlas::Atlas,
    codes::CodeTable,
    split::{Split, SplitPart},
};

/// Cells of one condition and covariate combination.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Their condition.
    pub condition: ConditionId,
    /// Their covariate codes.
    pub covariates: Vec<u32>,
    /// Number of cells for training, for validation, held out, and set apart as references.
    pub cells: [u64; 4],
}

impl Group {
    /// Number of cells in a part.
    #[must_use]
    pub fn cells_for(&self, part: SplitPart) -> u64 {
        self.cells[part as usize]
    }

    /// Codes and doses of the group's perturbations, and the codes of its covariates; `None` if a model with this
    /// vocabulary does not know them.
    #[must_use]
    pub fn codes(&self, atlas: &Atlas, vocabulary: &Vocabulary) -> Option<GroupCodes> {
        vocabulary.coded(&atlas.manifest().conditions, self.condition, &atlas.covariate_values(&self.covariates))
    }

    /// Number of cells, in any part.
    #[must_use]
    pub fn cells(&self) -> u64 {
        self.cells.iter().sum()
    }
}

/// All groups of an atlas, in the order of their first cells.
#[derive(Clone, Debug)]
pub struct Groups {
    groups: Vec<Group>,
    by_codes: CodeTable,
}

impl Groups {
    /// Finds the groups; without a split, every cell counts as a training cell.
    #[must_use]
    pub fn from_atlas(atlas: &Atlas, split: Option<&Split>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut by_codes = CodeTable::default();
        for cell in (0..atlas.cells()).map(CellIndex) {
            let codes = atlas.codes(cell);
            let at = by_codes.find_or_add(codes);
            if at == groups.len() {
                groups.push(Group { condition: ConditionId(codes[0]), covariates: codes[1..].to_vec(), cells: [0; 4] });
            }
            let part = split.map_or(SplitPart::Train, |split| split.part(cell));
            groups[at].cells[part as usize] += 1;
        }
        by_codes.freeze();
        Self { groups, by_codes }
    }

    /// The groups.
    #[must_use]
    pub fn all(&self) -> &[Group] {
        &self.groups
    }

    /// The group of a cell's codes.
    #[must_use]
    pub fn find(&self, codes: &[u32]) -> Option<usize> {
        self.by_codes.find(codes)
    }

    /// The perturbations of which no cell is in training, alone or in a combination, in the atlas's order.
    #[must_use]
    pub fn untrained_perturbations(&self, atlas: &Atlas) -> Vec<String> {
        let table = &atlas.manifest().conditions;
        let mut is_there = vec![[false; 2]; table.perturbations().len()];
        for group in &self.groups {
            for (perturbation, _) in table.parts(group.condition) {
                let [trained, untrained] = &mut is_there[perturbation.index()];
                *trained |= group.cells_for(SplitPart::Train) > 0;
                *untrained |= group.cells() > 0;
            }
        }
        let names = table.perturbations().iter().zip(is_there);
        names.filter(|(_, is_there)| *is_there == [false, true]).map(|(name, _)| name.clone()).collect()
    }

    /// The distinct covariate combinations, in the order of their first cells.
    #[must_use]
    pub fn contexts(&self) -> Vec<Vec<u32>> {
        let mut seen = std::collections::HashSet::new();
        self.groups
            .iter()
            .filter(|group| seen.insert(&group.covariates))
            .map(|group| group.covariates.clone())
            .collect()
    }
}
