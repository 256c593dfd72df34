//! The record of a walk over the objects of a file: what it has seen, and what is still to be checked.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
};

use super::bytes::{CheckResult, FileSection, Image, Nodes, StructureError};

/// Maximum number of structures in a file: each object, node, block and value of variable length counts as
/// one.
pub(super) const MOST_STEPS: u64 = 1 << 23;
/// Maximum number of objects in a file.
const MOST_OBJECTS: usize = 1 << 20;
/// Maximum nesting of groups; no real file is nested as deeply.
const MOST_NESTING: usize = 1 << 10;
/// Length to which names are cut in messages about a flaw.
const KEPT_OF_NAME: usize = 256;

/// Kinds of structures. No address can hold two kinds: libhdf5 caches structures by address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StructureKind {
    Object,
    ObjectPart,
    Tree1,
    SymbolNode,
    LocalHeap,
    LocalHeapData,
    Tree2,
    Tree2Node,
    FractalHeap,
    FractalBlock,
    GlobalHeap,
    ChunkArray,
}

impl Display for StructureKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "object header",
            Self::ObjectPart => "part of an object header",
            Self::Tree1 | Self::Tree2 => "B-tree",
            Self::SymbolNode => "symbol table node",
            Self::LocalHeap => "local heap",
            Self::LocalHeapData => "local heap's names",
            Self::Tree2Node => "B-tree node",
            Self::FractalHeap => "fractal heap",
            Self::FractalBlock => "block of a fractal heap",
            Self::GlobalHeap => "collection of values",
            Self::ChunkArray => "array of chunks",
        })
    }
}

/// A file that is being walked.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub(super) image: &'a Image<'a>,
    pub(super) nodes: Nodes,
    kinds: HashMap<u64, StructureKind>,
    /// Position and length of each value, by index, of the collections of the global heap that were read, by address.
    pub(super) collections: HashMap<u64, HashMap<u16, (u64, u64)>>,
    /// Bodies of shared messages, by position and kind.
    pub(super) shared: HashMap<(u64, u16), FileSection>,
    /// Every object reached so far.
    objects: Vec<Object>,
    /// Indices of the objects still to check.
    queue: Vec<usize>,
    /// Index of the object being checked.
    current: Option<usize>,
    steps: u64,
}

/// An object, and how it was reached.
#[derive(Debug)]
struct Object {
    address: u64,
    parent: Option<usize>,
    name: Box<str>,
    depth: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(image: &'a Image<'a>) -> Self {
        Self {
            image,
            nodes: image.nodes,
            kinds: HashMap::new(),
            collections: HashMap::new(),
            shared: HashMap::new(),
            objects: Vec::new(),
            queue: Vec::new(),
            current: None,
            steps: 0,
        }
    }

    /// The path of the object being checked.
    pub(super) fn object(&self) -> String {
        let object = |at: Option<usize>| at.and_then(|at| self.objects.get(at));
        let up = std::iter::successors(object(self.current), |here| object(here.parent));
        let mut names: Vec<&str> = up.map(|here| &*here.name).collect();
        names.reverse();
        names.join("/")
    }

    /// The address of the next object to check; `None` after the last one.
    pub(super) fn next_object(&mut self) -> Option<u64> {
        self.current = Some(self.queue.pop()?);
        self.current.map(|object| self.objects[object].address)
    }

    /// Counts a structure.
    pub(super) fn step(&mut self, at: u64) -> CheckResult<()> {
        self.steps += 1;
        match self.steps <= MOST_STEPS {
            true => Ok(()),
            false => Err(StructureError::unread(at, format!("more than {MOST_STEPS} objects, nodes and values"))),
        }
    }

    /// Records that an address holds a structure of this kind, and returns whether that is new; refuses an
    /// address that already holds another kind.
    pub(super) fn claim(&mut self, address: u64, kind: StructureKind, referrer: u64) -> CheckResult<bool> {
        self.step(referrer)?;
        if address == 0 {
            return Err(StructureError::damaged(referrer, "an address leads back to the start of the file"));
        }
        match self.kinds.insert(address, kind) {
            None => Ok(true),
            Some(before) if before == kind => Ok(false),
            Some(before) => Err(StructureError::damaged(
                referrer,
                format!("a {kind} at {address}, where there is already something else ({before})"),
            )),
        }
    }

    /// Like [`claim`](Self::claim), for a structure that only one place may refer to, so that nothing leads in
    /// circles.
    pub(super) fn claim_once(&mut self, address: u64, kind: StructureKind, referrer: u64) -> CheckResult<()> {
        match self.claim(address, kind, referrer)? {
            true => Ok(()),
            false => Err(StructureError::damaged(referrer, format!("the {kind} at {address} is reached twice"))),
        }
    }

    /// Queues a member of the object being checked, unless it has been seen: several links may lead to one
    /// object, also back to a parent.
    pub(super) fn enter(&mut self, address: u64, name: &[u8], referrer: u64) -> CheckResult<()> {
        self.image.inside(address, 16, referrer)?;
        if !self.claim(address, StructureKind::Object, referrer)? {
            return Ok(());
        }
        let depth = self.current.and_then(|at| self.objects.get(at)).map_or(0, |parent| parent.depth + 1);
        if depth > MOST_NESTING || self.objects.len() >= MOST_OBJECTS {
            let what = format!("more than {MOST_OBJECTS} objects, or {MOST_NESTING} within one another");
            return Err(StructureError::unread(referrer, what));
        }
        let name = printable(name).into();
        self.queue.push(self.objects.len());
        self.objects.push(Object { address, parent: self.current, name, depth });
        Ok(())
    }
}

/// A name for error messages: of limited length, and without characters that move a terminal's cursor.
pub(super) fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(KEPT_OF_NAME)]);
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
