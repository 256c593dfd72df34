//! The memory map: a file as a slice.
#![expect(unsafe_code, reason = "mapping a file is unsafe by nature; the contract below confines it")]

use std::{
    fs::File,
    ops::Deref,
    path::{Path, PathBuf},
};

use schemas::{Error, Result};

use crate::disk::{DiskFile, remove_all};

/// A memory-mapped file, read as a slice.
///
/// Atlases are written once and published by rename, so this program never changes a mapped file. Another
/// program may still truncate it, or a disk may fail: then unreadable bytes read as zero, and [`MappedFile::check`]
/// reports it. Callers that copy data out of a map call it before they use the data.
#[derive(Debug)]
pub struct MappedFile {
    watched: lost::WatchedMap,
    map: memmap2::Mmap,
    file: File,
    path: PathBuf,
}

/// Makes sure that lost pages of maps are still noticed. Another part of the process may have replaced the signal's
/// handler since the maps were made (in Python, `faulthandler.enable()` does); then ours is put before it. Whoever reads
/// maps in a process that is not this program's calls this from time to time; it costs one system call. A page that is
/// lost after the handler was replaced and before the next call still ends the process.
pub fn keep_watching() {
    lost::install();
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
    // SAFETY: the map is only read, through slices that borrow it. The type system can't rule out that another
    // process rewrites or truncates the file meanwhile; but the files of an atlas are immutable once they are
    // visible, lengths are checked against the manifest before the first access, and pages that are gone by the
    // time they are read become zeros.
    let map = unsafe { memmap2::Mmap::map(file) }.map_err(Error::io("map", path))?;
    let file = file.try_clone().map_err(Error::io("open", path))?;
    Ok(MappedFile { watched: lost::WatchedMap::new(&map), map, file, path: path.to_path_buf() })
}

impl MappedFile {
    /// Checks that everything read so far was there.
    ///
    /// # Errors
    /// A file that was truncated while mapped, or that the disk could not read.
    pub fn check(&self) -> Result<()> {
        self.check_pages()?;
        // The lost end of a page whose beginning still exists reads as zeros silently.
        let length = self.file.metadata().map_err(Error::io("read", &self.path))?.len();
        if length < self.map.len() as u64 { Err(self.is_lost()) } else { Ok(()) }
    }

    /// The same, except for the last, partial page; costs one load.
    pub fn check_pages(&self) -> Result<()> {
        if self.watched.has_lost() { Err(self.is_lost()) } else { Ok(()) }
    }

    fn is_lost(&self) -> Error {
        Error::damaged(&self.path, "it was cut short while it was being read, or the disk can't read it")
    }

    /// Advises the kernel that these bytes will be read.
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

/// Handles pages that can't be read: the kernel sends a signal (SIGBUS) that would end the process, including
/// a program that embeds this library. Instead, such a page becomes zeros, and its map is marked.
mod lost {
    use std::{
        mem, ptr,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
        },
    };

    /// An address range that belongs or belonged to a map. Places are never freed, so that a signal handler may
    /// traverse them; after its map is gone, a place is reused.
    #[derive(Debug)]
    struct WatchedRange {
        /// 0 if the place is free.
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
    /// The signal handler that ours replaced first.
    static FIRST: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
    /// The one that it replaced last.
    static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());
    /// Whether a raised signal was passed on.
    static RAISED: AtomicBool = AtomicBool::new(false);

    /// A map whose lost pages are recorded, as long as this value exists.
    #[derive(Debug)]
    pub(super) struct WatchedMap(Option<&'static WatchedRange>);

    impl WatchedMap {
        /// Watches a map; has to be dropped before the map is.
        pub(super) fn new(map: &memmap2::Mmap) -> Self {
            if map.is_empty() {
                return Self(None);
            }
            install();
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
        // SAFETY: places are leaked, so every pointer to one stays valid forever.
        let first = unsafe { PLACES.load(Ordering::Acquire).as_ref() };
        // SAFETY: as above.
        std::iter::successors(first, |place| unsafe { place.next.as_ref() })
    }

    /// Claims a place that nobody else uses; its start is no longer 0.
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
            // SAFETY: nobody else knows of the place before it becomes the first one.
            unsafe { (*place).next = first };
        }
        // SAFETY: it was just created, and is never freed.
        unsafe { &*place }
    }

    /// Installs the handler, unless it is installed.
    pub(super) fn install() {
        // Two threads would each take the other's handler for a foreign one.
        static INSTALLING: Mutex<()> = Mutex::new(());
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_lost_page;
        let ours = handler as *const () as usize;
        // SAFETY: all zeros is a valid `sigaction`, and the call only reads which one is installed.
        let installed = unsafe {
            let mut installed: libc::sigaction = mem::zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut installed);
            installed
        };
        if installed.sa_sigaction == ours {
            return;
        }
        let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the call only returns a number.
        if let Ok(page) = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }) {
            PAGE.store(page, Ordering::Relaxed);
        }
        // SAFETY: all zeros is a valid `sigaction`; the handler does only what a signal handler may do. What a handler
        // may be reading is never freed.
        unsafe {
            let mut before: libc::sigaction = mem::zeroed();
            libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before);
            if before.sa_sigaction == ours {
                return;
            }
            let before = Box::into_raw(Box::new(before));
            BEFORE.store(before, Ordering::Release);
            // Fails if there was a first one already.
            let _ = FIRST.compare_exchange(ptr::null_mut(), before, Ordering::Release, Ordering::Relaxed);
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = ours;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    }

    /// Runs on the thread that touched the page; uses only atomics and the page itself.
    extern "C" fn on_lost_page(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes valid pointers; a page is replaced only within a watched map, which is read-only
        // and stays mapped as long as it is watched.
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

    /// Passes the signal on to the previous handler.
    ///
    /// # Safety
    /// Only the handler may call this, with its own arguments.
    // SAFETY: only the handler calls this.
    unsafe fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the previous handler is kept forever, and is called as it was installed.
        unsafe {
            // A handler that replaced ours may end by restoring ours and raising the signal: then it is not asked again,
            // and the first one only once.
            let was_raised = (*info).si_code <= 0;
            let before = &*if was_raised { &FIRST } else { &BEFORE }.load(Ordering::Acquire);
            let handler =
                if was_raised && RAISED.swap(true, Ordering::Relaxed) { libc::SIG_DFL } else { before.sa_sigaction };
            match handler {
                // The page is accessed again, and the signal has its default effect; a raised one comes again by itself.
                libc::SIG_DFL | libc::SIG_IGN => {
                    let mut action: libc::sigaction = mem::zeroed();
                    action.sa_sigaction = handler;
                    libc::sigaction(signal, &raw const action, ptr::null_mut());
                    if was_raised {
                        libc::raise(signal);
                    }
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

/// A file of numbers that can be written in any order: one `u64` each, initially all zero. The kernel writes
/// them to the disk, and they do not count as anonymous memory of this process.
#[derive(Debug)]
pub struct MappedTable {
    map: Option<memmap2::MmapMut>,
    file: DiskFile,
}

impl MappedTable {
    /// Creates the file with this many numbers. Disk space is allocated at once: otherwise a lack of space would
    /// cause a signal later, instead of an error now.
    ///
    /// # Errors
    /// A file that can't be created, or a disk without enough space.
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

    /// Creates a file without a name, which disappears with the table.
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

    /// Syncs everything to the disk.
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
