//! Which genes of an atlas a model sees: genes named by the user, genes from lists, or genes chosen by a
//! ranking.
//!
//! Genes with the same name are chosen together, so that names identify the chosen genes.

use std::{collections::HashMap, path::Path};

use reader::atlas::Atlas;
use schemas::{Error, Result, config::GenesKept};

/// Chosen genes of an atlas.
#[derive(Debug)]
pub struct ChosenGenes<'a> {
    atlas: &'a Atlas,
    places: HashMap<&'a str, Vec<usize>>,
    chosen: Vec<bool>,
}

impl<'a> ChosenGenes<'a> {
    /// No genes yet.
    #[must_use]
    pub fn none(atlas: &'a Atlas) -> Self {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, name) in atlas.genes().iter().enumerate() {
            places.entry(name).or_default().push(at);
        }
        Self { atlas, places, chosen: vec![false; atlas.genes().len()] }
    }

    /// Adds genes, given their indices.
    pub fn add(&mut self, genes: impl IntoIterator<Item = usize>) {
        for gene in genes {
            for at in &self.places[self.atlas.genes()[gene].as_str()] {
                self.chosen[*at] = true;
            }
        }
    }

    /// Adds the genes listed in a file, one name per line.
    ///
    /// # Errors
    /// A file that can't be read or is empty, or names that are not genes of the atlas.
    pub fn add_listed(&mut self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file).map_err(Error::io("read", file))?;
        let lines: Vec<(usize, &str)> =
            (1..).zip(text.lines().map(str::trim)).filter(|(_, name)| !name.is_empty()).collect();
        if lines.is_empty() {
            return Err(Error::data(file.display().to_string(), "it names no genes", "write one gene name per line"));
        }
        let unknown: Vec<&(usize, &str)> = lines.iter().filter(|(_, name)| !self.places.contains_key(name)).collect();
        if let Some((line, name)) = unknown.first() {
            let mut message = Error::unknown("gene", name, self.atlas.genes().iter().map(String::as_str)).to_string();
            if unknown.len() > 1 {
                message.push_str(&format!("; {} of {} names are unknown", unknown.len(), lines.len()));
            }
            let hint = "use the gene names of the atlas (genes.parquet), or leave out these lines";
            return Err(Error::data(format!("{}, line {line}", file.display()), message, hint));
        }
        let places: Vec<usize> = lines.iter().flat_map(|(_, name)| self.places[name].clone()).collect();
        self.add(places);
        Ok(())
    }

    /// Adds the genes that have the name of a perturbation of the atlas.
    pub fn add_perturbed(&mut self) {
        let atlas = self.atlas;
        let perturbations = atlas.manifest().conditions.perturbations();
        let places: Vec<usize> =
            perturbations.iter().filter_map(|name| self.places.get(name.as_str())).flatten().copied().collect();
        if places.is_empty() {
            tracing::warn!("no perturbation is named like a gene, so `perturbed` keeps none");
        }
        self.add(places);
    }

    /// Adds genes that are kept whichever others are chosen.
    ///
    /// # Errors
    /// As for [`ChosenGenes::add_listed`].
    pub fn keep(&mut self, kept: &[GenesKept]) -> Result<()> {
        for kept in kept {
            match kept {
                GenesKept::Perturbed => self.add_perturbed(),
                GenesKept::Listed(file) => self.add_listed(file)?,
            }
        }
        Ok(())
    }

    /// Number of chosen genes.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.chosen.iter().filter(|chosen| **chosen).count() as u64
    }

    /// The names of the chosen genes, in the atlas's order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let chosen = self.atlas.genes().iter().zip(&self.chosen).filter(|(_, chosen)| **chosen);
        chosen.map(|(name, _)| name.clone()).collect()
    }
}
