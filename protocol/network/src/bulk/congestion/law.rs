//! The rule by which the window moves; knows time only as it is told.

use std::time::{Duration, Instant};

use super::{
    UNACKNOWLEDGED,
    cubic::{BETA, Cubic},
};

/// Window in bytes before anything is known: ten packets (RFC 9002, 7.2).
pub(super) const INITIAL_WINDOW: u64 = 12_000;
/// Round trips of which the shortest is the present one: fewer would be jitter, more would be the past.
const RECENT: usize = 8;
/// Rounds over which the best delivery rate is remembered.
const RATE_ROUNDS: usize = 10;
/// How long a shortest round trip is believed before it is measured anew.
const TRIP_LIFE: Duration = Duration::from_secs(10);
/// How long the cap is lifted after a loss with a queue.
const CONTEST: Duration = Duration::from_secs(10);
/// Standing queue that the cap allows, as a share of the shortest round trip, and at least.
const STANDING: (f64, Duration) = (0.25, Duration::from_millis(5));
/// Queue from which on a loss is believed to come of it: well above the one that the cap makes.
const FULL: (f64, Duration) = (0.4, Duration::from_millis(10));
/// Queue at which the opening ends.
const OPEN: (f64, Duration) = (0.125, Duration::from_millis(4));
/// By how much the cap is stretched each round without a queue, and at most.
const STRETCH: (f64, f64) = (1.04, 1.5);
/// Share of a round trip for which a queue has to be seen.
const STAYS: f64 = 0.125;
/// Share of lost bytes from which on chance is no explanation, and packets lost before it is looked at.
const CHANCE: (f64, u64) = (0.04, 8);
/// Rounds of the opening in which the rate has to rise by a quarter.
const FLAT_ROUNDS: u8 = 3;
/// The standing queue's share after a loss that chance does not explain; it comes back with time.
const RECOVER_PER_SEC: f64 = 0.02;

/// Where the window is going.
#[derive(Debug, Clone)]
enum Phase {
    /// Doubling, until the line is full. Best rate so far in bytes per second, rounds without a better one, and once
    /// a queue is seen, the round whose end is waited for, as only a whole round tells the line's rate.
    Opening { best: f64, flat: u8, last: Option<u64> },
    /// At the cap.
    Steady,
    /// As CUBIC, until then.
    Contested { cubic: Cubic, until: Instant },
    /// A small window until the round with this number, to see the shortest round trip.
    Measuring { until_round: u64, shortest: Duration },
}

/// What has been seen since the round began.
#[derive(Debug, Clone)]
struct Round {
    number: u64,
    began: Instant,
    acked: u64,
    shortest: Duration,
    app_limited: bool,
}

/// The state of one connection's window.
#[derive(Debug, Clone)]
pub(super) struct Law {
    mtu: u64,
    window: u64,
    phase: Phase,
    round: Round,
    /// The newest round trips, oldest first to go.
    recent: [Duration; RECENT],
    next_recent: usize,
    /// Shortest round trip, and when it was last seen.
    trip: Option<(Duration, Instant)>,
    /// Delivery rates of the last rounds in bytes per second.
    rates: [f64; RATE_ROUNDS],
    /// Bytes acknowledged and lost of late, halved every now and then.
    acked: u64,
    lost: u64,
    /// Share of [`STANDING`] that the line has been seen to hold, 0 to 1.
    room: f64,
    /// How much more than the model says the cap lets out, as no queue comes of it: acknowledgements that a busy machine
    /// holds back make a trip longer than the line, and a model that does not see them would starve itself.
    stretch: f64,
    /// Since when every round trip has told of a queue, and of a full one.
    queued_since: Option<Instant>,
    full_since: Option<Instant>,
    /// Losses of packets sent before this moment were answered already.
    answered: Option<Instant>,
    last_epoch: Option<Cubic>,
}

/// `share` of a round trip, at least `least`.
fn part(trip: Duration, (share, least): (f64, Duration)) -> Duration {
    trip.mul_f64(share).max(least)
}

