//! What bytes from outside must keep beside being a well-formed archive: equal lengths, order, ids, shards.

use super::super::directory::Directory;
use super::super::packed::{TABLE_ROWS_MAX, series_starts};
use super::wire::ArchivedWireBatch;
use super::{BATCH_ROWS_MAX, BatchError};
use crate::block::{decode_row_keys, decode_series_column};
use crate::model::FieldType;

pub(super) fn check(
    wire: &ArchivedWireBatch,
    directory: &[u8],
    data: &[u8],
) -> Result<Directory, BatchError> {
    let ensure = |holds: bool, what| {
        if holds {
            Ok(())
        } else {
            Err(BatchError::Inconsistent(what))
        }
    };
    let directory = Directory::decode(directory, data.len())
        .ok_or(BatchError::Inconsistent("its directory is malformed"))?;
    let (mut keys, mut starts) = ((Vec::new(), Vec::new()), Vec::new());
    let mut keys_of = usize::MAX;
    for table in &directory.tables {
        ensure(
            table.shard < wire.shards.to_native(),
            "a table's shard is out of range",
        )?;
        ensure(
            (1..=TABLE_ROWS_MAX).contains(&table.rows),
            "a table has no rows or too many",
        )?;
        if table.keys_of != keys_of {
            keys = decode_row_keys(&data[table.keys.clone()])
                .ok_or(BatchError::Inconsistent("a table's keys are malformed"))?;
            series_starts(&keys.0, &mut starts);
            keys_of = table.keys_of;
        }
        let (series, times) = &keys;
        ensure(
            times.len() == table.rows,
            "a table has more or fewer keys than rows",
        )?;
        let ascends = |row: usize| (series[row - 1], times[row - 1]) < (series[row], times[row]);
        ensure(
            (1..times.len()).all(ascends),
            "a table's series and times do not ascend",
        )?;
        ensure(
            times.iter().min() == Some(&table.time.min) && times.iter().max() == Some(&table.time.max),
            "a table has a wrong time range",
        )?;
        let own = &directory.columns[table.columns.clone()];
        ensure(
            own.windows(2).all(|pair| pair[0].field < pair[1].field),
            "a table's fields do not ascend",
        )?;
        for column in own {
            let unpacked = decode_series_column(&data[column.chunk.clone()], column.field_type, &starts);
            ensure(
                unpacked.is_some_and(|c| c.len() == table.rows),
                "a column is malformed or has another length than its table",
            )?;
        }
    }
    ensure(
        wire.definitions
            .fields
            .iter()
            .all(|f| FieldType::from_code(f.3).is_some()),
        "a field's type is unknown",
    )?;
    let total = directory.rows();
    ensure(
        total <= BATCH_ROWS_MAX as u64,
        "it has more rows than BATCH_ROWS_MAX",
    )?;
    ensure(wire.rows.to_native() == total, "its row count is wrong")?;
    Ok(directory)
}
