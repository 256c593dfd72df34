//! Fractal heaps, for links and attributes that are too many for an object header (specification, III.G).

use std::collections::HashMap;

use super::{
    btree2,
    bytes::{CheckResult, Fields, FileSection, StructureError},
    walk::{StructureKind, Walk},
};

/// The first bits of an id, which give its object's storage.
const MANAGED: u8 = 0;
const LARGE: u8 = 1;
const TINY: u8 = 2;
/// A flag of a heap: its direct blocks have checksums.
const HAS_CHECKSUMS: u8 = 2;

/// A heap whose blocks have been checked.
#[derive(Debug)]
pub(super) struct FractalHeap {
    pub(super) id_bytes: usize,
    offset_bytes: usize,
    length_bytes: usize,
    most_managed: u64,
    blocks: Vec<DirectBlock>,
    /// Address and length of each large object, by number.
    large: HashMap<u64, (u64, u64)>,
}

/// A block with objects.
#[derive(Clone, Copy, Debug)]
struct DirectBlock {
    /// Its offset in the heap's address space.
    offset: u64,
    address: u64,
    size: u64,
    /// Bytes before the first object.
    prefix: u64,
}

/// The sizes of a heap's blocks, which double row by row.
#[derive(Clone, Copy, Debug)]
struct DoublingTable {
    width: u64,
    start: u64,
    most_direct: u64,
    /// The heap's address space is 2 to this power bytes.
    bits: u32,
    offset_bytes: usize,
    has_checksums: bool,
    /// The address of the heap, which its blocks repeat.
    heap: u64,
}

impl FractalHeap {
    pub(super) fn read(walk: &mut Walk<'_>, address: u64, referrer: u64) -> CheckResult<Self> {
        walk.claim_once(address, StructureKind::FractalHeap, referrer)?;
        let widths = walk.image.widths;
        let size = 26 + 12 * widths.length + 3 * widths.address;
        let prefix = walk.image.block(address, size as u64)?;
        let mut fields = prefix.fields();
        fields.signature(b"FRHP", "fractal heap")?;
        fields.version(0..=0, "a fractal heap")?;
        let id_bytes = usize::from(fields.u16()?);
        if fields.u16()? != 0 {
            return Err(StructureError::unread(prefix.at, "links or attributes that are filtered"));
        }
        let mut fields = prefix.summed()?;
        fields.skip(9)?;
        let has_checksums = fields.u8()? & HAS_CHECKSUMS != 0;
        let most_managed = u64::from(fields.u32()?);
        let _next_large = fields.length()?;
        let large = fields.address()?;
        let _free = fields.length()?;
        if let Some(free) = fields.address()? {
            walk.image.inside(free, 1, prefix.at)?;
        }
        fields.skip(8 * widths.length)?;
        let width = u64::from(fields.u16()?);
        let (start, most_direct, bits) = (fields.length()?, fields.length()?, u32::from(fields.u16()?));
        let _first_rows = fields.u16()?;
        let (root, rows) = (fields.address()?, u64::from(fields.u16()?));
        let offset_bytes = bits.div_ceil(8) as usize;
        let table = DoublingTable { width, start, most_direct, bits, offset_bytes, has_checksums, heap: address };
        table.check(most_managed, rows, prefix.at)?;
        let length_bytes = bytes_below(most_direct).min(bytes_of(most_managed));
        if id_bytes < 1 + offset_bytes + length_bytes || id_bytes > 64 {
            return Err(StructureError::damaged(prefix.at, format!("a fractal heap whose ids have {id_bytes} bytes")));
        }
        let mut blocks = Vec::new();
        match root {
            None => {}
            Some(root) if rows == 0 => {
                blocks.push(table.direct(walk, root, 0, start, prefix.at)?);
            }
            Some(root) => table.indirect(walk, root, rows, prefix.at, &mut blocks)?,
        }
        blocks.sort_unstable_by_key(|block| block.offset);
        let mut heap = Self { id_bytes, offset_bytes, length_bytes, most_managed, blocks, large: HashMap::new() };
        if let Some(tree) = large {
            heap.read_large(walk, tree, prefix.at)?;
        }
        Ok(heap)
    }

