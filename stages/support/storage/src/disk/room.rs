//! Checks disk space before work begins, instead of failing after hours.

use std::path::Path;

use rustix::fs::statvfs;
use schemas::{Error, Result};

use super::folders::parent_of;

/// Refuses work that will write `needed` bytes at or below `target` if the disk has less space. A disk that does not report its space is
/// accepted.
///
/// # Errors
/// A disk with too little space; the error says how much is missing.
pub fn check_room(target: &Path, needed: u64) -> Result<()> {
    match free_bytes(target) {
        Some(free) if free < needed => Err(Error::NoRoom { path: target.to_path_buf(), needed, free }),
        _ => Ok(()),
    }
}

/// Free bytes at the location of `target`, which need not exist.
#[must_use]
pub fn free_bytes(target: &Path) -> Option<u64> {
    let mut place = target;
    while !place.exists() {
        let above = parent_of(place);
        if above == place {
            return None;
        }
        place = above;
    }
    statvfs(place).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_disk_has_is_refused_with_what_is_missing() {
        let home = tempfile::tempdir().expect("a folder");
        let target = home.path().join("not/there/yet.atlas");
        check_room(&target, 1).expect("a byte");
        let error = check_room(&target, u64::MAX).expect_err("no disk is as large");
        assert_eq!(error.exit_code(), schemas::error::ExitCode::NoSpace);
        let message = error.to_string();
        assert!(message.contains("yet.atlas") && message.contains("18446744073709551615 bytes"), "{message}");
    }
}
