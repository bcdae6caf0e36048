//! The threads that carry packets: one for each member's way up, one for each way down.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    fs::File,
    io::{Read, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::access::{Access, Count, Counters, Fate, Lane};

/// Longest packet that a TUN device gives.
const MAX_PACKET: usize = 65_536;
/// Where the packet's destination stands in an IPv4 header.
const DESTINATION: std::ops::Range<usize> = 16..20;
/// The kernel's usual slack of 50 us is a packet's time at 240 Mbit/s.
const TIMER_SLACK_NANOS: u64 = 1_000;

/// A packet that reaches a member's way down at this time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival(Instant, u64, Vec<u8>);

/// What comes to one member.
#[derive(Debug, Default)]
struct Inbox {
    arrivals: Mutex<(BinaryHeap<Reverse<Arrival>>, u64)>,
    changed: Condvar,
    closed: AtomicBool,
}

impl Inbox {
    fn arrivals(&self) -> MutexGuard<'_, (BinaryHeap<Reverse<Arrival>>, u64)> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, at: Instant, packet: Vec<u8>) {
        let mut arrivals = self.arrivals();
        arrivals.1 += 1;
        let number = arrivals.1;
        // who waits for the next arrival need not know of later ones: waking up for each packet costs as much as carrying it
        let is_next = arrivals.0.peek().is_none_or(|Reverse(Arrival(first, ..))| at < *first);
        arrivals.0.push(Reverse(Arrival(at, number, packet)));
        drop(arrivals);
        if is_next {
            self.changed.notify_one();
        }
    }
}

/// One member's line, as seen from outside.
#[derive(Debug)]
pub(crate) struct Carrier {
    inbox: Arc<Inbox>,
    up: Arc<Count>,
    down: Arc<Count>,
}

impl Carrier {
    /// What went up, and what went down.
    pub(crate) fn counters(&self) -> (Counters, Counters) {
        (self.up.read(), self.down.read())
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.inbox.closed.store(true, Ordering::Release);
        self.inbox.changed.notify_all();
    }
}

/// Starts to carry packets between the devices. The threads end when the devices go.
pub(crate) fn start(
    devices: Vec<File>,
    accesses: &[Access],
    seed: u64,
    index_of: fn([u8; 4]) -> Option<usize>,
) -> std::io::Result<Vec<Carrier>> {
    let carrier = |_| Carrier { inbox: Arc::default(), up: Arc::default(), down: Arc::default() };
    let carriers: Vec<Carrier> = (0..devices.len()).map(carrier).collect();
    let inboxes: Arc<Vec<Arc<Inbox>>> =
        Arc::new(carriers.iter().map(|carrier| carrier.inbox.clone()).collect());
    let delays: Arc<Vec<Duration>> = Arc::new(accesses.iter().map(|access| access.delay).collect());
    let now = Instant::now();
    for (member, ((device, access), carrier)) in devices.into_iter().zip(accesses).zip(&carriers).enumerate()
    {
        let seed = seed.wrapping_mul(1 << 20).wrapping_add(member as u64);
        let up = Lane::new(access.up_mbit, access.queue_bytes, access.loss, seed, now);
        let down = Lane::new(access.down_mbit, access.queue_bytes, 0.0, seed, now);
        let (inboxes, delays, count) = (inboxes.clone(), delays.clone(), carrier.up.clone());
        let reading = device.try_clone()?;
        thread::spawn(move || go_up(reading, up, member, &inboxes, &delays, index_of, &count));
        let (inbox, count) = (carrier.inbox.clone(), carrier.down.clone());
        thread::spawn(move || go_down(device, down, &inbox, &count));
    }
    Ok(carriers)
}

/// Reads what a member sends, and hands over what its line lets through.
fn go_up(
    mut device: File,
    mut lane: Lane,
    member: usize,
    inboxes: &[Arc<Inbox>],
    delays: &[Duration],
    index_of: fn([u8; 4]) -> Option<usize>,
    count: &Count,
) {
    let mut packet = vec![0; MAX_PACKET];
    // the device is gone when reading fails
    while let Ok(length) = device.read(&mut packet) {
        let to =
            packet[..length].get(DESTINATION).and_then(|to| <[u8; 4]>::try_from(to).ok()).and_then(index_of);
        // what the kernel says to everybody by itself, in IPv6 and to groups, goes nowhere
        let Some(to) = to.filter(|to| packet[0] >> 4 == 4 && *to < inboxes.len()) else { continue };
        if let Fate::Leaves(at) = lane.admit(Instant::now(), length, count) {
            inboxes[to].put(at + delays[member] + delays[to], packet[..length].to_vec());
        }
    }
}

/// Takes what arrives through a member's way down, and writes it when it is through.
fn go_down(mut device: File, mut lane: Lane, inbox: &Inbox, count: &Count) {
    // without it lines above some 200 Mbit/s are uneven, and nothing worse
    let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NANOS);
    let mut leaving: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    while !inbox.closed.load(Ordering::Acquire) {
        let now = Instant::now();
        let mut arrivals = inbox.arrivals();
        while arrivals.0.peek().is_some_and(|Reverse(Arrival(at, ..))| *at <= now) {
            if let Some(Reverse(Arrival(at, _, packet))) = arrivals.0.pop()
                && let Fate::Leaves(due) = lane.admit(at, packet.len(), count)
            {
                leaving.push_back((due, packet));
            }
        }
        let next = arrivals.0.peek().map(|Reverse(Arrival(at, ..))| *at);
        let due = leaving.front().map(|(due, _)| *due);
        let wake = match (next, due) {
            (Some(next), Some(due)) => next.min(due),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => {
                drop(inbox.changed.wait(arrivals).unwrap_or_else(PoisonError::into_inner));
                continue;
            }
        };
        if let Some(wait) = wake.checked_duration_since(now).filter(|wait| !wait.is_zero()) {
            // an earlier arrival wakes us up
            drop(inbox.changed.wait_timeout(arrivals, wait).unwrap_or_else(PoisonError::into_inner));
        } else {
            drop(arrivals);
        }
        while leaving.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            if let Some((_, packet)) = leaving.pop_front() {
                // a member that is not ready loses the packet, as it would elsewhere
                let _ = device.write(&packet);
            }
        }
    }
}
