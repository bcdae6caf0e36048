use talkoot_trainer::{
    backend::{AdamWStep, Backend},
    moments::eight_bit::{Side, packed_words},
};

use super::{Case, Results, downloaded, random};

const LEN: usize = 1003;

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = vec![Case::new("activations", activations), Case::new("AdamW", optimiser)];
    cases.extend([1, 2, 255, 256, 257, 2049, 4999].map(|len| {
        Case::new(format!("AdamW with {len} moments in eight bits"), move |backend: &B| {
            eight_bit(backend, len)
        })
    }));
    cases.push(Case::new("first moments half way between two levels", half_way));
    cases.extend([0, 1, 17, 65_535, 65_536, 200_003].map(|len| {
        Case::new(format!("squares of {len}"), move |backend: &B| {
            let bits = backend.sum_of_squares(&backend.upload(&random(len, 1))?)?.to_bits();
            Ok(vec![vec![f32::from_bits(bits as u32), f32::from_bits((bits >> 32) as u32)]])
        })
    }));
    cases
}

/// Ordinary numbers, and those that polynomials and roots have to get right too.
fn numbers() -> Vec<f32> {
    let special =
        [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-41, -1e-41, 89.5, -95.0, -104.5, 15.1];
    let mut numbers: Vec<f32> = random(LEN, 1).iter().map(|x| 6.0 * x).collect();
    numbers[..special.len()].copy_from_slice(&special);
    numbers
}

fn activations<B: Backend>(backend: &B) -> Results {
    let there = |seed| backend.upload(&random(LEN, seed));
    let x = backend.upload(&numbers())?;
    let (mut y, mut dx) = (backend.scratch(LEN)?, there(3)?);
    backend.gelu(&x, &mut y)?;
    backend.gelu_backward(&x, &mut dx)?;
    let mut results = downloaded(backend, [&y, &dx])?;
    let (mut gate, mut up, dy) = (backend.upload(&numbers())?, there(2)?, there(3)?);
    backend.swiglu(&gate, &up, &mut y)?;
    backend.swiglu_backward(&mut gate, &mut up, &dy)?;
    results.extend(downloaded(backend, [&y, &gate, &up])?);
    backend.add(&x, &mut y)?;
    results.extend(downloaded(backend, [&y])?);
    Ok(results)
}

const STEP: AdamWStep = AdamWStep {
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    step_size: 1e-2,
    root_correction: 0.7,
    gradient_factor: 0.25,
};

fn optimiser<B: Backend>(backend: &B) -> Results {
    let there = |seed| backend.upload(&random(LEN, seed));
    let squares: Vec<f32> = random(LEN, 3).iter().map(|x| x * x).collect();
    let (gradient, mut first, mut second) = (there(1)?, there(2)?, backend.upload(&squares)?);
    let mut parameter = there(4)?;
    for keep in [0.999, 1.0] {
        backend.adamw(STEP, keep, &gradient, &mut first, &mut second, &mut parameter)?;
    }
    downloaded(backend, [&first, &second, &parameter])
}

/// Four steps: ordinary numbers, without and with a bound, then a gradient with what is infinite and what is none, then one that is tiny throughout.
/// Words of codes are compared in halves, since some of them would be NaN, which all count as equal.
fn eight_bit<B: Backend>(backend: &B, len: usize) -> Results {
    let spread = |seed| -> Vec<f32> {
        random(len, seed).iter().zip(random(len, seed + 9)).map(|(x, e)| x * (12.0 * e).exp2()).collect()
    };
    let squares: Vec<f32> = spread(3).iter().map(|x| x * x).collect();
    let (mut first, mut second) =
        (backend.upload(&Side::First.pack(&spread(2)))?, backend.upload(&Side::Second.pack(&squares))?);
    let mut parameter = backend.upload(&random(len, 4))?;
    let mut results = Vec::new();
    let mut wild = spread(5);
    wild[len / 2] = f32::NAN;
    wild[len - 1] = f32::INFINITY;
    wild[0] = -0.0;
    let tiny = vec![1e-38; len];
    for (gradient, most) in [(spread(1), f32::INFINITY), (spread(6), 1.25), (wild, 1.25), (tiny, 1.25)] {
        let gradient = backend.upload(&gradient)?;
        backend.adamw_eight_bit(STEP, 0.999, most, &gradient, &mut first, &mut second, &mut parameter)?;
        for words in downloaded(backend, [&first, &second])? {
            let halves = words.iter().flat_map(|word| [word.to_bits() >> 16, word.to_bits() & 0xffff]);
            results.push(halves.map(|half| half as f32).collect());
        }
        results.extend(downloaded(backend, [&parameter])?);
    }
    Ok(results)
}

/// A gradient that becomes the first moment as it is, every number of which is as near to one level as to the next.
fn half_way<B: Backend>(backend: &B) -> Results {
    let codes: Vec<u8> = (0..128).collect();
    let words = codes.as_chunks::<4>().0.iter().map(|four| f32::from_bits(u32::from_le_bytes(*four)));
    let levels = Side::First.unpack(&std::iter::once(1.0).chain(words).collect::<Vec<f32>>(), 128);
    let mut gradient: Vec<f32> = levels.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
    gradient.push(1.0);
    let step = AdamWStep { beta1: 0.0, beta2: 0.0, gradient_factor: 1.0, ..STEP };
    let len = gradient.len();
    let [mut first, mut second] = [backend.zeros(packed_words(len))?, backend.zeros(packed_words(len))?];
    let (gradient, mut parameter) = (backend.upload(&gradient)?, backend.zeros(len)?);
    backend.adamw_eight_bit(step, 1.0, 2.0, &gradient, &mut first, &mut second, &mut parameter)?;
    Ok(vec![Side::First.unpack(&backend.download(&first)?, len)])
}
