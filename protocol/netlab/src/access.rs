//! One direction of one access line: who waits, who is dropped, who is lost. Knows time only as it is told.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How a member is connected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Access {
    /// Mbit/s from the member to the core.
    pub up_mbit: f64,
    /// Mbit/s from the core to the member.
    pub down_mbit: f64,
    /// From the member to the core, and as long back.
    pub delay: Duration,
    /// Share of packets lost by chance on their way up, 0 to 1.
    pub loss: f64,
    /// Bytes that wait before either bottleneck.
    pub queue_bytes: u64,
}

/// What has become of packets in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came to the line.
    pub packets: u64,
    /// Packets that found the queue full.
    pub dropped: u64,
    /// Packets that chance took.
    pub lost: u64,
    /// Bytes carried.
    pub bytes: u64,
}

/// Counters that several threads see.
#[derive(Debug, Default)]
pub(crate) struct Count {
    packets: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            packets: self.packets.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            lost: self.lost.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The queue is full.
    Dropped,
    /// Chance takes it.
    Lost,
    /// It leaves the bottleneck then.
    Leaves(Instant),
}

/// A bottleneck with a queue before it and chance behind it.
#[derive(Debug)]
pub(crate) struct Lane {
    bytes_per_sec: f64,
    queue_bytes: f64,
    loss: f64,
    dice: u64,
    free_at: Instant,
}

impl Lane {
    pub(crate) fn new(mbit: f64, queue_bytes: u64, loss: f64, seed: u64, now: Instant) -> Self {
        let dice = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { bytes_per_sec: mbit * 1e6 / 8.0, queue_bytes: queue_bytes as f64, loss, dice, free_at: now }
    }

    /// A uniform number in [0, 1).
    fn roll(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Takes a packet that arrives now.
    pub(crate) fn admit(&mut self, now: Instant, bytes: usize, count: &Count) -> Fate {
        count.packets.fetch_add(1, Relaxed);
        self.free_at = self.free_at.max(now);
        let waiting = (self.free_at - now).as_secs_f64() * self.bytes_per_sec;
        if waiting + bytes as f64 > self.queue_bytes {
            count.dropped.fetch_add(1, Relaxed);
            return Fate::Dropped;
        }
        self.free_at += Duration::from_secs_f64(bytes as f64 / self.bytes_per_sec);
        if self.roll() < self.loss {
            count.lost.fetch_add(1, Relaxed);
            return Fate::Lost;
        }
        count.bytes.fetch_add(bytes as u64, Relaxed);
        Fate::Leaves(self.free_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_lane_keeps_its_rate_and_its_queue(mbit in 1.0_f64..1000.0, queue in 3000_u64..1_000_000, gaps in prop::collection::vec((0_u64..20_000, 40_usize..1500), 1..300)) {
            let start = Instant::now();
            let (mut lane, count) = (Lane::new(mbit, queue, 0.0, 1, start), Count::default());
            let (mut now, mut last) = (start, start);
            let wait = Duration::from_secs_f64(queue as f64 * 8.0 / mbit / 1e6 + 1e-6);
            for (gap, bytes) in gaps {
                now += Duration::from_micros(gap);
                if let Fate::Leaves(at) = lane.admit(now, bytes, &count) {
                    let own = Duration::from_secs_f64(bytes as f64 * 8.0 / mbit / 1e6);
                    prop_assert!(at >= last && at + Duration::from_nanos(10) >= now + own && at <= now + wait);
                    last = at;
                }
            }
            let counters = count.read();
            let line = (last - start).as_secs_f64() * mbit * 1e6 / 8.0;
            prop_assert!(counters.bytes as f64 <= line + 1.0, "{} bytes in the time of {}", counters.bytes, line);
        }
    }

    #[test]
    fn loss_is_the_share_that_was_asked_for_and_follows_the_seed() {
        let now = Instant::now();
        let fates = |seed| {
            let (mut lane, count) = (Lane::new(1e6, u64::MAX, 0.01, seed, now), Count::default());
            let fates: Vec<_> = (0..100_000).map(|_| lane.admit(now, 1000, &count) == Fate::Lost).collect();
            (fates, count.read())
        };
        let (one, counters) = fates(1);
        assert!((900..1100).contains(&counters.lost), "{counters:?}");
        assert_eq!(one, fates(1).0);
        assert_ne!(one, fates(2).0);
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let now = Instant::now();
        let (mut lane, count) = (Lane::new(8.0, 3000, 0.0, 1, now), Count::default());
        let fates: Vec<_> = (0..3).map(|_| lane.admit(now, 1500, &count)).collect();
        let ms = |ms| Fate::Leaves(now + Duration::from_micros(ms));
        assert_eq!(fates, [ms(1500), ms(3000), Fate::Dropped]);
        assert_eq!(count.read(), Counters { packets: 3, dropped: 1, lost: 0, bytes: 3000 });
    }
}
