//! Tag sets, interned: a sample carries four bytes instead of a map of strings.
//!
//! A [`TagSet`] is sorted, immutable and stored once; equal sets have equal ids, so a time
//! series is a pair of integers. The [`TagTable`] is shared and locked; each worker puts a
//! [`TagCache`] before it, so that the tags of a request that looks like an earlier one
//! cost one hash over their bytes and no lock.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, PoisonError, RwLock},
};

use rustc_hash::{FxHashMap, FxHasher};

/// A tag set of one [`TagTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagSetId(u32);

impl TagSetId {
    /// The set without tags, in every table.
    pub const EMPTY: TagSetId = TagSetId(0);

    /// Position in the table: dense, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn raw(self) -> u32 {
        self.0
    }
}

/// Pairs of strings in two allocations: all text, and where each key and each value ends.
/// A request has about ten tags, and a run may have a hundred thousand sets.
#[derive(PartialEq, Eq, Hash, Default)]
struct Pairs {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl Pairs {
    fn new<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        let mut ends = Vec::new();
        for (key, value) in pairs {
            for part in [key, value] {
                text.push_str(part);
                ends.push(u32::try_from(text.len()).expect("a tag set below 4 GB"));
            }
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }

    fn part(&self, index: usize) -> &str {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.text[start..self.ends[index] as usize]
    }

    fn len(&self) -> usize {
        self.ends.len() / 2
    }

    fn pair(&self, index: usize) -> (&str, &str) {
        (self.part(2 * index), self.part(2 * index + 1))
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.len()).map(|index| self.pair(index))
    }
}

/// Tags of a time series, sorted by key; each key once.
#[derive(PartialEq, Eq, Hash, Default)]
pub struct TagSet {
    pairs: Pairs,
}

impl TagSet {
    /// Sorts the pairs; of equal keys the last one stays.
    fn from_pairs(mut pairs: Vec<(&str, &str)>) -> Self {
        // A stable sort keeps equal keys in the order given, so the last of a run is the latest.
        pairs.sort_by_key(|&(key, _)| key);
        let last_of_key = |index: &usize| {
            pairs
                .get(index + 1)
                .is_none_or(|next| next.0 != pairs[*index].0)
        };
        let kept = (0..pairs.len())
            .filter(last_of_key)
            .map(|index| pairs[index]);
        Self {
            pairs: Pairs::new(kept),
        }
    }

