//! A donor's limit in bits a second, kept by pacing: nobody sends or reads more than a few milliseconds' worth at a time.
//!
//! The more urgent goes first; who is as urgent goes in the order in which they came.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::urgency::Urgency;

/// What a byte of a stream takes on the line, with the headers of QUIC, UDP and IP: 1,480 for 1,413 in a full packet.
const WIRE: f64 = 1.048;
/// What may be caught up on after a late wake-up.
const SLACK: Duration = Duration::from_millis(20);
/// A part's length in time: short enough to be even, long enough not to wake up for each packet.
const PART: Duration = Duration::from_millis(5);
/// Bounds of a part in bytes.
const PART_BYTES: (usize, usize) = (4 << 10, 64 << 10);

/// A line of a certain rate, as far as it has been used.
#[derive(Debug)]
struct Bucket {
    bytes_per_sec: f64,
    /// When what was handed out is through.
    free_at: Option<Instant>,
}

impl Bucket {
    /// Lets bytes of a stream through, or says when to come again.
    fn take(&mut self, bytes: usize, now: Instant) -> Result<(), Instant> {
        let from = self.free_at.map_or(now, |at| at.max(now.checked_sub(SLACK).unwrap_or(now)));
        if from > now {
            return Err(from);
        }
        self.free_at = Some(from + Duration::from_secs_f64(bytes as f64 * WIRE / self.bytes_per_sec));
        Ok(())
    }
}

/// Hands out the right to move bytes.
#[derive(Debug)]
pub(super) struct Rate {
    /// Bytes a second on the line; none is no limit.
    bytes_per_sec: Option<f64>,
    bucket: Mutex<Bucket>,
    /// One turn for each urgency; who holds it is the next one of that urgency.
    turns: [tokio::sync::Mutex<()>; 3],
    waiting: [AtomicUsize; 3],
    gone: Notify,
}

/// Somebody of this urgency waits.
struct Waiting<'a>(&'a Rate, Urgency);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting[self.1.index()].fetch_sub(1, Ordering::AcqRel);
        self.0.gone.notify_waiters();
    }
}

impl Rate {
    /// A limit in bits a second, or none.
    pub(super) fn new(bits_per_sec: Option<u64>) -> Self {
        let bytes_per_sec = bits_per_sec.map(|bits| (bits.max(8_000) as f64) / 8.0);
        let bucket = Bucket { bytes_per_sec: bytes_per_sec.unwrap_or(f64::INFINITY), free_at: None };
        Self {
            bytes_per_sec,
            bucket: Mutex::new(bucket),
            turns: Default::default(),
            waiting: Default::default(),
            gone: Notify::new(),
        }
    }

    /// How many bytes to move at a time.
    pub(super) fn part_bytes(&self) -> usize {
        let (least, most) = PART_BYTES;
        self.bytes_per_sec.map_or(most, |rate| ((rate * PART.as_secs_f64()) as usize).clamp(least, most))
    }

    /// When everything that was let through so far is through; none before the first byte, or without a limit.
    #[cfg(test)]
    pub(super) fn free_at(&self) -> Option<Instant> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).free_at
    }

    /// Bytes that the line carries in `time`; none without a limit.
    pub(super) fn bytes_in(&self, time: Duration) -> Option<u64> {
        self.bytes_per_sec.map(|rate| (rate * time.as_secs_f64()) as u64)
    }

    /// Waits until so many bytes of a stream may move. Cancel-safe: who goes away while waiting has taken nothing.
    pub(super) async fn take(&self, bytes: usize, urgency: Urgency) {
        if self.bytes_per_sec.is_none() {
            return;
        }
        self.waiting[urgency.index()].fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(self, urgency);
        let _turn = self.turns[urgency.index()].lock().await;
        loop {
            let gone = self.gone.notified();
            if self.waiting[urgency.index() + 1..].iter().any(|count| count.load(Ordering::Acquire) > 0) {
                // a wake-up that is missed costs a moment
                let _ = timeout(SLACK, gone).await;
                continue;
            }
            let taken =
                self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, Instant::now());
            match taken {
                Ok(()) => return,
                Err(until) => sleep_until(until).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Takes parts for so long, waking up late by up to `late`; the moments at which they were let through.
    fn run(bits_per_sec: u64, seconds: f64, late: Duration) -> (usize, Vec<Duration>) {
        let rate = Rate::new(Some(bits_per_sec));
        let (part, mut bucket) = (rate.part_bytes(), rate.bucket.lock().unwrap());
        let begin = Instant::now();
        let (mut now, mut moments) = (begin, Vec::new());
        while now < begin + Duration::from_secs_f64(seconds) {
            match bucket.take(part, now) {
                Ok(()) => moments.push(now - begin),
                Err(until) => now = until + late.mul_f64((moments.len() % 3) as f64 / 2.0),
            }
        }
        (part, moments)
    }

    #[test]
    fn a_limit_holds_to_a_hundredth_even_when_wake_ups_are_late() {
        for bits in [1_000_000, 20_000_000, 900_000_000] {
            for late_ms in [0, 2, 15] {
                let (part, moments) = run(bits, 3.0, Duration::from_millis(late_ms));
                let sent = (part * moments.len()) as f64 * 8.0 * WIRE / 3.0;
                let off = sent / bits as f64 - 1.0;
                assert!(off.abs() < 0.02, "{bits} bits a second, {late_ms} ms late: {off} off");
            }
        }
    }

    #[test]
    fn parts_are_even() {
        let (part, moments) = run(8_000_000, 3.0, Duration::ZERO);
        for (number, moment) in moments.iter().enumerate() {
            let due = (number * part) as f64 * WIRE / 1e6;
            let ahead = due - moment.as_secs_f64();
            assert!(ahead < 0.005, "part {number} came {ahead} s too early");
        }
    }

    #[test]
    fn a_long_rest_is_not_made_up_for() {
        let mut bucket = Bucket { bytes_per_sec: 1e6, free_at: None };
        let now = Instant::now();
        bucket.take(1000, now).unwrap();
        let later = now + Duration::from_secs(60);
        let mut sent = 0;
        while bucket.take(1000, later).is_ok() {
            sent += 1000;
        }
        assert!(sent < 25_000, "{sent} bytes at once after a minute's rest");
    }

    #[tokio::test]
    async fn the_more_urgent_goes_first_and_nobody_is_forgotten() {
        let rate = Arc::new(Rate::new(Some(8_000_000)));
        let order = Arc::new(Mutex::new(Vec::new()));
        // all of them come while the line is busy
        rate.take(300_000, Urgency::Soon).await;
        let tasks = [Urgency::Later, Urgency::Later, Urgency::Soon, Urgency::Now].map(|urgency| {
            let (rate, order) = (rate.clone(), order.clone());
            tokio::spawn(async move {
                rate.take(10_000, urgency).await;
                order.lock().unwrap().push(urgency);
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [Urgency::Now, Urgency::Soon, Urgency::Later, Urgency::Later]);
    }

    #[tokio::test]
    async fn who_gives_up_takes_nothing() {
        let rate = Rate::new(Some(8_000_000));
        rate.take(300_000, Urgency::Now).await;
        let _ = timeout(Duration::from_millis(10), rate.take(1 << 40, Urgency::Now)).await;
        // a terabyte would take days
        rate.take(1, Urgency::Later).await;
    }

    #[tokio::test]
    async fn no_limit_is_no_wait() {
        let rate = Rate::new(None);
        for _ in 0..1000 {
            rate.take(usize::MAX, Urgency::Later).await;
        }
        assert_eq!(rate.part_bytes(), PART_BYTES.1);
    }
}
