//! The law on simulated lines: what it keeps of them, and what it does not spill.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    UNACKNOWLEDGED,
    cubic::{BETA, Cubic},
    law::{INITIAL_WINDOW, Law},
};

const MTU: u64 = 1452;

/// A line with one bottleneck.
#[derive(Clone, Copy)]
struct Line {
    mbit: f64,
    trip: Duration,
    queue: u64,
    loss: f64,
    /// The receiver's machine does nothing in the first so long of every 60 ms.
    stall: Duration,
}

/// The line that the figures are for: 100 Mbit/s, 50 ms, one bandwidth-delay product of queue.
const FAR: Line =
    Line { mbit: 100.0, trip: Duration::from_millis(50), queue: 625_000, loss: 0.0, stall: Duration::ZERO };

/// Who moves the window.
enum Who {
    Ours(Box<Law>),
    /// CUBIC that takes every loss for a full queue.
    Plain {
        window: u64,
        cubic: Option<Cubic>,
        answered: Option<Instant>,
    },
}

impl Who {
    fn ours(now: Instant) -> Self {
        Self::Ours(Box::new(Law::new(now, MTU)))
    }

    fn plain() -> Self {
        Self::Plain { window: INITIAL_WINDOW, cubic: None, answered: None }
    }

    fn window(&self) -> u64 {
        match self {
            Self::Ours(law) => law.window(),
            Self::Plain { window, .. } => *window,
        }
    }

    fn acknowledged(&mut self, now: Instant, sent: Instant) {
        match self {
            Self::Ours(law) => law.acknowledged(now, sent, MTU, false),
            Self::Plain { window, cubic: None, .. } => *window += MTU,
            Self::Plain { window, cubic: Some(cubic), .. } => {
                let wanted = cubic.window(now, now - sent, MTU);
                *window += wanted.saturating_sub(*window).min(MTU / 2);
            }
        }
    }

    fn lost(&mut self, now: Instant, sent: Instant) {
        match self {
            Self::Ours(law) => law.lost(now, sent, MTU, false),
            Self::Plain { answered: Some(moment), .. } if sent <= *moment => {}
            Self::Plain { window, cubic, answered } => {
                *answered = Some(now);
                *cubic = Some(Cubic::after(now, *window, cubic.as_ref(), MTU));
                *window = ((*window as f64 * BETA) as u64).max(2 * MTU);
            }
        }
    }
}

/// A packet under way: sent when, acknowledged when, if at all.
struct Packet {
    sent: Instant,
    back: Option<Instant>,
}

struct Flow {
    who: Who,
    under_way: VecDeque<Packet>,
    /// Packets that the receiver acknowledges together: when the first one came, and how many there are.
    bunch: Option<(Instant, u32)>,
    next_send: Instant,
    smooth: Duration,
    delivered: u64,
    sent: u64,
    spilt: u64,
}

impl Flow {
    fn new(who: Who, now: Instant) -> Self {
        let smooth = Duration::from_millis(50);
        let (under_way, bunch) = (VecDeque::new(), None);
        Self { who, under_way, bunch, next_send: now, smooth, delivered: 0, sent: 0, spilt: 0 }
    }

    /// When a packet is acknowledged that comes in at `at`: with those that come after it, as they are asked for.
    fn acknowledged_at(&mut self, at: Instant) -> Instant {
        let (packets, delay) = UNACKNOWLEDGED;
        let (first, count) = match self.bunch {
            Some((first, count)) if at <= first + delay => (first, count + 1),
            _ => (at, 1),
        };
        if count <= packets {
            self.bunch = Some((first, count));
            return first + delay;
        }
        self.bunch = None;
        let earlier = self.under_way.iter_mut().rev().filter_map(|packet| packet.back.as_mut());
        earlier.take(packets as usize).for_each(|back| *back = at.min(*back));
        at
    }

    fn bytes_under_way(&self) -> u64 {
        self.under_way.len() as u64 * MTU
    }