    /// Reads the objects stored outside of blocks, which a B-tree finds by number.
    fn read_large(&mut self, walk: &mut Walk<'_>, tree: u64, referrer: u64) -> CheckResult<()> {
        let widths = walk.image.widths;
        if widths.address + widths.length < self.id_bytes {
            return Err(StructureError::unread(referrer, "a heap whose ids are addresses"));
        }
        let record_bytes = widths.address + 2 * widths.length;
        let large = &mut self.large;
        btree2::records(walk, tree, btree2::LARGE_OBJECTS, record_bytes, referrer, &mut |walk, record| {
            let at = record.at();
            let (address, length, id) = (record.some_address()?, record.length()?, record.length()?);
            walk.image.inside(address, length, at)?;
            large.insert(id, (address, length));
            Ok(())
        })
    }

    /// The object whose id is in the next bytes.
    pub(super) fn object(&self, walk: &Walk<'_>, fields: &mut Fields<'_>) -> CheckResult<FileSection> {
        let mut id = fields.within(self.id_bytes)?;
        let at = id.at();
        let kind = id.u8()?;
        if kind >> 6 != 0 {
            return Err(StructureError::damaged(at, format!("version {} of an id is not known", kind >> 6)));
        }
        match kind >> 4 & 3 {
            MANAGED => {
                let (offset, length) = (id.number(self.offset_bytes)?, id.number(self.length_bytes)?);
                let after = self.blocks.partition_point(|block| block.offset <= offset);
                let block = after.checked_sub(1).and_then(|before| self.blocks.get(before));
                let place = block.and_then(|block| {
                    let within = offset - block.offset;
                    let fits = block.prefix <= within && within.checked_add(length)? <= block.size;
                    (fits && 0 < length && length <= self.most_managed).then_some(block.address + within)
                });
                match place {
                    Some(place) => walk.image.block(place, length),
                    None => {
                        Err(StructureError::damaged(at, format!("{length} bytes at {offset} of a heap do not exist")))
                    }
                }
            }
            LARGE => {
                let number = id.number((self.id_bytes - 1).min(8))?;
                match self.large.get(&number) {
                    Some((address, length)) => walk.image.block(*address, *length),
                    None => Err(StructureError::damaged(at, format!("object {number} of a heap does not exist"))),
                }
            }
            TINY if self.id_bytes <= 17 => {
                let (at, length) = (id.at(), usize::from(kind & 15) + 1);
                Ok(FileSection { bytes: id.take(length)?.to_vec(), at, widths: walk.image.widths })
            }
            kind => Err(StructureError::damaged(at, format!("an id of kind {kind}"))),
        }
    }
}

impl DoublingTable {
    fn check(&self, most_managed: u64, rows: u64, at: u64) -> CheckResult<()> {
        let Self { width, start, most_direct, bits, .. } = *self;
        let are_powers = [width, start, most_direct].into_iter().all(u64::is_power_of_two);
        let row = start.checked_mul(width).filter(|row| are_powers && *row < 1 << 48);
        let row_bits = row.map_or(u32::MAX, u64::ilog2);
        let sound = start <= most_direct
            && most_direct <= 1 << 31
            && most_managed <= most_direct
            && most_managed > 0
            && row_bits <= bits
            && bits <= 64
            && rows <= u64::from(bits - row_bits + 1);
        match sound {
            true => Ok(()),
            false => {
                let what = format!(
                    "a fractal heap of 2^{bits} bytes, {rows} rows of {width} blocks, from {start} to {most_direct} bytes"
                );
                Err(StructureError::damaged(at, what))
            }
        }
    }

    /// The size of the blocks of a row; the first two rows have the same.
    fn block_size(&self, row: u64) -> u64 {
        self.start << row.saturating_sub(1)
    }

