//! Measures the contribution codec: size, speed, and what its choices were held against.
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo run --release -p talkoot-trainer --example codec -- [million parameters]
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to a terminal")]

mod levels;
mod rivals;

use std::{error::Error, time::Instant};

use talkoot_trainer::{
    aggregate::{Rule, Weight, outer_step},
    contribution::{CodecSettings, ErrorFeedback, Layout, Origin, decode, encode, visit},
    measure::codec::Source,
};

/// Rounds with error feedback before the sizes of a settled run are taken.
const SETTLING_ROUNDS: u64 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let millions: usize = std::env::args().nth(1).map_or(Ok(16), |text| text.parse())?;
    let settings = CodecSettings::default();
    println!("{settings:?}, {millions} Mi parameters, {} thread(s)\n", rayon::current_num_threads());
    for source in [Source::Gaussian, Source::Laplace, Source::Student3] {
        sizes_and_speeds(source, millions << 20, &settings)?;
    }
    println!("positions of 64 of 4,096: bits per position, M positions/s written and read");
    rivals::compare(&settings)?;
    println!("\n2-bit levels: squared error left on the selected entries, as a share of their energy");
    levels::compare()
}

fn origin(member: u8, round: u64) -> Origin {
    Origin { round, member: [member; 32], steps: 30, tokens: 1 << 20 }
}

fn sizes_and_speeds(source: Source, elements: usize, settings: &CodecSettings) -> Result<(), Box<dyn Error>> {
    let layout = Layout::new(vec![("weight".to_owned(), elements as u64)])?;
    let delta = source.values(1, elements);
    let mut feedback = ErrorFeedback::zero(&layout);
    let blob = encode(settings, &layout, &origin(0, 0), &[&delta], &mut feedback)?;
    // the second round is timed: in the first one the system would be handing out the feedback's pages
    let clock = Instant::now();
    encode(settings, &layout, &origin(0, 1), &[&delta], &mut feedback)?;
    let encoding = clock.elapsed().as_secs_f64();

    let clock = Instant::now();
    let mut sum = 0.0;
    visit(&blob, settings, &layout, |view| sum += view.values[0])?;
    let reading = clock.elapsed().as_secs_f64();

    let mut theta = source.values(2, elements);
    let clock = Instant::now();
    outer_step(&mut [&mut theta], &[(&blob, Weight(1))], settings, &layout, 1.0, Rule::Mean)?;
    let stepping = clock.elapsed().as_secs_f64();

    let mut members = vec![blob.clone()];
    for member in 1..8 {
        let mut fresh = ErrorFeedback::zero(&layout);
        let delta = source.values(10 + u64::from(member), elements);
        members.push(encode(settings, &layout, &origin(member, 0), &[&delta], &mut fresh)?);
    }
    let round: Vec<(&[u8], Weight)> = members.iter().map(|blob| (blob.as_slice(), Weight(1))).collect();
    let clock = Instant::now();
    outer_step(&mut [&mut theta], &round, settings, &layout, 1.0, Rule::Mean)?;
    let stepping_eight = clock.elapsed().as_secs_f64();

    let bits = |blob: &[u8]| blob.len() as f64 * 8.0 / elements as f64;
    let gigabytes = elements as f64 * 4e-9;
    println!("{source:?}: {:.5} bits a parameter, 1/{:.1} of f32", bits(&blob), 32.0 / bits(&blob));
    println!("  encode                      {:6.2} GB/s of f32", gigabytes / encoding);
    println!("  decode                      {:6.2} GB/s", gigabytes / reading);
    println!("  check + outer step, 1 blob  {:6.2} GB/s", gigabytes / stepping);
    println!(
        "  check + outer step, 8 blobs {:6.2} GB/s, {:.2} per blob",
        gigabytes / stepping_eight,
        8.0 * gigabytes / stepping_eight
    );
    settled(source, settings)?;
    Ok(())
}

/// Sizes after some rounds of error feedback: a sum of what was never sent has another shape than its parts.
fn settled(source: Source, settings: &CodecSettings) -> Result<(), Box<dyn Error>> {
    let elements = 1 << 20;
    let layout = Layout::new(vec![("weight".to_owned(), elements as u64)])?;
    let mut feedback = ErrorFeedback::zero(&layout);
    for round in 0..=SETTLING_ROUNDS {
        let delta = source.values(100 + round, elements);
        let blob = encode(settings, &layout, &origin(0, round), &[&delta], &mut feedback)?;
        if round == 0 || round == SETTLING_ROUNDS {
            let sent: usize =
                decode(&blob, settings, &layout)?.tensors.iter().map(|t| t.positions.len()).sum();
            let energy: f64 = feedback.tensors()[0].iter().map(|&v| f64::from(v).powi(2)).sum();
            println!(
                "  round {round:2}: {:.5} bits a parameter, {:.2} entries a chunk, feedback rms {:.3}",
                blob.len() as f64 * 8.0 / elements as f64,
                sent as f64 * f64::from(settings.chunk) / elements as f64,
                (energy / elements as f64).sqrt()
            );
        }
    }
    println!();
    Ok(())
}
