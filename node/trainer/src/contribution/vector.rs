//! The example in `docs/contribution-format.md`, held to what the code makes.

use talkoot_protocol::digest::Digest;

use super::*;
use crate::moments::{Factors, MatrixShape, ParameterFactors};

const PAGE: &str = include_str!("../../../../docs/contribution-format.md");

fn example() -> (CodecSettings, Layout, Origin, [Vec<f32>; 2]) {
    let settings = CodecSettings { chunk: 16, k: 3, bits: 2, error_feedback: 0.5 };
    let layout = Layout::new(vec![("bias".to_owned(), 5), ("weight".to_owned(), 40)]).unwrap();
    let origin = Origin { round: 7, member: [0xab; 32], steps: 30, tokens: 61_440 };
    let bias = vec![0.0, 1.0, -3.0, 0.0, 0.0];
    let mut weight = vec![0.0; 40];
    for (at, value) in [(1, 2.0), (4, -3.25), (9, 1.0), (15, 3.0), (36, -0.75)] {
        weight[at] = value;
    }
    (settings, layout, origin, [bias, weight])
}

/// The bytes of a block on the page: hexadecimal digits before the first `;` of each line.
fn bytes_on_the_page(block: usize) -> Vec<u8> {
    let block = PAGE.split("```hex\n").nth(block).unwrap().split("```").next().unwrap();
    let digits: Vec<u32> = block
        .lines()
        .flat_map(|line| line.split(';').next().unwrap().chars().filter_map(|c| c.to_digit(16)))
        .collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| (high * 16 + low) as u8).collect()
}

#[test]
fn the_bytes_on_the_page_are_what_the_code_makes() {
    let (settings, layout, origin, delta) = example();
    let mut feedback = ErrorFeedback::zero(&layout);
    let blob = encode(&settings, &layout, &origin, &[&delta[0], &delta[1]], &mut feedback).unwrap();
    assert_eq!(blob, bytes_on_the_page(1), "{blob:02x?}");
    let decoded = decode(&blob, &settings, &layout).unwrap();
    assert_eq!((&decoded.tensors[0].positions[..], &decoded.tensors[0].values[..]), (&[2][..], &[-3.0][..]));
    assert_eq!(decoded.tensors[1].positions, [1, 4, 15, 36]);
    assert_eq!(decoded.tensors[1].values, [2.0625, -3.09375, 3.09375, -0.75]);
    assert_eq!(feedback.tensors()[1][4], -0.15625);
    assert_eq!(feedback.tensors()[0], [0.0, 1.0, 0.0, 0.0, 0.0]);
    for digest in [layout.digest(), Digest::of(&blob), feedback.root()] {
        assert!(PAGE.contains(&digest.to_string()), "{digest} is not on the page");
    }
}

#[test]
fn the_second_moments_on_the_page_are_what_the_code_makes() {
    let unit = 1.0 / 1_048_576.0; // 2^-20
    let bias = [unit, unit, 4.0 * unit, unit, 0.0];
    let weight: Vec<f32> = (0..40)
        .map(|at| {
            let (row, column) = (at / 10, at % 10);
            if column == 9 { 0.0 } else { unit * (1 << row) as f32 }
        })
        .collect();
    let bias = ParameterFactors::of(&bias, MatrixShape { rows: 1, columns: 5 }, 1.0);
    let weight = ParameterFactors::of(&weight, MatrixShape { rows: 4, columns: 10 }, 1.0);
    for codes in [&bias.rows, &bias.columns, &weight.rows, &weight.columns] {
        let listed = codes.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        assert!(PAGE.contains(&format!("`{listed}`")), "`{listed}` is not on the page");
    }
    let bytes = Factors(vec![bias, weight]).to_bytes();
    assert_eq!(bytes, bytes_on_the_page(2), "{bytes:02x?}");

    let (settings, layout, origin, delta) = example();
    let factors = Factors::from_bytes(&bytes, &SHAPES).unwrap();
    let mut feedback = ErrorFeedback::zero(&layout);
    let delta = [delta[0].as_slice(), delta[1].as_slice()];
    let blob = encode_with(&settings, &layout, &origin, &delta, Some(&factors), &mut feedback).unwrap();
    assert_eq!(Contribution::open(&blob, &settings, &layout).unwrap().factors(), Some(&bytes[..]));
    let digest = Digest::of(&blob).to_string();
    assert!(PAGE.contains(&digest), "{digest} is not on the page");
}

const SHAPES: [MatrixShape; 2] = [MatrixShape { rows: 1, columns: 5 }, MatrixShape { rows: 4, columns: 10 }];
