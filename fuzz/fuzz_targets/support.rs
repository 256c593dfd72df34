//! Code that the targets share: bytes go to the function of their name.

#[path = "../../tests/support/targets.rs"]
mod targets;

use std::{panic, path::Path, sync::OnceLock};

use targets::Ground;

/// Gives bytes to a target.
pub fn run(target: &str, bytes: &[u8]) {
    static GROUND: OnceLock<(tempfile::TempDir, Ground)> = OnceLock::new();
    let (_, ground) = GROUND.get_or_init(|| {
        // libFuzzer ends at any panic; those that become errors of a file are none.
        let ends = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !stages::storage::parquet_read::is_decoding() {
                ends(panic);
            }
        }));
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kept/format-1/packed.atlas");
        let packed_rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kept/format-2/packed.atlas");
        let ground = Ground { atlas: kept, packed_rows, scratch: scratch.path().to_path_buf(), worker: None };
        (scratch, ground)
    });
    drop(targets::run(target, bytes, ground));
}
