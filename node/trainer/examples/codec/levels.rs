//! Which two levels 2 bits should have: the fitted scale's error for several ratios and sources.

use std::error::Error;
use talkoot_trainer::contribution::{CodecSettings, ErrorFeedback, Layout, Origin, encode};
use talkoot_trainer::measure::codec::Source;

const CHUNK: usize = 4096;
const K: usize = 64;
const CHUNKS: usize = 256;
const CANDIDATES: [(f64, f64); 7] =
    [(1.0, 2.0), (3.0, 5.0), (2.0, 3.0), (5.0, 7.0), (3.0, 4.0), (4.0, 5.0), (1.0, 1.0)];

/// Where the fit starts: the largest magnitude at the highest level, or the mean between the two, or the better.
const STARTS: [(&str, &[bool]); 3] =
    [("largest", &[true]), ("mean", &[false]), ("better of both", &[true, false])];

pub(crate) fn compare() -> Result<(), Box<dyn Error>> {
    print!("{:<36}", "");
    for (low, high) in CANDIDATES {
        print!("  {{{low},{high}}} ");
    }
    println!();
    for source in [Source::Gaussian, Source::Laplace, Source::Student3] {
        for rounds in [0, 20] {
            let values = settled(source, rounds)?;
            for (name, starts) in STARTS {
                print!("{:<36}", format!("{source:?}, {rounds} rounds, {name}"));
                for (low, high) in CANDIDATES {
                    print!("  {:.4}", error_left(&values, low, high, starts));
                }
                println!();
            }
        }
    }
    Ok(())
}

/// What is quantised after some rounds of error feedback.
fn settled(source: Source, rounds: u64) -> Result<Vec<f32>, Box<dyn Error>> {
    let layout = Layout::new(vec![("weight".to_owned(), (CHUNK * CHUNKS) as u64)])?;
    let mut feedback = ErrorFeedback::zero(&layout);
    for round in 0..rounds {
        let origin = Origin { round, member: [0; 32], steps: 1, tokens: 1 };
        let delta = source.values(round, CHUNK * CHUNKS);
        encode(&CodecSettings::default(), &layout, &origin, &[&delta], &mut feedback)?;
    }
    let fresh = source.values(rounds, CHUNK * CHUNKS);
    Ok(fresh.iter().zip(&feedback.tensors()[0]).map(|(fresh, kept)| fresh + 0.95 * kept).collect())
}

fn error_left(values: &[f32], low: f64, high: f64, starts: &[bool]) -> f64 {
    let (mut error, mut energy) = (0.0, 0.0);
    for chunk in values.chunks_exact(CHUNK) {
        let mut largest: Vec<f64> = chunk.iter().map(|v| f64::from(v.abs())).collect();
        largest.sort_by(|a, b| b.total_cmp(a));
        largest.truncate(K);
        let mean = largest.iter().sum::<f64>() / K as f64 / f64::midpoint(low, high);
        let start = |&from_largest: &bool| if from_largest { largest[0] / high } else { mean };
        error += starts.iter().map(|s| fit(&largest, low, high, start(s))).fold(f64::INFINITY, f64::min);
        energy += largest.iter().map(|m| m * m).sum::<f64>();
    }
    error / energy
}

/// Squared error after Lloyd's method from `scale` on.
fn fit(magnitudes: &[f64], low: f64, high: f64, mut scale: f64) -> f64 {
    let level = |m: f64, scale: f64| {
        let ratio = m / scale;
        if ratio < low / 2.0 {
            0.0
        } else if ratio < f64::midpoint(low, high) {
            low
        } else {
            high
        }
    };
    for _ in 0..4 {
        let (mut product, mut square) = (0.0, 0.0);
        for &m in magnitudes {
            let level = level(m, scale);
            product += level * m;
            square += level * level;
        }
        if square == 0.0 {
            return f64::INFINITY;
        }
        scale = product / square;
    }
    magnitudes.iter().map(|&m| (m - scale * level(m, scale)).powi(2)).sum()
}
