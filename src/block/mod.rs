//! The columnar format: how one column of a block becomes bytes and back. Pure: no I/O, no clock, no threads.
