//! The walk over the objects of a file, and its record of what it has seen.

use std::{
    collections::HashMap,
    fmt::{self, Display, Formatter},
};

use super::{
    attribute,
    bytes::{CheckResult, Fields, FileSection, Image, Nodes, StructureError},
    chunks,
    datatype::{self, Datatype},
    fill, filters,
    global_heap::Collection,
    header::{self, HeaderMessage},
    layout, links,
    space::Dataspace,
};

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
    pub(super) collections: HashMap<u64, Collection>,
    /// Bodies of shared messages, by position and kind.
    shared: HashMap<(u64, u16), FileSection>,
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

    /// Checks every reachable object.
    ///
    /// # Errors
    /// The first flaw; [`object`](Self::object) then returns where it is.
    pub(super) fn run(&mut self) -> CheckResult<()> {
        if let Some(extension) = self.image.extension {
            self.kinds.insert(extension, StructureKind::Object);
            self.look_at_extension(extension)?;
        }
        self.enter(self.image.root, b"", self.image.base)?;
        while let Some(object) = self.queue.pop() {
            self.current = Some(object);
            self.look_at(self.objects[object].address)?;
        }
        Ok(())
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

    fn look_at(&mut self, address: u64) -> CheckResult<()> {
        let messages = header::read(self, address)?;
        let mut dataset = DatasetMessages::default();
        for message in &messages {
            match message.kind {
                header::DATASPACE => keep(&mut dataset.space, Dataspace::parse(&self.resolve(message)?)?),
                header::DATATYPE => keep(&mut dataset.datatype, datatype::read(&self.resolve(message)?)?),
                header::FILL_OLD => keep(&mut dataset.fill, fill::old(&self.resolve(message)?)?),
                header::FILL => keep(&mut dataset.fill, fill::new(&self.resolve(message)?)?),
                header::FILTERS => keep(&mut dataset.filters, filters::read(&self.resolve(message)?)?),
                header::LAYOUT => keep(&mut dataset.layout, (message.block.at, layout::read(&message.block)?)),
                header::EXTERNAL_FILES => {
                    return Err(StructureError::unread(message.block.at, "values in other files"));
                }
                header::LINK_INFO => links::dense(self, &message.block)?,
                header::LINK => links::link(self, message.block.fields())?,
                header::SYMBOL_TABLE => links::symbol_table(self, &message.block)?,
                header::ATTRIBUTE => attribute::check(self, message.block.fields())?,
                header::ATTRIBUTE_INFO => attribute::dense(self, &message.block)?,
                _ => {}
            }
        }
        let Some((at, layout)) = dataset.layout else { return Ok(()) };
        let (Some(datatype), Some(space)) = (&dataset.datatype, &dataset.space) else {
            return Err(StructureError::damaged(at, "values without a type or without dimensions"));
        };
        if let Some(Some((at, size))) = dataset.fill.as_ref()
            && *size != u64::from(datatype.size)
        {
            return Err(StructureError::damaged(
                *at,
                format!("a fill value of {size} bytes among values of {}", datatype.size),
            ));
        }
        let filters = dataset.filters.unwrap_or_default();
        chunks::check(self, at, &layout, datatype, space, &filters)
    }

    /// Checks a superblock's extension, which gives node sizes and other data that belong to no object.
    fn look_at_extension(&mut self, address: u64) -> CheckResult<()> {
        for message in header::read(self, address)? {
            let at = message.block.at;
            match message.kind {
                header::TREE_K => {
                    let mut fields = message.block.fields();
                    fields.version(0..=0, "sizes of nodes")?;
                    let [chunks, symbol_nodes, symbols] = [fields.u16()?, fields.u16()?, fields.u16()?];
                    let nodes = Nodes::of_halves([symbols, symbol_nodes, chunks]);
                    self.nodes = nodes.ok_or_else(|| StructureError::damaged(at, "nodes without room"))?;
                }
                header::SHARED_TABLE => return Err(StructureError::unread(at, "messages that objects share")),
                header::DRIVER => return Err(StructureError::unread(at, "a driver, as files of several parts have")),
                header::CACHE_IMAGE => return Err(StructureError::unread(at, "an image of the metadata cache")),
                _ => {}
            }
        }
        Ok(())
    }

    /// The body of a message, which may be in the header of another object.
    pub(super) fn resolve(&mut self, message: &HeaderMessage) -> CheckResult<FileSection> {
        match message.shared {
            false => Ok(message.block.clone()),
            true => self.shared(message.kind, message.block.fields()),
        }
    }

    /// The body of the shared message that a reference leads to (specification, IV.A.2, on shared messages).
    pub(super) fn shared(&mut self, kind: u16, mut fields: Fields<'_>) -> CheckResult<FileSection> {
        let at = fields.at();
        let version = fields.version(1..=3, "a shared message")?;
        let place = fields.u8()?;
        match (version, place) {
            (1, _) => fields.skip(6 + fields.widths().length)?,
            (3, 1) => return Err(StructureError::unread(at, "messages that objects share")),
            (3, 2) | (2, _) => {}
            _ => return Err(StructureError::damaged(at, format!("a shared message of kind {place}"))),
        }
        let address = fields.some_address()?;
        if let Some(block) = self.shared.get(&(address, kind)) {
            return Ok(block.clone());
        }
        self.enter(address, b"(its type)", at)?;
        let found = header::read_quietly(self, address)?.into_iter().find(|message| message.kind == kind);
        match found {
            Some(HeaderMessage { shared: false, block, .. }) => {
                self.shared.insert((address, kind), block.clone());
                Ok(block)
            }
            Some(_) => Err(StructureError::damaged(at, "a shared message that is shared itself")),
            None => Err(StructureError::damaged(at, format!("the message shared from {address} does not exist"))),
        }
    }
}

/// A name for error messages: of limited length, and without characters that move a terminal's cursor.
pub(super) fn printable(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(KEPT_OF_NAME)]);
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// The messages that make an object a dataset; libhdf5 uses the first of each kind.
#[derive(Debug, Default)]
struct DatasetMessages {
    space: Option<Dataspace>,
    datatype: Option<Datatype>,
    /// Position and length of the fill value; the inner `None` means that the message defines no value.
    fill: Option<Option<(u64, u64)>>,
    filters: Option<Vec<filters::FilterId>>,
    layout: Option<(u64, layout::DataLayout)>,
}

fn keep<T>(part: &mut Option<T>, found: T) {
    part.get_or_insert(found);
}