    /// The tags, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter()
    }

    /// The value of a tag.
    pub fn get(&self, key: &str) -> Option<&str> {
        // A handful of tags: a scan is as quick as a search, and needs no order.
        self.iter()
            .find(|&(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// How many tags it holds.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether it holds no tag.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Every tag set of a run. Sets are never removed: ids stay valid.
#[derive(Debug)]
pub struct TagTable {
    inner: RwLock<Inner>,
}

#[derive(Debug)]
struct Inner {
    sets: Vec<Arc<TagSet>>,
    ids: FxHashMap<Arc<TagSet>, TagSetId>,
}

impl Default for TagTable {
    fn default() -> Self {
        Self::new()
    }
}

impl TagTable {
    /// A table that holds the empty set.
    pub fn new() -> Self {
        let empty = Arc::new(TagSet::default());
        let ids = FxHashMap::from_iter([(empty.clone(), TagSetId::EMPTY)]);
        Self {
            inner: RwLock::new(Inner {
                sets: vec![empty],
                ids,
            }),
        }
    }

    /// The id of the set of these tags; of equal keys the last one counts.
    pub fn intern(&self, pairs: &[(&str, &str)]) -> TagSetId {
        self.intern_set(TagSet::from_pairs(pairs.to_vec()))
    }

    /// The tags of an id.
    ///
    /// # Panics
    /// If the id is from another table and out of range here.
    pub fn get(&self, id: TagSetId) -> Arc<TagSet> {
        self.inner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .sets[id.index()]
        .clone()
    }

    /// `base` with `extra` on top: an extra tag replaces the base's tag of the same key.
    pub fn overlay(&self, base: TagSetId, extra: &[(&str, &str)]) -> TagSetId {
        if extra.is_empty() {
            return base;
        }
        let base = self.get(base);
        self.intern_set(TagSet::from_pairs(
            base.iter().chain(extra.iter().copied()).collect(),
        ))
    }

    /// `base` without the tag of that key.
    pub fn without(&self, base: TagSetId, key: &str) -> TagSetId {
        let set = self.get(base);
        if set.get(key).is_none() {
            return base;
        }
        self.intern_set(TagSet::from_pairs(
            set.iter().filter(|&(name, _)| name != key).collect(),
        ))
    }

    fn intern_set(&self, set: TagSet) -> TagSetId {
        // Most sets exist already: look before taking the lock that stops the readers.
        let found = self
            .inner
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .ids
            .get(&set)
            .copied();
        if let Some(id) = found {
            return id;
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = inner.ids.get(&set) {
            return id;
        }
        let id = TagSetId(u32::try_from(inner.sets.len()).expect("fewer than 2^32 tag sets"));
        let set = Arc::new(set);
        inner.sets.push(set.clone());
        inner.ids.insert(set, id);
        id
    }
}

/// How many overlays a cache holds before it starts afresh: about 4 MB of request tags.
const CACHE_BOUND: usize = 16 * 1024;

/// A worker's memory of overlays: a hit takes no lock and allocates nothing.
#[derive(Debug)]
pub struct TagCache {
    table: Arc<TagTable>,
    overlays: FxHashMap<u64, Overlay>,
}

struct Overlay {
    base: TagSetId,
    extra: Pairs,
    id: TagSetId,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} + {} tags = {:?}",
            self.base,
            self.extra.len(),
            self.id
        )
    }
}

impl TagCache {
    /// An empty cache before that table.
    pub fn new(table: Arc<TagTable>) -> Self {
        Self {
            table,
            overlays: FxHashMap::default(),
        }
    }

    /// The table behind the cache.
    pub fn table(&self) -> &Arc<TagTable> {
        &self.table
    }

    /// As [`TagTable::overlay`], from memory where the same was asked before.
    pub fn overlay(&mut self, base: TagSetId, extra: &[(&str, &str)]) -> TagSetId {
        if extra.is_empty() {
            return base;
        }
        let mut hasher = FxHasher::default();
        base.hash(&mut hasher);
        for part in extra {
            part.hash(&mut hasher);
        }
        let hash = hasher.finish();
        if let Some(known) = self.overlays.get(&hash)
            && known.base == base
            && known.extra.len() == extra.len()
            && known.extra.iter().eq(extra.iter().copied())
        {
            return known.id;
        }
        let id = self.table.overlay(base, extra);
        // Unbounded tag values (a URL with an id) must not grow this without end.
        if self.overlays.len() >= CACHE_BOUND {
            self.overlays.clear();
        }
        let extra = Pairs::new(extra.iter().copied());
        self.overlays.insert(hash, Overlay { base, extra, id });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(table: &TagTable, id: TagSetId) -> Vec<(String, String)> {
        table
            .get(id)
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn equal_sets_have_equal_ids_whatever_their_order() {
        let table = TagTable::new();
        let one = table.intern(&[("b", "2"), ("a", "1")]);
        assert_eq!(one, table.intern(&[("a", "1"), ("b", "2")]));
        assert_ne!(one, table.intern(&[("a", "1"), ("b", "")]));
        assert_eq!(table.intern(&[]), TagSetId::EMPTY);
        assert_eq!(
            pairs(&table, one),
            [("a".into(), "1".into()), ("b".into(), "2".into())]
        );
        assert_eq!(table.get(one).get("b"), Some("2"));
        assert_eq!(table.get(one).get("c"), None);
        assert_eq!(
            (table.get(one).len(), table.get(TagSetId::EMPTY).is_empty()),
            (2, true)
        );
    }

    #[test]
    fn text_boundaries_are_part_of_the_identity() {
        let table = TagTable::new();
        assert_ne!(table.intern(&[("ab", "c")]), table.intern(&[("a", "bc")]));
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let table = TagTable::new();
        let id = table.intern(&[("a", "1"), ("b", "x"), ("a", "2"), ("a", "3")]);
        assert_eq!(
            pairs(&table, id),
            [("a".into(), "3".into()), ("b".into(), "x".into())]
        );
        let over = table.overlay(id, &[("b", "y"), ("c", "z")]);
        assert_eq!(over, table.intern(&[("a", "3"), ("b", "y"), ("c", "z")]));
        assert_eq!(table.overlay(id, &[]), id);
        assert_eq!(
            table.without(over, "c"),
            table.intern(&[("a", "3"), ("b", "y")])
        );
        assert_eq!(table.without(over, "nope"), over);
    }

    #[test]
    fn the_cache_answers_as_the_table() {
        let table = Arc::new(TagTable::new());
        let mut cache = TagCache::new(table.clone());
        let base = table.intern(&[("group", "")]);
        for _ in 0..2 {
            let id = cache.overlay(base, &[("url", "/a"), ("status", "200")]);
            assert_eq!(
                id,
                table.intern(&[("group", ""), ("status", "200"), ("url", "/a")])
            );
            assert_eq!(
                cache.overlay(TagSetId::EMPTY, &[("url", "/a")]),
                table.intern(&[("url", "/a")])
            );
            assert_eq!(cache.overlay(base, &[]), base);
        }
    }

    #[test]
    fn the_cache_stays_bounded() {
        let table = Arc::new(TagTable::new());
        let mut cache = TagCache::new(table.clone());
        for number in 0..3 * CACHE_BOUND {
            let id = cache.overlay(TagSetId::EMPTY, &[("id", &number.to_string())]);
            assert_eq!(table.get(id).get("id"), Some(number.to_string().as_str()));
            assert!(cache.overlays.len() <= CACHE_BOUND);
        }
    }
}
