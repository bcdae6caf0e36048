//! Other codes for 64 positions of 4,096, on the same positions: lengths exactly, and speeds of those that
//! came near.

use std::{error::Error, time::Instant};

use talkoot_trainer::contribution::{CodecSettings, ErrorFeedback, Layout, Origin, encode, visit};

use talkoot_trainer::measure::codec::Source;

const CHUNK: u32 = 4096;

pub(crate) fn compare(settings: &CodecSettings) -> Result<(), Box<dyn Error>> {
    let chunks = chunks_of_positions(settings)?;
    let count: usize = chunks.iter().map(Vec::len).sum();
    let show = |name: &str, bits: f64, speeds: Option<(f64, f64)>| {
        let speeds = speeds.map_or(String::new(), |(w, r)| format!("{:9.0} {:9.0}", w / 1e6, r / 1e6));
        println!("  {name:<34} {:7.4} {speeds}", bits / count as f64);
    };
    let limit: f64 = (0..64).map(|i| (f64::from(CHUNK - i) / f64::from(64 - i)).log2()).sum();
    show("log2 C(4096, 64), the limit", limit * count as f64 / 64.0, None);
    show("12-bit positions", 12.0 * count as f64, None);
    let gaps: Vec<u32> = chunks.iter().flat_map(|positions| gaps(positions)).collect();
    show(
        "Elias-Fano, 6 low bits",
        chunks.iter().map(|p| 6.0 * p.len() as f64 + f64::from(p[p.len() - 1] >> 6) + p.len() as f64).sum(),
        None,
    );
    for low in [5, 6] {
        let bits: u32 = gaps.iter().map(|gap| (gap >> low) + 1 + low).sum();
        show(&format!("Rice, {low} low bits"), f64::from(bits), None);
    }
    for divisor in [40, 42, 44, 48] {
        let bits: u32 = gaps.iter().map(|gap| gap / divisor + 1 + golomb_rest(gap % divisor, divisor)).sum();
        show(
            &format!("Golomb, divisor {divisor}{}", if divisor == 44 { " (ours)" } else { "" }),
            f64::from(bits),
            None,
        );
    }
    let clock = Instant::now();
    let coded = range_encode(&chunks);
    let writing = count as f64 / clock.elapsed().as_secs_f64();
    let clock = Instant::now();
    let read = range_decode(&coded, chunks.iter().map(Vec::len));
    let reading = count as f64 / clock.elapsed().as_secs_f64();
    assert!(read == chunks, "a rival that loses positions is none");
    show("binary range coder, k left of n left", 8.0 * coded.len() as f64, Some((writing, reading)));
    Ok(())
}

fn chunks_of_positions(settings: &CodecSettings) -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
    let elements = 4 << 20;
    let layout = Layout::new(vec![("weight".to_owned(), elements as u64)])?;
    let origin = Origin { round: 0, member: [0; 32], steps: 1, tokens: 1 };
    let delta = Source::Gaussian.values(5, elements);
    let blob = encode(settings, &layout, &origin, &[&delta], &mut ErrorFeedback::zero(&layout))?;
    let mut chunks = Vec::new();
    visit(&blob, settings, &layout, |view| {
        chunks.push(view.positions.iter().map(|&at| u32::from(at)).collect())
    })?;
    Ok(chunks)
}

fn gaps(positions: &[u32]) -> Vec<u32> {
    let mut next = 0;
    positions
        .iter()
        .map(|&at| {
            let gap = at - next;
            next = at + 1;
            gap
        })
        .collect()
}

fn golomb_rest(rest: u32, divisor: u32) -> u32 {
    let width = u32::BITS - (divisor - 1).leading_zeros();
    if rest < (1 << width) - divisor { width - 1 } else { width }
}

/// Of an interval of this `range`, the part for "sent", when `left` of `elements` are still to be sent.
fn split(range: u32, left: u32, elements: u32) -> u32 {
    ((u64::from(range) * u64::from(left) / u64::from(elements)) as u32).clamp(1, range)
}

/// One binary decision per element, its probability `left / (elements left)`: the enumerative code's length but
/// for rounding, at the price of 4,096 decisions a chunk.
fn range_encode(chunks: &[Vec<u32>]) -> Vec<u8> {
    let (mut low, mut range, mut out) = (0u64, u32::MAX, Vec::new());
    for positions in chunks {
        let mut next = positions.iter().peekable();
        for at in 0..CHUNK {
            let left = next.len() as u32;
            if left == 0 {
                break;
            }
            let split = split(range, left, CHUNK - at);
            if next.next_if_eq(&&at).is_some() {
                range = split;
            } else {
                low += u64::from(split);
                range -= split;
            }
            while range < 1 << 24 {
                push_byte(&mut low, &mut out);
                range <<= 8;
            }
        }
    }
    for _ in 0..4 {
        push_byte(&mut low, &mut out);
    }
    out
}

fn push_byte(low: &mut u64, out: &mut Vec<u8>) {
    if *low >> 32 != 0 {
        // a carry runs back over bytes of 0xff
        for byte in out.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        *low &= 0xffff_ffff;
    }
    out.push((*low >> 24) as u8);
    *low = (*low << 8) & 0xffff_ffff;
}

fn range_decode(bytes: &[u8], counts: impl Iterator<Item = usize>) -> Vec<Vec<u32>> {
    let mut input = bytes.iter().copied();
    let mut next = || u32::from(input.next().unwrap_or(0));
    let mut code = (0..4).fold(0u32, |code, _| code << 8 | next());
    let mut range = u32::MAX;
    let mut chunk = |count: usize| {
        let mut positions = Vec::with_capacity(count);
        for at in 0..CHUNK {
            let left = (count - positions.len()) as u32;
            if left == 0 {
                break;
            }
            let split = split(range, left, CHUNK - at);
            if code < split {
                range = split;
                positions.push(at);
            } else {
                code -= split;
                range -= split;
            }
            while range < 1 << 24 {
                code = code << 8 | next();
                range <<= 8;
            }
        }
        positions
    };
    counts.map(&mut chunk).collect()
}
