//! How often one address may ask: a bucket of tokens each, and not too many buckets.

use std::{collections::HashMap, net::IpAddr, time::Instant};

/// Addresses that are told apart at once. Above that, new ones wait until others have been quiet.
const MAX_ADDRESSES: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    buckets: HashMap<IpAddr, (f64, Instant)>,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: per_second.into(), burst: burst.into(), buckets: HashMap::new() }
    }

    /// Whether `address` may ask now; if so, that counts.
    pub(crate) fn allows(&mut self, address: IpAddr, now: Instant) -> bool {
        let refilled = |(tokens, since): (f64, Instant)| {
            let gained = now.saturating_duration_since(since).as_secs_f64() * self.per_second;
            (tokens + gained).min(self.burst)
        };
        if !self.buckets.contains_key(&address) && self.buckets.len() >= MAX_ADDRESSES {
            // whoever has a full bucket again is as good as new
            self.buckets.retain(|_, bucket| refilled(*bucket) < self.burst);
            if self.buckets.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let tokens = self.buckets.get(&address).map_or(self.burst, |bucket| refilled(*bucket));
        let allowed = tokens >= 1.0;
        let left = if allowed { tokens - 1.0 } else { tokens };
        self.buckets.insert(address, (left, now));
        allowed
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn a_burst_then_a_steady_rate_for_each_address() {
        let (mut rate, start) = (Rate::new(2, 3), Instant::now());
        let asked: Vec<bool> = (0..5).map(|_| rate.allows(address(1), start)).collect();
        assert_eq!(asked, [true, true, true, false, false]);
        assert!(rate.allows(address(2), start), "another address has its own bucket");
        let later = start + Duration::from_millis(500);
        assert!(rate.allows(address(1), later), "half a second gives one of two a second");
        assert!(!rate.allows(address(1), later));
        assert!(!rate.allows(address(1), start), "a clock that stands still gives nothing");
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_memory() {
        let (mut rate, start) = (Rate::new(1, 1), Instant::now());
        let flood = u32::try_from(MAX_ADDRESSES).unwrap();
        assert!((0..flood).all(|n| rate.allows(address(n), start)));
        assert!(!rate.allows(address(flood), start));
        assert_eq!(rate.buckets.len(), MAX_ADDRESSES);
        let later = start + Duration::from_secs(1);
        assert!(rate.allows(address(flood), later), "the quiet ones make room");
        assert_eq!(rate.buckets.len(), 1);
    }
}
