//! A product as cuBLASLt is told of it.
//!
//! cuBLASLt's matrices are column-major: element `(i, j)` of one with leading dimension `ld` is number `i + j * ld`. Ours are
//! row-major, and a row-major matrix is the column-major one of its transpose. So what we want, `c [rows, columns]`, is asked
//! for as its transpose:
//!
//! ```text
//! d [m, n] = op(a) [m, k] * op(b) [k, n] + beta c + bias [m]     m = columns, n = rows, k = depth, column-major
//!
//! layout   ours                                   op(a)                        op(b)
//! nt       x [rows, depth], w [columns, depth]    w^T: stored [k, m], turned   x: stored [k, n]
//! nn       x [rows, depth], w [depth, columns]    w: stored [m, k]             x: stored [k, n]
//! tn       x [depth, rows], w [depth, columns]    w: stored [m, k]             x^T: stored [n, k], turned
//! ```
//! A bias, one number for each of our columns, is one for each of `d`'s rows, which is how cuBLASLt's epilogue adds it.

/// How our two operands are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[rows, depth]` and `[columns, depth]`.
    Nt,
    /// `[rows, depth]` and `[depth, columns]`.
    Nn,
    /// `[depth, rows]` and `[depth, columns]`.
    Tn,
}

/// A product in cuBLASLt's terms; operands are bf16, `c`, `d` and the bias f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Description {
    /// Rows of `d`.
    pub m: u64,
    /// Columns of `d`.
    pub n: u64,
    /// Inner index.
    pub k: u64,
    /// Whether `op(a)` is the transpose of what is stored.
    pub turn_a: bool,
    /// Whether `op(b)` is the transpose of what is stored.
    pub turn_b: bool,
    /// Whether `c` is added.
    pub add: bool,
    /// Whether a bias is added to every column of `d`.
    pub bias: bool,
}

impl Description {
    /// Of our `[rows, columns]` over an inner index of `depth`. **`a` is then our second operand and `b` our first.**
    pub fn of(layout: Layout, [rows, columns, depth]: [usize; 3], add: bool, bias: bool) -> Self {
        Self {
            m: columns as u64,
            n: rows as u64,
            k: depth as u64,
            turn_a: layout == Layout::Nt,
            turn_b: layout == Layout::Tn,
            add,
            bias,
        }
    }

    /// Rows and columns of `a` as it is stored; the leading dimension is the first.
    pub fn stored_a(&self) -> [u64; 2] {
        if self.turn_a { [self.k, self.m] } else { [self.m, self.k] }
    }

    /// Rows and columns of `b` as it is stored; the leading dimension is the first.
    pub fn stored_b(&self) -> [u64; 2] {
        if self.turn_b { [self.n, self.k] } else { [self.k, self.n] }
    }
}

/// Memory of a product: each from a byte on.
#[derive(Debug)]
pub struct Operands<'a, M> {
    /// `a`, bf16.
    pub a: (&'a M, usize),
    /// `b`, bf16.
    pub b: (&'a M, usize),
    /// The bias, `m` numbers, where there is one.
    pub bias: Option<(&'a M, usize)>,
    /// What is added, as `d` is stored, where the description says so; it may be `d`.
    pub c: Option<(&'a M, usize)>,
    /// The result, f32, column-major with leading dimension `m`.
    pub d: (&'a M, usize),
}

impl<'a, M> Operands<'a, M> {
    /// The same in other memory.
    pub(crate) fn map<N: 'a>(&self, of: impl Fn((&'a M, usize)) -> (&'a N, usize)) -> Operands<'a, N> {
        Operands { a: of(self.a), b: of(self.b), bias: self.bias.map(&of), c: self.c.map(&of), d: of(self.d) }
    }
}
