//! The files of an atlas as its manifest lists them: their versions, and which other matrices they hold.

use formats::{format, version::version_since};
use schemas::{
    Result,
    atlas::{Origin, ValueKind},
};

use super::AtlasFacts;

impl AtlasFacts {
    pub(super) fn origins(&self, values: ValueKind) -> Result<Vec<Origin>> {
        let mut origins = self.source.origins();
        if origins.len() == self.files.len() {
            for (at, (origin, (path, before))) in origins.iter_mut().zip(&self.files).enumerate() {
                origin.version = Some(version_since(path, before)?);
                if values == ValueKind::Continuous {
                    origin.counts = format::flag_for_counts(path, &self.choice);
                } else if at == 0 {
                    // The first of files that are joined stands for all: this opens it once more.
                    origin.continuous = format::flag_for_logarithms(path, &self.choice);
                }
            }
        }
        Ok(origins)
    }
}
