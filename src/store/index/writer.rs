//! Writes what a generation has of one measurement, out of pages in memory and parts of older generations. A seal and a merge
//! are the same thing: a seal's pages have just been made.
//!
//! Everything is streamed: in memory are the sources' pages (a seal's), never those of what is merged.

use super::generation::{Generation, Stored, VERSION};
use super::header::Entry;
use super::page::{PAGE_SERIES, Page, PageBuilder};
use super::page_codec;
use super::part::{Large, Part, SMALL_SERIES, Small, Tag, pages_of};
use super::place::{Kind, Place};
use super::slots::{IdSet, Slots, id_of};
use super::table::{self, hash_of, page_bits};
use super::terms::TermsBuilder;
use super::walk::{BlockTerms, PageTerms, Stream, merge};
use crate::model::{MeasurementId, SeriesId};
use crate::store::engine::PackSink;
use crate::store::{StoreError, frame};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is written, without what is gone.
#[derive(Default)]
pub struct Sources {
    /// Pages in memory, by number, with the series of each that are meant.
    pages: BTreeMap<u32, Vec<(Arc<Page>, Slots)>>,
    /// Parts of older generations.
    stored: Vec<Stored>,
    /// The seed of hashes of keys.
    key_seed: u64,
    /// Series that are left out.
    gone: RoaringBitmap,
    removed: u64,
    end: SeriesId,
}

impl Sources {
    /// Nothing yet; of what will be added these series are left out.
    pub fn without(gone: RoaringBitmap, key_seed: u64) -> Self {
        Self {
            key_seed,
            gone,
            ..Self::default()
        }
    }

