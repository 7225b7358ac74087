//! The numbers of what was dropped: databases, policies, measurements. A request that is on its way while what it names is dropped is committed after that, and defines it
//! once more, as far as it knows. **Invariant:** what is in here is never defined again, so such a request means as much as if it had come before the drop, now, sealed, and
//! after each start. Pure; docs/formats/keys.md draws its value.

use crate::block::bytes::{Input, put_bytes};
use crate::model::{DatabaseId, MeasurementId, PolicyId};
use roaring::RoaringBitmap;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gone {
    /// Dropped databases.
    pub databases: RoaringBitmap,
    /// Dropped policies, those of dropped databases among them.
    pub policies: RoaringBitmap,
    /// Dropped measurements, likewise.
    pub measurements: RoaringBitmap,
}

impl Gone {
    /// Is it never to be defined again?
    pub fn has_database(&self, id: DatabaseId) -> bool {
        self.databases.contains(id)
    }

    /// Likewise; of which database it is matters, too.
    pub fn has_policy(&self, id: PolicyId, database: DatabaseId) -> bool {
        self.policies.contains(id) || self.has_database(database)
    }

    /// Likewise.
    pub fn has_measurement(&self, id: MeasurementId, policy: PolicyId) -> bool {
        self.measurements.contains(id) || self.policies.contains(policy)
    }

    /// What both have.
    pub fn add(&mut self, other: &Self) {
        self.databases |= &other.databases;
        self.policies |= &other.policies;
        self.measurements |= &other.measurements;
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        for set in [&self.databases, &self.policies, &self.measurements] {
            let mut bytes = Vec::new();
            set.serialize_into(&mut bytes)
                .expect("writing into memory cannot fail");
            put_bytes(out, &bytes);
        }
    }

    pub(super) fn get(input: &mut Input<'_>) -> Option<Self> {
        let mut set = || RoaringBitmap::deserialize_from(input.get_bytes()?).ok();
        Some(Self {
            databases: set()?,
            policies: set()?,
            measurements: set()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_what_is_cut_off_does_not() {
        let gone = Gone {
            databases: [3].into(),
            policies: [0, 70_000].into(),
            measurements: (0..5000).collect(),
        };
        let mut bytes = Vec::new();
        gone.put(&mut bytes);
        assert_eq!(Gone::get(&mut Input(&bytes)), Some(gone.clone()));
        for len in 0..bytes.len() {
            assert_eq!(Gone::get(&mut Input(&bytes[..len])), None);
        }
        assert!(gone.has_policy(9, 3) && gone.has_measurement(9000, 0) && !gone.has_measurement(9000, 1));
    }
}
