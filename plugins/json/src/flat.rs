//! Any object as a point: its values are fields under their names, unless a mapping says that they are tags, the time or the
//! measurement. Nested objects and arrays are taken apart: `{"cpu":{"user":1}}` has the path `cpu.user` and the field `cpu_user`.

use crate::point::{Point, tag_text, time};
use crate::settings::{Mapped, Mapping, Settings};
use kymo_plugin_reading::json::{Cursor, DEPTH_MAX, Fault};
use std::borrow::Cow;

/// Reads the object at the cursor.
pub fn read<'a>(settings: &Settings, mapping: &Mapping, cursor: &mut Cursor<'a>) -> Result<Point<'a>, Fault> {
    let mut walk = Walk {
        settings,
        mapping,
        point: Point::default(),
        path: String::new(),
    };
    walk.object(cursor, 0)?;
    Ok(walk.point)
}

struct Walk<'a, 's> {
    settings: &'s Settings,
    mapping: &'s Mapping,
    point: Point<'a>,
    /// Of the object or array that is being read.
    path: String,
}

impl<'a> Walk<'a, '_> {
    fn object(&mut self, cursor: &mut Cursor<'a>, depth: usize) -> Result<(), Fault> {
        cursor.enter(b'{')?;
        let mut first = true;
        while cursor.more(b'}', &mut first)? {
            let key = cursor.key()?;
            self.member(key, cursor, depth)?;
        }
        Ok(())
    }

    fn array(&mut self, cursor: &mut Cursor<'a>, depth: usize) -> Result<(), Fault> {
        cursor.enter(b'[')?;
        let mut first = true;
        let mut index = 0u32;
        while cursor.more(b']', &mut first)? {
            self.member(index.to_string().into(), cursor, depth)?;
            index += 1;
        }
        Ok(())
    }

    fn member(&mut self, key: Cow<'a, str>, cursor: &mut Cursor<'a>, depth: usize) -> Result<(), Fault> {
        let next = cursor.peek();
        if !matches!(next, Some(b'{' | b'[')) {
            return self.scalar(key, cursor);
        }
        if depth >= DEPTH_MAX {
            let reason = format!("nested too deep (depth_max {DEPTH_MAX})");
            return Err(Fault::new(cursor.at(), reason));
        }
        let outer = self.path.len();
        self.path.push_str(&key);
        self.path.push('.');
        if next == Some(b'{') {
            self.object(cursor, depth + 1)?;
        } else {
            self.array(cursor, depth + 1)?;
        }
        self.path.truncate(outer);
        Ok(())
    }

    fn scalar(&mut self, key: Cow<'a, str>, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        let at = cursor.at();
        let scalar = cursor.scalar()?;
        let is = |path: &str| {
            let tail = path.strip_prefix(self.path.as_str());
            tail.is_some_and(|tail| tail == key)
        };
        let find = |list: &[Mapped]| list.iter().position(|mapped| is(&mapped.path));
        if is(&self.settings.time_key) {
            self.point.time = time(&scalar, self.settings, at)?;
        } else if self.settings.measurement.is_none() && is(&self.settings.measurement_key) {
            self.point.measurement = tag_text(scalar);
        } else if let Some(tag) = find(&self.mapping.tags) {
            let name = self.mapping.tags[tag].name.clone();
            if let Some(text) = tag_text(scalar) {
                self.point.tags.push((name.into(), text));
            }
        } else {
            let name = match &self.mapping.fields {
                Some(fields) => match find(fields) {
                    Some(field) => fields[field].name.clone().into(),
                    // Nobody asked for it.
                    None => return Ok(()),
                },
                None if self.path.is_empty() => key,
                None => (self.path.replace('.', "_") + &key).into(),
            };
            self.point.fields.push((name, scalar));
        }
        Ok(())
    }
}
