//! The coordinator's clock: the system's at the start, and from then on one that only goes forward at its own pace.
//!
//! Deadlines hang on it. Whoever sets the system's clock while a round is open, or brings the coordinator back on a machine
//! whose clock is behind, neither ends rounds early nor holds them up: time goes on from the last entry of the log.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// When this process first asked, and what the system said then.
static START: OnceLock<(Instant, u64)> = OnceLock::new();
/// How far we are ahead of that.
static AHEAD_MS: AtomicU64 = AtomicU64::new(0);

fn since_start_ms() -> u64 {
    let (start, system_ms) = START.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    });
    system_ms.saturating_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    since_start_ms().saturating_add(AHEAD_MS.load(Ordering::Relaxed))
}

/// Puts the clock forward to `time_ms` if it is behind: that time has been.
pub(crate) fn not_before(time_ms: u64) {
    let behind = time_ms.saturating_sub(now_ms());
    if behind > 0 {
        tracing::warn!(
            seconds = behind / 1_000,
            "this machine's clock is behind the ledger; time goes on from the last entry"
        );
        AHEAD_MS.fetch_add(behind, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_what_has_been() {
        let now = now_ms();
        assert!(now > 1_700_000_000_000, "milliseconds since 1970");
        not_before(now - 1_000);
        assert!(now_ms() - now < 60_000, "a time that is past changes nothing");
        not_before(now + 3_600_000);
        let later = now_ms();
        assert!((3_600_000..3_660_000).contains(&(later - now)));
        assert!(now_ms() >= later);
    }
}
