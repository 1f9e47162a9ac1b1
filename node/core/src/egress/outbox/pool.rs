//! The blocks that the queues of a shard are made of.

/// A table with so many entries or more grows by an eighth and not to the double: memory that it has beyond its need
/// is used by nobody, and counts.
pub(super) const GROWS_SLOWLY: usize = 8_192;
/// No place: the head of an empty queue.
pub(super) const NIL: u32 = u32::MAX;
/// Blocks kept after a burst; more are given back when the pool is empty. 256 KiB.
pub(super) const KEPT_BLOCKS: usize = 8_192;
/// Places of a block: seven for references, the last for the first place of the next block.
pub(super) const PLACES: u32 = 8;
pub(super) const LAST: u32 = PLACES - 1;

/// Places for references, and for the first place of the next block.
pub(super) type Block = [u32; PLACES as usize];

/// All blocks. A place has one number: that of its block, times [`PLACES`], plus its position in the block.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) blocks: Vec<Block>,
    /// First places of free blocks, the last freed last.
    pub(super) free: Vec<u32>,
}

impl Pool {
    #[inline]
    pub(super) fn take(&mut self) -> u32 {
        if let Some(at) = self.free.pop() {
            return at;
        }
        self.grow()
    }

    /// Adds a block beyond all earlier ones. It is out of line, so that the code that runs for each receiver of a
    /// broadcast stays small enough to be inlined.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        let at = u32::try_from(self.blocks.len() * PLACES as usize).expect("fewer than 2^32 references");
        let capacity = self.blocks.capacity();
        if self.blocks.len() == capacity && capacity >= GROWS_SLOWLY {
            self.blocks.reserve_exact(capacity / 8);
        }
        self.blocks.push([NIL; PLACES as usize]);
        at
    }

    /// Blocks that queues use.
    pub(super) const fn used(&self) -> usize {
        self.blocks.len() - self.free.len()
    }

    /// Memory in bytes.
    pub(super) const fn held_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.free.capacity() * size_of::<u32>()
    }

    #[inline]
    pub(super) fn give_back(&mut self, place: u32) {
        self.free.push(place & !LAST);
    }

    #[inline]
    pub(super) fn get(&self, place: u32) -> u32 {
        self.blocks.as_flattened()[place as usize]
    }

    #[inline]
    pub(super) fn set(&mut self, place: u32, value: u32) {
        self.blocks.as_flattened_mut()[place as usize] = value;
    }

    /// The place after one that is not the last of its queue.
    #[inline]
    pub(super) fn after(&self, place: u32) -> u32 {
        let next = place + 1;
        if next % PLACES == LAST { self.get(next) } else { next }
    }
}
