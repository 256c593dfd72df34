//! The folder of a training run before its first step.

use std::path::Path;

use schemas::{Error, Result, model_files as files};
use stages::{
    reader::split::Split,
    storage::disk::{create_folders, remove_leftovers, write_atomically},
};

use super::Training;

impl Training {
    /// Makes the folder, and writes what the run is made of; a resumed run must be made of the same.
    pub(super) fn prepare_folder(&self, folder: &Path, resume: bool) -> Result<()> {
        let checkpoints = folder.join(files::CHECKPOINTS);
        create_folders(&checkpoints)?;
        for folder in [folder, &checkpoints] {
            remove_leftovers(folder)?;
        }
        let config = folder.join(files::CONFIG);
        if resume && config.exists() {
            let before = std::fs::read_to_string(&config).map_err(Error::io("read", &config))?;
            if without_genes(&before) != without_genes(&self.settings.plan.to_toml()) {
                return Err(Error::usage(
                    format!("the settings differ from those of the run in {}", folder.display()),
                    "resume with the same settings and flags, or train into another folder",
                ));
            }
        }
        let kept = folder.join(files::SPLIT);
        let atlas = &self.atlas.manifest().checksum;
        if resume && kept.exists() && Split::atlas_of(&kept)?.is_some_and(|before| before != *atlas) {
            return Err(Error::usage(
                format!("the atlas differs from that of the run in {}", folder.display()),
                "resume with the same atlas, or train into another folder",
            ));
        }
        if resume && kept.exists() && Split::read_file(&self.atlas, self.split.name(), &kept)? != *self.split {
            return Err(Error::usage(
                format!("the split differs from that of the run in {}", folder.display()),
                "resume with the same atlas, --split, --hold-out and --seed, or train into another folder",
            ));
        }
        let genes = folder.join(files::GENES);
        let names = self.atlas.genes().join("\n") + "\n";
        if resume && genes.exists() && std::fs::read_to_string(&genes).map_err(Error::io("read", &genes))? != names {
            return Err(Error::usage(
                format!("the genes differ from those of the run in {}", folder.display()),
                "resume with the same lists of genes, or train into another folder",
            ));
        }
        write_atomically(&config, self.settings.plan.to_toml().as_bytes())?;
        write_atomically(&genes, names.as_bytes())?;
        self.split.write_to(&self.atlas, &folder.join(files::SPLIT))
    }
}

/// Settings but for the choice of genes: a run's list of genes shows these, whatever file they were listed in.
fn without_genes(toml: &str) -> Vec<&str> {
    let mut is_data = false;
    let is_other = |line: &&str| {
        if line.starts_with('[') {
            is_data = *line == "[data]";
        }
        !is_data
    };
    toml.lines().filter(is_other).collect()
}
