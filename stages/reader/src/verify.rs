//! Checks everything that an atlas holds.

use schemas::{Error, Result, atlas::files, ids::BlockIndex, numbers::bounded};
use storage::disk::checksum_of;

use crate::{
    atlas::{Atlas, Damage},
    split::Split,
};

impl Atlas {
    /// Checks every file, every block and every split.
    ///
    /// # Errors
    /// A disk that can't be read.
    pub fn verify(&self) -> Result<Vec<Damage>> {
        let mut damages = Vec::new();
        for (name, entry) in &self.manifest().files {
            if entry.checksum.is_some() && checksum_of(&self.path().join(name))? != *entry {
                damages.push(Damage {
                    file: name.clone(),
                    block: None,
                    what: "its checksum does not match the manifest".into(),
                });
            }
        }
        for block in 0..self.manifest().blocks() {
            let index = BlockIndex(bounded(block));
            match self.check_block(index) {
                Ok(()) => {}
                Err(Error::Damaged { what, .. }) => {
                    damages.push(Damage { file: files::MATRIX.into(), block: Some(block), what })
                }
                // The matrix is in a file outside the atlas.
                Err(Error::Data { place, message, .. }) => {
                    damages.push(Damage { file: place, block: Some(block), what: message });
                }
                Err(error) => return Err(error),
            }
        }
        damages.extend(Split::damages(self)?);
        Ok(damages)
    }
}
