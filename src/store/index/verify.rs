//! Reads everything that the index has, once, and compares its parts with each other. Changes nothing.

use super::generation::Generation;
use super::page::{Page, page_of, slot_of};
use super::part::Part;
use super::walk::{BlockTerms, Stream, merge};
use super::{Gathered, SeriesIndex, Stored};
use crate::model::MeasurementId;
use crate::store::StoreError;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Tells of what does not fit: where, and why.
pub type Tell<'a> = &'a mut dyn FnMut(String, String);

/// Checks all generations: the number of series in them. Values that cannot be read are told by their own place.
pub fn verify(index: &SeriesIndex, tell: Tell<'_>) -> u64 {
    let mut series = 0;
    let mut seen: BTreeMap<MeasurementId, RoaringBitmap> = BTreeMap::new();
    for generation in index.set().generations() {
        for entry in generation
            .header
            .measurements
            .iter()
            .filter(|entry| entry.series > 0)
        {
            series += entry.series;
            let measurement = entry.measurement;
            let place = format!(
                "the series of measurement {measurement} in index pack {}",
                generation.pack
            );
            match of_measurement(generation, measurement, &place, tell) {
                Ok(ids) => {
                    let seen = seen.entry(measurement).or_default();
                    if ids.len() != entry.series || ids.max().is_some_and(|id| id >= entry.end) {
                        tell(
                            place.clone(),
                            "they are not those that the header tells of".into(),
                        );
                    }
                    if !seen.is_disjoint(&ids) {
                        tell(place, "another pack has some of them, too".into());
                    }
                    *seen |= ids;
                }
                Err(StoreError::Damaged { place, reason }) => tell(place, reason),
                Err(error) => tell(place, error.to_string()),
            }
        }
    }
    series
}

fn of_measurement(
    generation: &Arc<Generation>,
    measurement: MeasurementId,
    place: &str,
    tell: Tell<'_>,
) -> Result<RoaringBitmap, StoreError> {
    let part = generation.part(measurement)?;
    let ids = part.ids();
    if let Some(stored) = Stored::new(generation, measurement, &part) {
        // One bad value must not hide the others.
        for checked in [pages(&stored), table(&stored), terms(&stored)] {
            match checked {
                Ok(None) => {}
                Ok(Some(flaw)) => tell(place.to_string(), flaw.to_string()),
                Err(StoreError::Damaged { place, reason }) => tell(place, reason),
                Err(error) => tell(place.to_string(), error.to_string()),
            }
        }
    } else if let Part::Small(small) = &*part
        && small.pages.iter().any(|page| page.present().is_empty())
    {
        tell(place.to_string(), "a page of them is empty".into());
    }
    Ok(ids)
}

fn pages(stored: &Stored) -> Result<Option<&'static str>, StoreError> {
    let large = stored.large();
    let mut having: BTreeMap<Arc<str>, u64> = BTreeMap::new();
    for number in large.pages() {
        let page = stored.page_once(number)?;
        let on_page = super::Slots::of_ids(&large.ids, number);
        if *page.present() != on_page {
            return Ok(Some("a page has other series than the directory"));
        }
        for (key, column) in page.columns() {
            *having.entry(key.clone()).or_default() += column.present().len() as u64;
        }
    }
    let told = large.tags.iter().map(|tag| {
        let count = tag.having.as_ref().unwrap_or(&large.ids).len();
        (tag.key.clone(), count)
    });
    Ok((having != told.collect()).then_some("the pages have other tags than the directory"))
}

fn table(stored: &Stored) -> Result<Option<&'static str>, StoreError> {
    let large = stored.large();
    let mut ids = RoaringBitmap::new();
    let mut page: Option<Arc<Page>> = None;
    for number in 0..1u32 << large.page_bits {
        for (at, (hash, id)) in stored.table_page(number)?.into_iter().enumerate() {
            if !ids.insert(id) || !large.ids.contains(id) {
                return Ok(Some("the key table has other series than the directory"));
            }
            // All would take as long as reading a page for each.
            if at == 0 {
                let known = page.take().filter(|page| page.number() == page_of(id));
                let read = match known {
                    Some(page) => page,
                    None => stored.page_once(page_of(id))?,
                };
                if super::table::hash_of(read.key_hash(stored.key_seed(), slot_of(id))) != hash {
                    return Ok(Some("the key table has another hash than a page"));
                }
                page = Some(read);
            }
        }
    }
    Ok((ids != large.ids).then_some("the key table lacks series"))
}

fn terms(stored: &Stored) -> Result<Option<&'static str>, StoreError> {
    let large = stored.large();
    for tag in &large.tags {
        let mut streams = [Stream::Blocks(BlockTerms::new(stored, &tag.key, "", false)?)];
        let (mut distinct, mut having) = (0, RoaringBitmap::new());
        let mut last: Option<String> = None;
        let mut sound = true;
        merge(&mut streams, true, &mut |value, series: &mut Gathered| {
            distinct += 1;
            sound &= last.as_ref().is_none_or(|last| &**last < value) && !series.is_empty();
            having |= series.take();
            last = Some(value.to_string());
            Ok(ControlFlow::Continue(()))
        })?;
        if !sound || distinct != tag.distinct || having != *tag.having.as_ref().unwrap_or(&large.ids) {
            return Ok(Some(
                "the terms of a tag have other values or series than the directory",
            ));
        }
    }
    Ok(None)
}
