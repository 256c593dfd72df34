//! The tables of an atlas, which are read occasionally. They are kept open, so that a reader sees the atlas
//! that it opened whatever happens to the folder, and are checked before they are first read.

use std::{collections::BTreeMap, fs::File, os::fd::AsRawFd, path::Path, sync::OnceLock};

use schemas::{
    Error, Result,
    atlas::{Manifest, files},
};
use storage::disk::checksum_of_file;

/// Files that are opened with the atlas and read later.
#[derive(Debug)]
pub(super) struct Tables(BTreeMap<&'static str, (File, OnceLock<()>)>);

impl Tables {
    /// Opens the tables listed in the manifest.
    pub(super) fn open(folder: &Path, manifest: &Manifest) -> Result<Self> {
        let names = [files::CELLS, files::STATISTICS, files::MEMBERS];
        let named = names.into_iter().filter(|name| manifest.files.contains_key(*name));
        let open = |name| {
            let path = folder.join(name);
            Ok((name, (File::open(&path).map_err(Error::io("open", path))?, OnceLock::new())))
        };
        named.map(open).collect::<Result<_>>().map(Self)
    }

    /// Opens a table at its beginning.
    pub(super) fn get(&self, name: &str, folder: &Path, manifest: &Manifest) -> Result<File> {
        let path = folder.join(name);
        let known = self.0.get(name).zip(manifest.files.get(name));
        let ((file, sound), entry) =
            known.ok_or_else(|| Error::damaged(folder.join(files::MANIFEST), format!("it does not list {name}")))?;
        // Each reader needs its own position, so the file is opened again; by its descriptor, since its name may
        // belong to another file by now.
        let again = || {
            let by_number = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            by_number.or_else(|_| File::open(&path)).map_err(Error::io("open", &path))
        };
        if sound.get().is_none() {
            if checksum_of_file(&again()?, &path)? != *entry {
                return Err(Error::damaged(path, "its checksum does not match the manifest"));
            }
            sound.get_or_init(|| ());
        }
        again()
    }
}
