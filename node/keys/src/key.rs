//! A key that is a number: its name, unit, range and default.

/// The range of a number, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    /// The least.
    pub least: T,
    /// The most.
    pub most: T,
}

/// A key of the node's file whose value is a number. `D` is `()` where the key has no default.
#[derive(Debug, Clone, Copy)]
pub struct Key<T, D = T> {
    /// Its place in the file.
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// What the node takes.
    pub node: Range<T>,
    /// The range in a manifest, which is the same unless said otherwise.
    pub manifest: Range<T>,
    /// The value when the file has none.
    pub usual: D,
}

impl<T: Copy> Key<T, ()> {
    /// A key without a default.
    #[must_use]
    pub const fn new(name: &'static str, unit: &'static str, least: T, most: T) -> Self {
        let node = Range { least, most };
        Self { name, unit, node, manifest: node, usual: () }
    }

    /// The same with a default.
    #[must_use]
    pub const fn usually(self, usual: T) -> Key<T, T> {
        let Self { name, unit, node, manifest, .. } = self;
        Key { name, unit, node, manifest, usual }
    }
}

impl<T: Copy, D: Copy> Key<T, D> {
    /// The same with less freedom in a manifest.
    #[must_use]
    pub const fn in_manifest(self, least: T, most: T) -> Self {
        Self { manifest: Range { least, most }, ..self }
    }
}

/// A key with all its numbers as 64 bits, for code that looks at all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// See [`Key::name`].
    pub name: &'static str,
    /// See [`Key::node`].
    pub node: Range<u64>,
    /// See [`Key::manifest`].
    pub manifest: Range<u64>,
    /// See [`Key::usual`].
    pub usual: Option<u64>,
}

/// A default as a number, where there is one.
pub trait Usual {
    /// The number.
    fn number(self) -> Option<u64>;
}

impl Usual for () {
    fn number(self) -> Option<u64> {
        None
    }
}

impl Usual for u8 {
    fn number(self) -> Option<u64> {
        Some(self.into())
    }
}

impl Usual for u16 {
    fn number(self) -> Option<u64> {
        Some(self.into())
    }
}

impl Usual for u32 {
    fn number(self) -> Option<u64> {
        Some(self.into())
    }
}

impl Usual for u64 {
    fn number(self) -> Option<u64> {
        Some(self)
    }
}

impl<T: Copy + Into<u64>, D: Copy + Usual> Key<T, D> {
    /// The key among all others.
    #[must_use]
    pub fn row(&self) -> Row {
        let wide = |range: Range<T>| Range { least: range.least.into(), most: range.most.into() };
        let Self { name, node, manifest, usual, .. } = *self;
        Row { name, node: wide(node), manifest: wide(manifest), usual: usual.number() }
    }
}