    /// When something happens here next: an acknowledgement, or a packet that may leave.
    fn next(&self) -> Instant {
        let back = self.under_way.iter().find_map(|packet| packet.back);
        let may_send = self.bytes_under_way() + MTU <= self.who.window();
        match (back, may_send) {
            (Some(back), true) => back.min(self.next_send),
            (Some(back), false) => back,
            // everything was lost: a time-out sends again
            (None, false) => self.under_way.front().map_or(self.next_send, |p| p.sent + 2 * self.smooth),
            (None, true) => self.next_send,
        }
    }
}

/// Uniform numbers in [0, 1).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What came of a flow: its share of the line in the measured time, and of its packets those that its own queue dropped.
#[derive(Debug, Clone, Copy)]
struct Got {
    share: f64,
    spilt: f64,
}

/// Runs flows over a line for some seconds; what the first `warm` ones bring is not counted.
fn run(line: impl Fn(f64) -> Line, who: Vec<Who>, start: Instant, seconds: f64, warm: f64) -> Vec<Got> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut flows: Vec<Flow> = who.into_iter().map(|who| Flow::new(who, start)).collect();
    let mut free_at = start;
    let mut counted = false;
    let mut clock = start;
    loop {
        let index = (0..flows.len()).min_by_key(|index| flows[*index].next()).unwrap();
        // who was blocked may have been due for long
        let now = flows[index].next().max(clock);
        clock = now;
        let time = (now - start).as_secs_f64();
        if time >= seconds {
            break;
        }
        if time >= warm && !counted {
            counted = true;
            for flow in &mut flows {
                (flow.delivered, flow.sent, flow.spilt) = (0, 0, 0);
            }
        }
        let line = line(time);
        let per_byte = Duration::from_secs_f64(8.0 / line.mbit / 1e6);
        let flow = &mut flows[index];
        let due = flow.under_way.iter().position(|packet| packet.back.is_some_and(|back| back <= now));
        if let Some(at) = due {
            // packets come back in order: what is in front of it was lost, known once three later ones are back
            let packet = flow.under_way.remove(at).unwrap();
            let trip = now - packet.sent;
            flow.smooth = (flow.smooth * 7 + trip) / 8;
            flow.delivered += MTU;
            flow.who.acknowledged(now, packet.sent);
            let lost: Vec<Packet> = flow.under_way.drain(..at.saturating_sub(2)).collect();
            for packet in lost {
                flow.who.lost(now, packet.sent);
            }
        } else if flow.bytes_under_way() + MTU > flow.who.window() {
            let packet = flow.under_way.pop_front().unwrap();
            flow.who.lost(now, packet.sent);
        } else {
            flow.sent += 1;
            free_at = free_at.max(now);
            let waiting = (free_at - now).as_secs_f64() * line.mbit * 1e6 / 8.0;
            let mut back = None;
            if waiting as u64 + MTU > line.queue {
                flow.spilt += 1;
            } else {
                free_at += per_byte * MTU as u32;
                if dice.roll() >= line.loss {
                    let at = flow.acknowledged_at(free_at + line.trip);
                    let into = Duration::from_nanos((at - start).as_nanos() as u64 % 60_000_000);
                    back = Some(at + line.stall.saturating_sub(into));
                }
            }
            flow.under_way.push_back(Packet { sent: now, back });
            // paced as quinn does
            let gap = flow.smooth.mul_f64(MTU as f64 / flow.who.window() as f64 / 1.25);
            flow.next_send = now + gap;
        }
    }
    let whole = line(seconds - 1e-9).mbit * 1e6 / 8.0 * (seconds - warm);
    let got = |flow: &Flow| Got {
        share: flow.delivered as f64 / whole,
        spilt: flow.spilt as f64 / flow.sent.max(1) as f64,
    };
    flows.iter().map(got).collect()
}

fn alone(line: Line, seconds: f64) -> Got {
    let now = Instant::now();
    run(|_| line, vec![Who::ours(now)], now, seconds, 0.0)[0]
}