impl Law {
    pub(super) fn new(now: Instant, mtu: u64) -> Self {
        Self {
            mtu,
            window: INITIAL_WINDOW.max(2 * mtu),
            phase: Phase::Opening { best: 0.0, flat: 0, last: None },
            round: Round { number: 0, began: now, acked: 0, shortest: Duration::MAX, app_limited: false },
            recent: [Duration::MAX; RECENT],
            next_recent: 0,
            trip: None,
            rates: [0.0; RATE_ROUNDS],
            acked: 0,
            lost: 0,
            room: 1.0,
            stretch: 1.0,
            queued_since: None,
            full_since: None,
            answered: None,
            last_epoch: None,
        }
    }

    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    const fn least(&self) -> u64 {
        4 * self.mtu
    }

    pub(super) fn set_mtu(&mut self, mtu: u64) {
        self.mtu = mtu;
        self.window = self.window.max(2 * mtu);
    }

    /// Best delivery rate of late, in bytes per second.
    fn rate(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// The present round trip.
    fn now_trip(&self) -> Option<Duration> {
        self.recent.iter().copied().min().filter(|trip| *trip != Duration::MAX)
    }

    /// The queue that the present round trip tells of.
    fn queue(&self) -> Option<Duration> {
        self.now_trip().zip(self.trip).map(|(now, (trip, _))| now.saturating_sub(trip))
    }

    fn has_queue(&self, limit: (f64, Duration)) -> bool {
        self.queue().zip(self.trip).is_some_and(|(queue, (trip, _))| queue > part(trip, limit))
    }

    /// Whether what has been seen since then is more than a machine that paused for a moment: a pause shows in one bunch of
    /// acknowledgements, a queue in all that come for a while.
    fn stays(&self, since: Option<Instant>, now: Instant) -> bool {
        since
            .zip(self.trip)
            .is_some_and(|(since, (trip, _))| now.saturating_duration_since(since) >= trip.mul_f64(STAYS))
    }

    /// Most bytes under way that keep the queue small; without limit while nothing is known.
    fn cap(&self) -> u64 {
        let Some((trip, _)) = self.trip.filter(|_| self.rate() > 0.0) else { return u64::MAX };
        let stay = trip + part(trip, STANDING).mul_f64(self.room);
        // what the peer has and may keep to itself for a moment, and a few packets more for bunches that a busy machine makes
        let (packets, delay) = UNACKNOWLEDGED;
        let unsaid = ((self.rate() * delay.as_secs_f64()) as u64).min(u64::from(packets) * self.mtu);
        ((self.rate() * stay.as_secs_f64() * self.stretch) as u64 + unsaid + 4 * self.mtu).max(self.least())
    }

    pub(super) fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        let trip = now.saturating_duration_since(sent);
        if self.trip.is_none_or(|(shortest, _)| trip <= shortest) {
            self.trip = Some((trip, now));
        }
        self.recent[self.next_recent] = trip;
        self.next_recent = (self.next_recent + 1) % RECENT;
        self.queued_since = self.queued_since.or(Some(now)).filter(|_| self.has_queue(OPEN));
        self.full_since = self.full_since.or(Some(now)).filter(|_| self.has_queue(FULL));
        self.acked += bytes;
        let round = &mut self.round;
        round.acked += bytes;
        round.shortest = round.shortest.min(trip);
        round.app_limited |= app_limited;
        if sent >= round.began {
            self.end_round(now);
        }
        self.grow(now, bytes, app_limited);
    }

    fn end_round(&mut self, now: Instant) {
        let next = Round {
            number: self.round.number + 1,
            began: now,
            acked: 0,
            shortest: Duration::MAX,
            app_limited: false,
        };
        let round = std::mem::replace(&mut self.round, next);
        let took = now.saturating_duration_since(round.began).as_secs_f64();
        let rate = round.acked as f64 / took.max(1e-6);
        // who has nothing to send learns nothing about the line, unless that it is faster
        if !round.app_limited || rate > self.rate() {
            self.rates.rotate_right(1);
            self.rates[0] = rate;
        }
        let empty = self.trip.is_some_and(|(trip, _)| round.shortest < trip + part(trip, OPEN));
        let (step, most) = STRETCH;
        if empty && !round.app_limited && self.room > 0.9 && matches!(self.phase, Phase::Steady) {
            self.stretch = (self.stretch * step).min(most);
        } else {
            self.stretch = (self.stretch / step).max(1.0);
        }
        self.room = (self.room + took * RECOVER_PER_SEC).min(1.0);
        // what was lost is forgotten over some rounds with enough packets in them to judge
        if round.number.is_multiple_of(4) && self.acked > 400 * self.mtu {
            self.acked /= 2;
            self.lost /= 2;
        }
        self.step(now, &round);
    }

