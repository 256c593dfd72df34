//! The memory map: a file as a slice.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract below confines it")]

use std::{
    fs::File,
    ops::Deref,
    path::{Path, PathBuf},
};

use schemas::{Error, Result};

use crate::disk::{DiskFile, remove_all};

/// A file that is read as a slice.
///
/// Atlases are written once and published by rename, so nothing of ours ever changes a file that is mapped. Another program
/// may cut it short all the same, or a disk may fail: what can't be read is zero then, and [`MappedFile::check`] tells of it. Whoever
/// has copied something out of a map asks before he uses it.
#[derive(Debug)]
pub struct MappedFile {
    watched: lost::WatchedMap,
    map: memmap2::Mmap,
    file: File,
    path: PathBuf,
}

/// Maps a file for reading.
///
/// # Errors
/// A file that can't be opened or mapped.
pub fn map(path: &Path) -> Result<MappedFile> {
    map_file(&File::open(path).map_err(Error::io("open", path))?, path)
}

/// Maps an open file that is called `path`.
///
/// # Errors
/// A file that can't be mapped.
pub fn map_file(file: &File, path: &Path) -> Result<MappedFile> {
    // SAFETY: the map is only read, through slices that borrow it. What the type system can't see is another process that
    // rewrites or truncates the file meanwhile; the files of an atlas are immutable once they are visible, lengths are checked
    // against the manifest before the first access, and pages that are gone by the time they are read become zeros.
    let map = unsafe { memmap2::Mmap::map(file) }.map_err(Error::io("map", path))?;
    let file = file.try_clone().map_err(Error::io("open", path))?;
    Ok(MappedFile { watched: lost::WatchedMap::new(&map), map, file, path: path.to_path_buf() })
}

impl MappedFile {
    /// Whether everything that was read so far was there.
    ///
    /// # Errors
    /// A file that was cut short under the map, or that the disk could not give.
    pub fn check(&self) -> Result<()> {
        self.check_pages()?;
        // The lost end of a page whose beginning still exists reads as zeros silently.
        let length = self.file.metadata().map_err(Error::io("read", &self.path))?.len();
        if length < self.map.len() as u64 { Err(self.is_lost()) } else { Ok(()) }
    }

    /// The same, but for the rest of a page: a look at one number.
    pub fn check_pages(&self) -> Result<()> {
        if self.watched.has_lost() { Err(self.is_lost()) } else { Ok(()) }
    }

    fn is_lost(&self) -> Error {
        Error::damaged(&self.path, "it was cut short while it was being read, or the disk can't read it")
    }

