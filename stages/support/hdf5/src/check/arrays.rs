//! Indexes of chunks that are arrays, of fixed size or growing (specification, VII.C and VII.D).

use schemas::numbers::to_usize;

use super::{
    bytes::{CheckResult, Fields, FileSection, StructureError},
    walk::{StructureKind, Walk},
};

/// No writer makes pages with more elements than 2 to this power.
const MOST_PAGE_BITS: u8 = 30;

/// The layout of an array's elements, each of which locates a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkElements {
    pub(super) chunk_bytes: u64,
    /// How many bytes a chunk's size takes, if chunks are filtered.
    pub(super) size_bytes: Option<usize>,
}

impl ChunkElements {
    /// Bytes of an element.
    fn bytes(self, address: usize) -> usize {
        self.size_bytes.map_or(address, |size| address + size + 4)
    }

    /// The kind of array that holds the elements.
    fn client(self) -> u8 {
        u8::from(self.size_bytes.is_some())
    }

    fn check(self, walk: &mut Walk<'_>, fields: &mut Fields<'_>, count: u64) -> CheckResult<()> {
        for _ in 0..count {
            walk.step(fields.at())?;
            place(walk, fields, self.chunk_bytes, self.size_bytes)?;
        }
        Ok(())
    }
}

/// Reads the start of an array's block, including the array's address unless the block is a header.
fn frame(fields: &mut Fields<'_>, signature: &[u8; 4], client: u8, array: Option<u64>) -> CheckResult<()> {
    let at = fields.at();
    fields.signature(signature, "array of chunks")?;
    fields.version(0..=0, "an array of chunks")?;
    let found = fields.u8()?;
    let owner = if array.is_some() { fields.address()? } else { None };
    match found == client && owner == array {
        true => Ok(()),
        false => Err(StructureError::damaged(at, "a part of another array of chunks")),
    }
}

/// Checks an array with as many elements as there can be chunks.
pub(super) fn fixed(
    walk: &mut Walk<'_>,
    address: u64,
    page_bits: u8,
    elements: ChunkElements,
    chunks: u64,
    referrer: u64,
) -> CheckResult<()> {
    walk.claim_once(address, StructureKind::ChunkArray, referrer)?;
    let widths = walk.image.widths;
    let header = walk.image.block(address, (8 + widths.length + widths.address + 4) as u64)?;
    let mut fields = header.summed()?;
    frame(&mut fields, b"FAHD", elements.client(), None)?;
    let (bytes, found_bits, count) = (usize::from(fields.u8()?), fields.u8()?, fields.length()?);
    if bytes != elements.bytes(widths.address)
        || found_bits != page_bits
        || page_bits > MOST_PAGE_BITS
        || count != chunks
    {
        let what = format!("an array of {count} elements of {bytes} bytes, for {chunks} chunks");
        return Err(StructureError::damaged(header.at, what));
    }
    let Some(block) = fields.address()? else { return Ok(()) };
    walk.claim_once(block, StructureKind::ChunkArray, header.at)?;
    let page = 1_u64 << page_bits;
    let prefix = (6 + widths.address) as u64;
    let whole =
        count.checked_mul(bytes as u64).ok_or_else(|| StructureError::damaged(header.at, "an array without end"))?;
    if count <= page {
        let block = walk.image.block(block, whole.saturating_add(prefix + 4))?;
        let mut fields = block.summed()?;
        frame(&mut fields, b"FADB", elements.client(), Some(address))?;
        return elements.check(walk, &mut fields, count);
    }
    let pages = count.div_ceil(page);
    let bitmap = pages.div_ceil(8);
    let head = walk.image.block(block, prefix + bitmap + 4)?;
    let mut fields = head.summed()?;
    frame(&mut fields, b"FADB", elements.client(), Some(address))?;
    let written = fields.rest();
    let first = block + prefix + bitmap + 4;
    walk.image.inside(first, whole.saturating_add(4 * pages), header.at)?;
    for number in 0..pages {
        let count = page.min(count - number * page);
        // The first page is the highest bit.
        let byte = written.get(to_usize(number / 8)).copied().unwrap_or_default();
        if byte >> (7 - number % 8) & 1 == 1 {
            let at = first + number * (page * bytes as u64 + 4);
            let block = walk.image.block(at, count * bytes as u64 + 4)?;
            elements.check(walk, &mut block.summed()?, count)?;
        }
    }
    Ok(())
}

