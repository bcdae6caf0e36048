use super::{
    super::{Level, pool::Pool},
    *,
};

fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The definition, element by element.
fn chains(a: &Matrix<'_>, b: &Matrix<'_>, start: Start, finish: Finish<'_>, c: &mut [f32]) {
    for i in 0..a.rows {
        for j in 0..b.columns {
            let c = &mut c[i * b.columns + j];
            let mut chain = if start == Start::Zero { 0.0 } else { *c };
            for k in 0..b.rows {
                let left = a.numbers[i * a.row_stride + k * a.column_stride];
                let right = b.numbers[k * b.row_stride + j * b.column_stride];
                chain = left.mul_add(right, chain);
            }
            *c = chain;
            if let Some(bias) = finish.bias {
                *c += bias[j];
            }
            if let Some(residual) = finish.residual {
                *c += residual[i * b.columns + j];
            }
        }
    }
}

fn levels() -> Vec<Isa> {
    let there: Vec<Isa> = Level::ALL.into_iter().filter_map(Isa::new).collect();
    if there.len() < Level::ALL.len() {
        eprintln!("SKIPPED: this processor lacks {} of the vector kernels", Level::ALL.len() - there.len());
    }
    there
}

const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (1, 7, 300),
    (5, 15, 2),
    (6, 16, 256),
    (7, 17, 257),
    (84, 32, 64),
    (85, 33, 513),
    (200, 1, 40),
    (1, 200, 700),
    (170, 100, 3),
    (3, 2100, 5),
    (9, 4, 0),
];

#[test]
fn every_kernel_gives_the_bits_of_the_definition_in_every_layout() {
    for isa in levels() {
        for (m, n, k) in SHAPES {
            let (a, b) = (random(m * k, 1), random(k * n, 2));
            let (bias, residual, before) = (random(n, 3), random(m * n, 4), random(m * n, 5));
            let plain = Matrix::new(&a, m, k);
            let turned = Matrix::new(&a, k, m).transposed();
            let right = Matrix::new(&b, k, n);
            let right_turned = Matrix::new(&b, n, k).transposed();
            for (a, b) in [(plain, right), (plain, right_turned), (turned, right), (turned, right_turned)] {
                for start in [Start::Zero, Start::Continue] {
                    for finish in [
                        Finish::default(),
                        Finish { bias: Some(&bias), residual: None },
                        Finish { bias: Some(&bias), residual: Some(&residual) },
                    ] {
                        let (mut expected, mut got) = (before.clone(), before.clone());
                        chains(&a, &b, start, finish, &mut expected);
                        let c = MatrixMut::new(&mut got, m, n);
                        multiply(isa, Products::FixedOrder, a, b, start, finish, c);
                        assert!(
                            expected.iter().map(|x| x.to_bits()).eq(got.iter().map(|x| x.to_bits())),
                            "{isa:?} {m}x{n}x{k} {start:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_packed_operand_and_gaps_between_rows_change_nothing() {
    for isa in levels() {
        for (m, n, k) in SHAPES {
            let (a, b) = (random(m * (k + 3), 1), random(k * (n + 5), 2));
            let a = Matrix::strided(&a, m, k, k + 3);
            let b = Matrix::strided(&b, k, n, n + 5);
            let mut expected = vec![0.0; m * n];
            chains(&a, &b, Start::Zero, Finish::default(), &mut expected);
            let mut got = vec![7.0; m * (n + 2)];
            let packed = Packed::new(isa, Products::FixedOrder, &Pool::default(), b);
            multiply_packed(isa, a, &packed, Start::Zero, MatrixMut::strided(&mut got, m, n, n + 2));
            for (expected, got) in expected.chunks(n).zip(got.chunks(n + 2)) {
                assert_eq!(expected, &got[..n], "{isa:?} {m}x{n}x{k}");
                assert_eq!(got[n..], [7.0, 7.0], "the gap between rows is not ours");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (m, n, k) = (301, 257, 300);
    let (a, b) = (random(m * k, 1), random(k * n, 2));
    let product = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0.0; m * n];
        pool.install(|| {
            let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            let c = MatrixMut::new(&mut c, m, n);
            multiply(Isa::best(), Products::FixedOrder, a, b, Start::Zero, Finish::default(), c);
        });
        c
    };
    let one = product(1);
    for threads in [2, 3, 7] {
        assert!(one == product(threads), "{threads} threads");
    }
}

#[test]
fn the_other_library_agrees_up_to_rounding() {
    let (m, n, k) = (50, 70, 900);
    let (a, b, bias) = (random(m * k, 1), random(k * n, 2), random(n, 3));
    let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, n, k).transposed());
    let finish = Finish { bias: Some(&bias), residual: None };
    let run = |products| {
        let mut c = vec![1.0; m * n];
        multiply(Isa::best(), products, a, b, Start::Continue, finish, MatrixMut::new(&mut c, m, n));
        c
    };
    for (ours, other) in run(Products::FixedOrder).iter().zip(run(Products::GemmCrate)) {
        assert!((ours - other).abs() < 1e-3, "{ours} {other}");
    }
}
