//! docs/formats says enough to read what is stored: a reader in another language, written from it alone, reads a golden file
//! and knows every row of it.

use crate::support;
use std::path::Path;
use std::process::Command;

#[test]
fn a_reader_written_from_the_documents_reads_a_pack() {
    let Some(python) = support::python(&["xxhash", "zstandard"]) else {
        return;
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for file in ["pack_v1.bin", "pack_v1_ids.bin"] {
        let mut command = Command::new(&python);
        command.arg(golden.join("read_pack.py")).arg(golden.join(file));
        let said = support::run(&mut command);
        assert!(said.contains("symbols near"), "{file}: {said}");
    }
}