/// The parameters of an array that grows.
#[derive(Clone, Copy, Debug)]
struct ExtensibleArrayParameters {
    elements: ChunkElements,
    array: u64,
    /// Number of elements in the index block itself.
    first: u64,
    /// Number of elements in each of the smallest data blocks.
    smallest: u64,
    /// Number of data blocks in each of the smallest super blocks.
    pointers: u64,
    page: u64,
    /// How many bytes the number of an element takes.
    offset_bytes: usize,
    /// Largest possible number of super blocks.
    supers: u32,
}

/// Checks an array that grows: an index block, blocks of elements, and blocks of the addresses of those.
pub(super) fn extensible(
    walk: &mut Walk<'_>,
    address: u64,
    parameters: [u8; 5],
    elements: ChunkElements,
    referrer: u64,
) -> CheckResult<()> {
    walk.claim_once(address, StructureKind::ChunkArray, referrer)?;
    let widths = walk.image.widths;
    let header = walk.image.block(address, (12 + 6 * widths.length + widths.address + 4) as u64)?;
    let mut fields = header.summed()?;
    frame(&mut fields, b"EAHD", elements.client(), None)?;
    let bytes = usize::from(fields.u8()?);
    let [bits, first, smallest, pointers, page_bits] =
        [fields.u8()?, fields.u8()?, fields.u8()?, fields.u8()?, fields.u8()?];
    // The layout has the two smallest sizes in the opposite order.
    let are_the_same = parameters == [bits, first, pointers, smallest, page_bits];
    let sound = bytes == elements.bytes(widths.address)
        && smallest.is_power_of_two()
        && pointers.is_power_of_two()
        && pointers > 1
        && first != 0
        && (1..=64).contains(&bits)
        && (1..=MOST_PAGE_BITS).contains(&page_bits)
        && smallest.ilog2() + 2 * pointers.ilog2() <= u32::from(bits);
    if !sound || !are_the_same {
        let what =
            format!("an array of elements of {bytes} bytes, {bits} bits, {first}, {smallest}, {pointers}, {page_bits}");
        return Err(StructureError::damaged(header.at, what));
    }
    let supers = 1 + u32::from(bits) - smallest.ilog2();
    // Four numbers for the numbers of blocks, one for the number of set elements, one for the capacity.
    fields.skip(4 * widths.length)?;
    let set = fields.length()?;
    let room = u128::from(first) + u128::from(smallest) * ((1 << supers) - 1);
    if room < u128::from(set) {
        return Err(StructureError::damaged(header.at, format!("{set} elements of an array that has room for {room}")));
    }
    fields.skip(widths.length)?;
    let Some(index) = fields.address()? else { return Ok(()) };
    let growing = ExtensibleArrayParameters {
        elements,
        array: address,
        first: first.into(),
        smallest: smallest.into(),
        pointers: pointers.into(),
        page: 1 << page_bits,
        offset_bytes: usize::from(bits.div_ceil(8)),
        supers,
    };
    growing.index_block(walk, index, header.at)
}

impl ExtensibleArrayParameters {
    /// Number of elements in each data block of a super block.
    fn elements_of(&self, level: u32) -> u64 {
        self.smallest << level.div_ceil(2)
    }