    /// Adds series of pages in memory.
    pub fn add_pages<'a>(
        &mut self,
        pages: impl Iterator<Item = &'a Arc<Page>>,
        wanted: Option<&RoaringBitmap>,
    ) {
        for page in pages {
            let mut slots = page.present().clone();
            if let Some(wanted) = wanted {
                slots.keep(&Slots::of_ids(wanted, page.number()));
            }
            let before = slots.len();
            if let Some(last) = slots.iter().last() {
                self.end = self.end.max(id_of(page.number(), last).saturating_add(1));
            }
            slots.subtract(&Slots::of_ids(&self.gone, page.number()));
            self.removed += (before - slots.len()) as u64;
            if !slots.is_empty() {
                self.pages
                    .entry(page.number())
                    .or_default()
                    .push((page.clone(), slots));
            }
        }
    }

    /// Adds what a generation has.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn add_generation(
        &mut self,
        generation: &Arc<Generation>,
        measurement: MeasurementId,
    ) -> Result<(), StoreError> {
        let Some(entry) = generation.header.entry(measurement) else {
            return Ok(());
        };
        self.removed += entry.removed;
        self.end = self.end.max(entry.end);
        if entry.series == 0 {
            return Ok(());
        }
        let part = generation.part(measurement)?;
        match (Stored::new(generation, measurement, &part), &*part) {
            (Some(stored), _) => {
                let gone = stored.large().ids.intersection_len(&self.gone);
                self.removed += gone;
                if gone < stored.large().ids.len() {
                    self.stored.push(stored);
                }
            }
            (None, Part::Small(small)) => self.add_pages(small.pages.iter(), None),
            (None, Part::Large(_)) => {}
        }
        Ok(())
    }

    /// The ids of all that is written.
    fn ids(&self) -> RoaringBitmap {
        let mut ids = IdSet::default();
        for (number, pages) in &self.pages {
            pages.iter().for_each(|(_, slots)| ids.push(*number, slots));
        }
        let mut ids = ids.finish();
        self.stored.iter().for_each(|stored| ids |= &stored.large().ids);
        ids - &self.gone
    }

    /// What there is of a page, stored pages included.
    fn of_page(&self, number: u32) -> Result<Vec<(Arc<Page>, Slots)>, StoreError> {
        let mut found = self.pages.get(&number).cloned().unwrap_or_default();
        for stored in self
            .stored
            .iter()
            .filter(|stored| stored.large().has_page(number))
        {
            let page = stored.page_once(number)?;
            let mut slots = page.present().clone();
            slots.subtract(&Slots::of_ids(&self.gone, number));
            found.push((page, slots));
        }
        Ok(found)
    }

    /// The only stored part that has anything of a page, if it has all of it and nothing of it is gone.
    fn untouched(&self, number: u32) -> Option<&Stored> {
        let mut having = self
            .stored
            .iter()
            .filter(|stored| stored.large().has_page(number));
        let (only, more) = (having.next()?, having.next());
        let first = number * PAGE_SERIES;
        let gone = self.gone.range_cardinality(first..=first + (PAGE_SERIES - 1)) > 0;
        (more.is_none() && !gone && !self.pages.contains_key(&number)).then_some(only)
    }

    /// Which of these ids have a tag.
    fn having(&self, key: &str) -> RoaringBitmap {
        let mut ids = IdSet::default();
        for (number, pages) in &self.pages {
            for (page, slots) in pages {
                if let Some(column) = page.column(key) {
                    let mut having = column.present();
                    having.keep(slots);
                    ids.push(*number, &having);
                }
            }
        }
        let mut ids = ids.finish();
        self.stored
            .iter()
            .for_each(|stored| ids |= stored.large().having(key));
        ids - &self.gone
    }

    fn keys(&self) -> BTreeSet<Arc<str>> {
        let mut keys: BTreeSet<Arc<str>> = BTreeSet::new();
        for (page, _) in self.pages.values().flatten() {
            for (key, _) in page.columns() {
                if !keys.contains(key) {
                    keys.insert(key.clone());
                }
            }
        }
        for stored in &self.stored {
            keys.extend(stored.large().tags.iter().map(|tag| tag.key.clone()));
        }
        keys
    }

    /// Writes it all; what the header says of it.
    ///
    /// # Errors
    /// Damage of what is merged, input/output.
    pub fn write(
        &self,
        sink: &mut PackSink<'_>,
        pack: u64,
        measurement: MeasurementId,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Entry, StoreError> {
        let ids = self.ids();
        let mut out = Out {
            sink,
            pack,
            measurement,
        };
        if ids.len() > SMALL_SERIES {
            self.write_large(&ids, &mut out, go_on)?;
        } else if !ids.is_empty() {
            let pages = pages_of(&ids)
                .into_iter()
                .map(|number| Ok(joined(&self.of_page(number)?, number)));
            let pages = pages.collect::<Result<Vec<_>, StoreError>>()?;
            out.put(Kind::Directory, 0, 0, |bytes| Small::encode(&pages, bytes))?;
        }
        Ok(Entry {
            measurement,
            series: ids.len(),
            removed: self.removed,
            end: self.end,
        })
    }

    fn write_large(
        &self,
        ids: &RoaringBitmap,
        out: &mut Out<'_, '_>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let mut large = Large {
            ids: ids.clone(),
            page_bits: page_bits(ids.len()),
            tags: Vec::new(),
        };
        for number in large.pages() {
            check(go_on)?;
            if let Some(stored) = self.untouched(number) {
                let payload = stored.page_bytes(number)?;
                out.put(Kind::Page, number, 0, |bytes| bytes.extend_from_slice(&payload))?;
                continue;
            }
            let found = self.of_page(number)?;
            match &found[..] {
                [(page, slots)] => out.put(Kind::Page, number, 0, |bytes| {
                    page_codec::encode(page, slots, bytes)
                })?,
                several => {
                    let page = joined(several, number);
                    out.put(Kind::Page, number, 0, |bytes| {
                        page_codec::encode(&page, page.present(), bytes)
                    })?;
                }
            }
        }
        self.write_table(large.page_bits, out, go_on)?;
        let mut block = 0;
        for key in self.keys() {
            let having = self.having(&key);
            if having.is_empty() {
                continue;
            }
            let having = (having != *ids).then_some(having);
            let mut tag = Tag::new(key, having, block);
            self.write_terms(&mut tag, out, go_on)?;
            block += tag.blocks();
            large.tags.push(tag);
        }
        out.put(Kind::Directory, 0, 0, |bytes| large.encode(bytes))
    }

    fn write_table(
        &self,
        bits: u32,
        out: &mut Out<'_, '_>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let mut here: Vec<(u32, SeriesId)> = Vec::new();
        for (page, slots) in self.pages.values().flatten() {
            for slot in slots.iter() {
                here.push((
                    hash_of(page.key_hash(self.key_seed, slot)),
                    id_of(page.number(), slot),
                ));
            }
        }
        here.sort_unstable();
        let mut here = here.into_iter().peekable();
        let mut stored: Vec<TableWalk<'_>> = self.stored.iter().map(TableWalk::new).collect();
        let mut entries = Vec::new();
        for number in 0..1u32 << bits {
            check(go_on)?;
            let inside = |hash: u32| table::page_of_hash(hash, bits) == number;
            entries.clear();
            while let Some(entry) = here.next_if(|(hash, _)| inside(*hash)) {
                entries.push(entry);
            }
            for walk in &mut stored {
                while let Some((hash, id)) = walk.peek()? {
                    if !inside(hash) {
                        break;
                    }
                    if !self.gone.contains(id) {
                        entries.push((hash, id));
                    }
                    walk.at += 1;
                }
            }
            entries.sort_unstable();
            let (mut prints, mut ids) = (Vec::new(), Vec::new());
            table::encode(&entries, bits, &mut prints, &mut ids);
            out.put(Kind::Table, number, 0, |bytes| bytes.append(&mut prints))?;
            out.put(Kind::Table, number, 1, |bytes| bytes.append(&mut ids))?;
        }
        Ok(())
    }

    fn write_terms(
        &self,
        tag: &mut Tag,
        out: &mut Out<'_, '_>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        let mut streams = Vec::new();
        let pages = self.pages.values().flatten().map(|(page, slots)| (page, slots));
        streams.push(Stream::Pages(PageTerms::new(&tag.key, pages)));
        for stored in &self.stored {
            streams.push(Stream::Blocks(BlockTerms::new(stored, &tag.key, "", false)?));
        }
        let mut builder = TermsBuilder::default();
        // Sets that are stored by themselves come behind their block.
        let mut apart: Vec<(u16, Vec<u8>)> = Vec::new();
        merge(&mut streams, true, &mut |value, series| {
            series.remove(&self.gone);
            if series.is_empty() {
                return Ok(ControlFlow::Continue(()));
            }
            match series.only() {
                Some(id) => builder.push_one(value, id),
                None => {
                    let term = builder.count() as u16;
                    if let Some(set) = builder.push(value, &series.take()) {
                        apart.push((term, set));
                    }
                }
            }
            tag.distinct += 1;
            if builder.is_full() {
                check(go_on)?;
                end_block(tag, &mut builder, &mut apart, out)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if builder.count() > 0 {
            end_block(tag, &mut builder, &mut apart, out)?;
        }
        Ok(())
    }
}

fn check(go_on: &dyn Fn() -> bool) -> Result<(), StoreError> {
    if go_on() { Ok(()) } else { Err(StoreError::Stopped) }
}

fn end_block(
    tag: &mut Tag,
    builder: &mut TermsBuilder,
    apart: &mut Vec<(u16, Vec<u8>)>,
    out: &mut Out<'_, '_>,
) -> Result<(), StoreError> {
    let number = tag.block + tag.blocks();
    tag.push_block(builder.first());
    out.put(Kind::Terms, number, 0, |bytes| builder.finish(bytes))?;
    for (term, mut set) in apart.drain(..) {
        out.put(Kind::Terms, number, term + 1, |bytes| bytes.append(&mut set))?;
    }
    Ok(())
}

/// One page out of several with the same number, whose series are different ones.
pub(super) fn joined(several: &[(Arc<Page>, Slots)], number: u32) -> Arc<Page> {
    if let [(page, slots)] = several
        && page.present() == slots
    {
        return page.clone();
    }
    let mut builder = PageBuilder::new(number);
    for (page, slots) in several {
        for slot in slots.iter() {
            let tags: Vec<(&str, &str)> = page.tags(slot).collect();
            builder
                .insert(slot, &tags)
                .expect("the text of a page was in a page, or several, before");
        }
    }
    builder.page().clone()
}

/// Goes through the key table of a stored part, in order of hashes.
struct TableWalk<'a> {
    stored: &'a Stored,
    next: u32,
    page: Vec<(u32, SeriesId)>,
    at: usize,
}

impl<'a> TableWalk<'a> {
    fn new(stored: &'a Stored) -> Self {
        Self {
            stored,
            next: 0,
            page: Vec::new(),
            at: 0,
        }
    }

    fn peek(&mut self) -> Result<Option<(u32, SeriesId)>, StoreError> {
        while self.at == self.page.len() {
            if u64::from(self.next) == 1u64 << self.stored.large().page_bits {
                return Ok(None);
            }
            self.page = self.stored.table_page(self.next)?;
            self.next += 1;
            self.at = 0;
        }
        Ok(Some(self.page[self.at]))
    }
}

/// Where the values of a measurement go.
struct Out<'a, 's> {
    sink: &'a mut PackSink<'s>,
    pack: u64,
    measurement: MeasurementId,
}

impl Out<'_, '_> {
    fn put(
        &mut self,
        kind: Kind,
        number: u32,
        part: u16,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), StoreError> {
        let place = Place {
            pack: self.pack,
            measurement: self.measurement,
            kind,
            number,
            part,
        };
        let key = place.key();
        let mut value = frame::begin(VERSION);
        fill(&mut value);
        self.sink.write(&key, frame::finish(&key, value))
    }
}