#[test]
fn chance_takes_only_what_it_takes() {
    for (loss, share) in [(0.0, 0.95), (0.001, 0.95), (0.01, 0.93), (0.02, 0.9)] {
        let got = alone(Line { loss, ..FAR }, 10.0);
        assert!(got.share > share && got.spilt < 0.01, "{loss}: {got:?}");
    }
    // what it is measured against, on the same line with the same dice
    let now = Instant::now();
    let line = Line { loss: 0.01, ..FAR };
    let plain = run(|_| line, vec![Who::plain()], now, 10.0, 0.0)[0];
    assert!(plain.share < 0.1, "{plain:?}");
}

#[test]
fn lines_of_all_kinds_are_filled_and_not_flooded() {
    for (mbit, trip_ms) in [(2.0, 2), (2.0, 200), (20.0, 20), (100.0, 2), (100.0, 200), (500.0, 20)] {
        for (queue, loss) in [(1.0, 0.0), (1.0, 0.005), (4.0, 0.0), (4.0, 0.005)] {
            let trip = Duration::from_millis(trip_ms);
            let product = mbit * 1e6 / 8.0 * trip.as_secs_f64();
            let queue = ((product * queue) as u64).max(20 * MTU);
            let got = alone(Line { mbit, trip, queue, loss, stall: Duration::ZERO }, 10.0);
            assert!(
                got.share > 0.8 && got.spilt < 0.03,
                "{mbit} Mbit/s, {trip_ms} ms, queue {queue}, loss {loss}: {got:?}"
            );
        }
    }
}

#[test]
fn a_line_with_hardly_a_queue_is_not_flooded() {
    for (queue, share) in [(62_500, 0.7), (20_000, 0.6)] {
        let got = alone(Line { queue, ..FAR }, 20.0);
        assert!(got.spilt < 0.05 && got.share > share, "{queue}: {got:?}");
    }
}

#[test]
fn a_machine_that_stalls_is_no_queue() {
    let stall = Duration::from_millis(15);
    for (loss, share) in [(0.0, 0.85), (0.01, 0.8)] {
        let got = alone(Line { loss, stall, ..FAR }, 10.0);
        assert!(got.share > share && got.spilt < 0.02, "{loss}: {got:?}");
    }
    // and most of the line is there within the first seconds
    let got = alone(Line { stall, ..FAR }, 2.0);
    assert!(got.share > 0.75, "{got:?}");
}

#[test]
fn two_of_us_share_and_leave_the_queue_small() {
    let now = Instant::now();
    let got = run(|_| FAR, vec![Who::ours(now), Who::ours(now)], now, 40.0, 10.0);
    let (one, two) = (got[0].share, got[1].share);
    assert!(one + two > 0.9 && one.min(two) > 0.25, "{got:?}");
    assert!(got.iter().all(|got| got.spilt < 0.02), "{got:?}");
}

#[test]
fn a_flow_that_fills_queues_neither_starves_us_nor_is_starved() {
    let now = Instant::now();
    for loss in [0.0, 0.0001] {
        let line = Line { loss, ..FAR };
        let got = run(|_| line, vec![Who::ours(now), Who::plain()], now, 90.0, 30.0);
        let (ours, plain) = (got[0].share, got[1].share);
        assert!(ours > 0.15 && plain > 0.15 && ours + plain > 0.9, "{loss}: {got:?}");
    }
}

#[test]
fn a_line_that_changes_is_followed() {
    // the route gets longer, then the rate falls, then both come back
    let line = |time: f64| match time {
        0.0..15.0 => FAR,
        15.0..45.0 => Line { trip: Duration::from_millis(120), queue: 1_500_000, ..FAR },
        45.0..75.0 => Line { mbit: 30.0, queue: 200_000, ..FAR },
        _ => FAR,
    };
    let now = Instant::now();
    for (until, whole) in [(45.0, 30.0), (75.0, 60.0), (100.0, 85.0)] {
        let got = run(line, vec![Who::ours(now)], now, until, whole);
        assert!(got[0].share > 0.85 && got[0].spilt < 0.03, "until {until}: {got:?}");
    }
}
