//! What this thread has had of the processor. The time on the wall would count what others did meanwhile: on a busy machine clients
//! would be told less often than their updates cost.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Since the thread began.
pub fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
