//! Which vector instructions a loop may use, chosen at run time.
//!
//! The exact class defines every element on its own, so wider vectors do the same arithmetic for more elements at once:
//! the bits are equal. [`Isa`] can only be made for instructions that the processor has, which is what makes calling the
//! wider versions sound.

#![allow(
    unsafe_code,
    reason = "a function compiled for more instructions is called after they were detected"
)]

/// Instructions that the processor was found to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

/// Sets of instructions that loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the architecture has; slow where that lacks a fused multiply-add.
    Portable,
    /// AVX2 and FMA, 8 lanes: PCs since 2013.
    Avx2,
    /// AVX-512 F, BW, DQ and VL, 16 lanes.
    Avx512,
}

impl Level {
    /// All of them, narrowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl Isa {
    /// The widest instructions of this processor.
    pub fn best() -> Self {
        let found = Level::ALL.into_iter().rev().find_map(Self::new);
        found.unwrap_or(Self(Level::Portable))
    }

    /// These instructions, if the processor has them.
    pub fn new(level: Level) -> Option<Self> {
        let there = match level {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        };
        there.then_some(Self(level))
    }

    /// Which ones they are.
    pub const fn level(self) -> Level {
        self.0
    }
}

/// Compiles a function once for each set of instructions; the result takes an [`Isa`] first and runs the widest version
/// that it allows. The body must be plain safe code whose loops the compiler can turn into vectors.
macro_rules! for_each_isa {
    (
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
    ) => {
        $(#[$meta])*
        #[allow(unsafe_code, reason = "a version for more instructions is called after they were detected")]
        #[allow(clippy::too_many_arguments, reason = "kernels take their operands one by one")]
        $visibility fn $name(isa: $crate::cpu::isa::Isa, $($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                body($($argument),*)
            }

            match isa.level() {
                // SAFETY: an `Isa` of this level is only made where the processor has these instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Level::Avx512 => unsafe { avx512($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::isa::Level::Avx2 => unsafe { avx2($($argument),*) },
                _ => body($($argument),*),
            }
        }
    };
}

pub(crate) use for_each_isa;