    /// Checks the first elements, and follows the addresses of the first data blocks and of the super blocks.
    fn index_block(&self, walk: &mut Walk<'_>, address: u64, referrer: u64) -> CheckResult<()> {
        walk.claim_once(address, StructureKind::ChunkArray, referrer)?;
        let address_bytes = walk.image.widths.address;
        let inner = 2 * self.pointers.ilog2();
        let addresses = 2 * (self.pointers - 1) + u64::from(self.supers - inner);
        let bytes = self.first * self.elements.bytes(address_bytes) as u64 + addresses * address_bytes as u64;
        let block = walk.image.block(address, (6 + address_bytes + 4) as u64 + bytes)?;
        let mut fields = block.summed()?;
        frame(&mut fields, b"EAIB", self.elements.client(), Some(self.array))?;
        self.elements.check(walk, &mut fields, self.first)?;
        for level in 0..inner {
            for _ in 0..1_u64 << (level / 2) {
                let at = fields.at();
                if let Some(block) = fields.address()? {
                    self.data_block(walk, block, self.elements_of(level), at)?;
                }
            }
        }
        for level in inner..self.supers {
            let at = fields.at();
            if let Some(block) = fields.address()? {
                self.super_block(walk, block, level, at)?;
            }
        }
        Ok(())
    }

    /// Follows the addresses of data blocks, which come after a bit for each page of each block.
    fn super_block(&self, walk: &mut Walk<'_>, address: u64, level: u32, referrer: u64) -> CheckResult<()> {
        walk.claim_once(address, StructureKind::ChunkArray, referrer)?;
        let address_bytes = walk.image.widths.address;
        let (blocks, elements) = (1_u64 << (level / 2), self.elements_of(level));
        let bitmaps = if self.page < elements { blocks.saturating_mul((elements / self.page).div_ceil(8)) } else { 0 };
        let bytes = blocks.saturating_mul(address_bytes as u64).saturating_add(bitmaps);
        let bytes = bytes.saturating_add((6 + address_bytes + self.offset_bytes + 4) as u64);
        let block = walk.image.block(address, bytes)?;
        let mut fields = block.summed()?;
        frame(&mut fields, b"EASB", self.elements.client(), Some(self.array))?;
        fields.skip(self.offset_bytes)?;
        fields.skip(to_usize(bitmaps))?;
        for _ in 0..blocks {
            let at = fields.at();
            if let Some(block) = fields.address()? {
                self.data_block(walk, block, elements, at)?;
            }
        }
        Ok(())
    }

    /// Checks elements. Those in pages are left to libhdf5, which reads pages one by one, each with its checksum.
    fn data_block(&self, walk: &mut Walk<'_>, address: u64, elements: u64, referrer: u64) -> CheckResult<()> {
        walk.claim_once(address, StructureKind::ChunkArray, referrer)?;
        let address_bytes = walk.image.widths.address;
        let prefix = (6 + address_bytes + self.offset_bytes) as u64;
        let whole = elements.saturating_mul(self.elements.bytes(address_bytes) as u64);
        let is_paged = self.page < elements;
        if is_paged {
            let pages = elements / self.page;
            walk.image.inside(address, whole.saturating_add(4 * pages).saturating_add(prefix + 4), referrer)?;
        }
        let block: FileSection =
            walk.image.block(address, if is_paged { prefix + 4 } else { whole.saturating_add(prefix + 4) })?;
        let mut fields = block.summed()?;
        frame(&mut fields, b"EADB", self.elements.client(), Some(self.array))?;
        fields.skip(self.offset_bytes)?;
        if is_paged { Ok(()) } else { self.elements.check(walk, &mut fields, elements) }
    }
}

/// Checks where a chunk is, as the indexes of later versions store it; the rest of its entry is not read.
pub(super) fn place(
    walk: &mut Walk<'_>,
    fields: &mut Fields<'_>,
    chunk_bytes: u64,
    filtered: Option<usize>,
) -> CheckResult<()> {
    let at = fields.at();
    let address = fields.address()?;
    let bytes = match filtered {
        None => chunk_bytes,
        Some(width) => {
            let bytes = fields.number(width)?;
            fields.skip(4)?;
            bytes
        }
    };
    match address {
        None => Ok(()),
        Some(address) => walk.image.inside(address, bytes, at),
    }
}
