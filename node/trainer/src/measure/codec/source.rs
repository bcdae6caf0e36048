//! Pseudo-gradients of known shapes.

/// What the entries are drawn from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Normal, deviation 1.
    Gaussian,
    /// Laplace, scale 1.
    Laplace,
    /// Student's t with three degrees of freedom: heavy tails.
    Student3,
}

/// `SplitMix64`, to a number in (0, 1).
#[derive(Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + 1e-17
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

impl Source {
    /// `count` values; equal for equal seeds.
    pub fn values(self, seed: u64, count: usize) -> Vec<f32> {
        let mut numbers = Numbers(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        (0..count).map(|_| self.draw(&mut numbers) as f32).collect()
    }

    fn draw(self, numbers: &mut Numbers) -> f64 {
        match self {
            Self::Gaussian => numbers.normal(),
            Self::Laplace => (numbers.uniform() / numbers.uniform()).ln(),
            Self::Student3 => {
                let square: f64 = (0..3).map(|_| numbers.normal().powi(2)).sum();
                numbers.normal() / (square / 3.0).sqrt()
            }
        }
    }
}