    /// Moves on between the phases at the end of a round.
    fn step(&mut self, now: Instant, round: &Round) {
        let rate = self.rates[0];
        match &mut self.phase {
            Phase::Opening { best, flat, last } => {
                if rate > *best * 1.25 {
                    (*best, *flat) = (rate, 0);
                } else if !round.app_limited {
                    *flat += 1;
                }
                if last.is_some_and(|last| round.number >= last) || *flat >= FLAT_ROUNDS {
                    self.phase = Phase::Steady;
                    self.window = self.window.min(self.cap());
                }
            }
            Phase::Contested { until, .. } if now < *until => {}
            Phase::Measuring { until_round, shortest } => {
                *shortest = (*shortest).min(round.shortest);
                if round.number >= *until_round {
                    let shortest = *shortest;
                    self.trip = Some((shortest, now));
                    self.phase = Phase::Steady;
                    self.window = self.window.max(self.cap());
                }
            }
            Phase::Steady | Phase::Contested { .. } => {
                self.phase = Phase::Steady;
                if self.trip.is_some_and(|(_, seen)| now.saturating_duration_since(seen) > TRIP_LIFE) {
                    // one round for the queue to run dry, one to see the line without it
                    self.phase = Phase::Measuring { until_round: round.number + 2, shortest: Duration::MAX };
                    self.window = (self.cap() / 2).max(self.least());
                }
            }
        }
    }

    fn grow(&mut self, now: Instant, bytes: u64, app_limited: bool) {
        let (cap, queued, round) = (self.cap(), self.stays(self.queued_since, now), self.round.number);
        match &mut self.phase {
            _ if app_limited => {}
            Phase::Opening { last: Some(_), .. } | Phase::Measuring { .. } => {}
            Phase::Opening { last, .. } if queued => *last = Some(round + 1),
            Phase::Opening { .. } => self.window += bytes,
            Phase::Steady if self.window < cap => self.window += (bytes / 2).min(cap - self.window),
            Phase::Steady => self.window -= (bytes / 2).min(self.window - cap),
            Phase::Contested { cubic, .. } => {
                let trip = self.recent.iter().copied().min().unwrap_or_default().min(Duration::from_secs(2));
                let wanted = cubic.window(now, trip, self.mtu);
                // at most half as much again for each round (RFC 9438, 4.4)
                self.window += wanted.saturating_sub(self.window).min(bytes / 2);
            }
        }
    }

    /// Bytes were lost, the newest of them sent at `sent`; none are when the network only marked what it carried.
    pub(super) fn lost(&mut self, now: Instant, sent: Instant, bytes: u64, persistent: bool) {
        self.lost += bytes;
        if self.answered.is_some_and(|moment| sent <= moment) {
            return;
        }
        let total = self.acked + self.lost;
        let beyond_chance = self.lost > CHANCE.1 * self.mtu && self.lost as f64 > CHANCE.0 * total as f64;
        let full = self.stays(self.full_since, now);
        if !(bytes == 0 || persistent || beyond_chance || full) {
            return;
        }
        self.answered = Some(now);
        let cubic = Cubic::after(now, self.window, self.last_epoch.as_ref(), self.mtu);
        self.last_epoch = Some(cubic.clone());
        self.window = ((self.window as f64 * BETA) as u64).max(self.least());
        if persistent {
            // nothing of what was known holds any more
            *self = Self { answered: Some(now), window: self.least(), ..Self::new(now, self.mtu) };
        } else if beyond_chance && !full {
            // a line without a queue: rates measured while it overflowed were true, the room behind them was not
            if matches!(self.phase, Phase::Steady) {
                self.room = (self.room - 0.5).max(0.0);
            }
            self.stretch = 1.0;
            (self.acked, self.lost) = (0, 0);
            self.phase = Phase::Steady;
        } else {
            self.phase = Phase::Contested { cubic, until: now + CONTEST };
        }
    }
}
