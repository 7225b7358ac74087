//! Checks every format must pass. (Being written.)