    /// Tells the kernel what will be read.
    pub fn will_need(&self, start: usize, bytes: usize) -> std::io::Result<()> {
        self.map.advise_range(memmap2::Advice::WillNeed, start, bytes)
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Handles pages that can't be read: the kernel sends a signal (SIGBUS) that would end the process, including the
/// program that embeds this library. Here such a page becomes zeros, and its map is marked.
mod lost {
    use std::{
        mem, ptr,
        sync::{
            Once,
            atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
        },
    };

    /// An address range that is or was a map's. Places are never freed, so that a signal handler may walk along them; one whose
    /// map is gone is used again.
    #[derive(Debug)]
    struct WatchedRange {
        /// 0 where the place is free.
        start: AtomicUsize,
        end: AtomicUsize,
        lost: AtomicBool,
        next: *const Self,
    }

    // SAFETY: `next` is written once, before the place is shared.
    unsafe impl Sync for WatchedRange {}
    // SAFETY: as above.
    unsafe impl Send for WatchedRange {}

    static PLACES: AtomicPtr<WatchedRange> = AtomicPtr::new(ptr::null_mut());
    static PAGE: AtomicUsize = AtomicUsize::new(4096);
    /// The previous signal handler.
    static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

    /// A map whose lost pages are noted, as long as this lives.
    #[derive(Debug)]
    pub(super) struct WatchedMap(Option<&'static WatchedRange>);

    impl WatchedMap {
        /// Watches over a map; it has to be dropped before the map is.
        pub(super) fn new(map: &memmap2::Mmap) -> Self {
            if map.is_empty() {
                return Self(None);
            }
            static INSTALLED: Once = Once::new();
            INSTALLED.call_once(install);
            let start = map.as_ptr().addr();
            let place = free_place();
            place.lost.store(false, Ordering::Relaxed);
            place.end.store(start + map.len(), Ordering::Relaxed);
            place.start.store(start, Ordering::Release);
            Self(Some(place))
        }

        pub(super) fn has_lost(&self) -> bool {
            self.0.is_some_and(|place| place.lost.load(Ordering::Relaxed))
        }
    }

    impl Drop for WatchedMap {
        fn drop(&mut self) {
            if let Some(place) = self.0 {
                place.end.store(0, Ordering::Relaxed);
                place.start.store(0, Ordering::Release);
            }
        }
    }

    fn places() -> impl Iterator<Item = &'static WatchedRange> {
        // SAFETY: places are leaked, so that every pointer to one is good forever.
        let first = unsafe { PLACES.load(Ordering::Acquire).as_ref() };
        // SAFETY: as above.
        std::iter::successors(first, |place| unsafe { place.next.as_ref() })
    }

    /// A place that nobody else has; its start is not 0 any more.
    fn free_place() -> &'static WatchedRange {
        const TAKEN: usize = usize::MAX;
        let take = |place: &&WatchedRange| {
            place.start.compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        if let Some(place) = places().find(take) {
            return place;
        }
        let mut first = PLACES.load(Ordering::Acquire);
        let place = Box::into_raw(Box::new(WatchedRange {
            start: AtomicUsize::new(TAKEN),
            end: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
            next: first,
        }));
        while let Err(now) = PLACES.compare_exchange(first, place, Ordering::Release, Ordering::Acquire) {
            first = now;
            // SAFETY: nobody else knows of the place before it is the first one.
            unsafe { (*place).next = first };
        }
        // SAFETY: it was just made, and is never freed.
        unsafe { &*place }
    }

    fn install() {
        // SAFETY: asks for a number.
        if let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) {
            PAGE.store(page, Ordering::Relaxed);
        }
        // SAFETY: all zeros is a `sigaction`; the handler keeps to what a signal handler may do.
        unsafe {
            let mut before: libc::sigaction = mem::zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before);
            BEFORE.store(Box::into_raw(Box::new(before)), Ordering::Release);
            let mut action: libc::sigaction = mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_lost_page;
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    }

    /// Runs on the thread that has touched the page, and touches nothing but atomics and the page.
    extern "C" fn on_lost_page(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel hands over what it says; a page is replaced only within a map that is watched, which is read-only
        // and stays mapped for as long as it is watched.
        unsafe {
            let address = (*info).si_addr().addr();
            let is_of = |place: &&WatchedRange| {
                (place.start.load(Ordering::Acquire)..place.end.load(Ordering::Relaxed)).contains(&address)
            };
            if let Some(place) = places().find(is_of) {
                place.lost.store(true, Ordering::SeqCst);
                let page = PAGE.load(Ordering::Relaxed);
                let start = ptr::with_exposed_provenance_mut(address & !(page - 1));
                let errno = *libc::__errno_location();
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                let zeros = libc::mmap(start, page, libc::PROT_READ, flags, -1, 0);
                *libc::__errno_location() = errno;
                if zeros != libc::MAP_FAILED {
                    return;
                }
            }
            pass_on(signal, info, context);
        }
    }

    /// Leaves the signal to whoever handled it before.
    ///
    /// # Safety
    /// To be called from the handler alone, with its arguments.
    // SAFETY: it is.
    unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: what was there before is kept forever, and is called as it was installed.
        unsafe {
            let before = &*BEFORE.load(Ordering::Acquire);
            match before.sa_sigaction {
                // The page is touched again, and the signal does what it did before.
                libc::SIG_DFL | libc::SIG_IGN => {
                    libc::sigaction(signal, before, ptr::null_mut());
                }
                handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
                    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                        mem::transmute(handler);
                    handler(signal, info, context);
                }
                handler => {
                    let handler: extern "C" fn(libc::c_int) = mem::transmute(handler);
                    handler(signal);
                }
            }
        }
    }
}

/// A file of numbers that are written in any order: a `u64` each, all zero at first. They are the kernel's to write out, and
/// count as no memory of this process's own.
#[derive(Debug)]
pub struct MappedTable {
    map: Option<memmap2::MmapMut>,
    file: DiskFile,
}

impl MappedTable {
    /// Creates the file, with this many numbers. Room on the disk is taken at once: a page without room behind it would be found
    /// out by a signal; room that is requested is refused by an error.
    ///
    /// # Errors
    /// A file that can't be created, or a disk without room for it.
    pub fn create(path: &Path, numbers: u64) -> Result<Self> {
        let mut file = DiskFile::create_new(path)?;
        file.allocate(8 * numbers).map_err(Error::io("write", path))?;
        if numbers == 0 {
            return Ok(Self { map: None, file });
        }
        // SAFETY: the file was just created under a name that nobody else knows, so nobody else changes it.
        let map = unsafe { memmap2::MmapMut::map_mut(file.as_file()) }.map_err(Error::io("map", path))?;
        Ok(Self { map: Some(map), file })
    }

    /// Creates a file that goes with the table: it has no name from now on.
    ///
    /// # Errors
    /// As for [`MappedTable::create`].
    pub fn create_unnamed(path: &Path, numbers: u64) -> Result<Self> {
        let table = Self::create(path, numbers)?;
        remove_all(path)?;
        Ok(table)
    }

    /// The table as records.
    pub fn slice<T: bytemuck::Pod>(&self) -> &[T] {
        self.map.as_ref().map_or(&[], |map| bytemuck::cast_slice(map))
    }

    /// The table as records that can be written.
    pub fn slice_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        self.map.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(&mut *map))
    }

    /// The numbers, in the byte order of this machine, which is little-endian.
    pub fn numbers(&mut self) -> &mut [u64] {
        self.map.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(&mut *map))
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// A full or broken disk.
    pub fn finish(self) -> Result<()> {
        if let Some(map) = self.map {
            map.flush().map_err(Error::io("write", self.file.path()))?;
        }
        self.file.sync()
    }
}