    fn direct(
        &self,
        walk: &mut Walk<'_>,
        address: u64,
        offset: u64,
        size: u64,
        referrer: u64,
    ) -> CheckResult<DirectBlock> {
        walk.claim_once(address, StructureKind::FractalBlock, referrer)?;
        walk.image.inside(address, size, referrer)?;
        let prefix = 5 + walk.image.widths.address + self.offset_bytes + if self.has_checksums { 4 } else { 0 };
        if size < prefix as u64 {
            return Err(StructureError::damaged(referrer, format!("a block of a heap of {size} bytes")));
        }
        let mut block = walk.image.block(address, if self.has_checksums { size } else { prefix as u64 })?;
        self.frame(&mut block.fields(), b"FHDB", offset)?;
        if self.has_checksums {
            // The checksum covers the whole block, with zeros in its own place.
            let sum: Vec<u8> = block.bytes.splice(prefix - 4..prefix, [0; 4]).collect();
            if super::checksum::lookup3(&block.bytes).to_le_bytes() != *sum {
                return Err(StructureError::damaged(block.at, "its checksum does not match"));
            }
        }
        Ok(DirectBlock { offset, address, size, prefix: prefix as u64 })
    }

    /// Checks the start of a block: the heap's address, and the block's offset in it.
    fn frame(&self, fields: &mut Fields<'_>, signature: &[u8; 4], offset: u64) -> CheckResult<()> {
        let at = fields.at();
        fields.signature(signature, "block of a fractal heap")?;
        fields.version(0..=0, "a block of a heap")?;
        let (heap, found) = (fields.some_address()?, fields.number(self.offset_bytes)?);
        match heap == self.heap && found == offset {
            true => Ok(()),
            false => Err(StructureError::damaged(at, "a block of another heap, or from elsewhere in this one")),
        }
    }

    /// Follows a block that holds only addresses, down to the blocks that hold objects.
    fn indirect(
        &self,
        walk: &mut Walk<'_>,
        root: u64,
        rows: u64,
        referrer: u64,
        blocks: &mut Vec<DirectBlock>,
    ) -> CheckResult<()> {
        let address_bytes = walk.image.widths.address;
        let mut open = vec![(root, rows, 0_u64, referrer)];
        while let Some((address, rows, start, referrer)) = open.pop() {
            walk.claim_once(address, StructureKind::FractalBlock, referrer)?;
            let entries = rows * self.width * address_bytes as u64;
            let block = walk.image.block(address, (5 + address_bytes + self.offset_bytes + 4) as u64 + entries)?;
            let mut fields = block.summed()?;
            self.frame(&mut fields, b"FHIB", start)?;
            let mut offset = start;
            for row in 0..rows {
                let size = self.block_size(row);
                for _ in 0..self.width {
                    let at = fields.at();
                    if let Some(child) = fields.address()? {
                        match size <= self.most_direct {
                            true => blocks.push(self.direct(walk, child, offset, size, at)?),
                            false => {
                                let row_bytes = self.start * self.width;
                                let fits = size.checked_div(row_bytes).filter(|rows| *rows > 0);
                                let rows =
                                    fits.ok_or_else(|| StructureError::damaged(at, "a block of a heap without rows"))?;
                                open.push((child, u64::from(rows.ilog2()) + 1, offset, at));
                            }
                        }
                    }
                    let next = offset.checked_add(size);
                    offset = next.ok_or_else(|| StructureError::damaged(at, "a heap larger than any disk"))?;
                }
            }
        }
        Ok(())
    }
}

/// How many bytes it takes to write a number.
fn bytes_of(number: u64) -> usize {
    (number.max(1).ilog2() / 8 + 1) as usize
}

/// How many bytes it takes to write any offset below this size, a power of two.
fn bytes_below(size: u64) -> usize {
    size.max(2).ilog2().div_ceil(8) as usize
}
