//! The objects of a file: each is checked by the messages in its header.

use super::{
    attribute,
    bytes::{CheckResult, Nodes, StructureError},
    chunks,
    datatype::{self, Datatype},
    fill, filters, header, layout, links,
    space::Dataspace,
    walk::{StructureKind, Walk},
};

impl Walk<'_> {
    /// Checks every reachable object.
    ///
    /// # Errors
    /// The first flaw; [`object`](Self::object) then returns where it is.
    pub(super) fn run(&mut self) -> CheckResult<()> {
        if let Some(extension) = self.image.extension {
            self.claim(extension, StructureKind::Object, self.image.base)?;
            self.look_at_extension(extension)?;
        }
        self.enter(self.image.root, b"", self.image.base)?;
        while let Some(address) = self.next_object() {
            self.look_at(address)?;
        }
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
