//! The table of all kernels: which stand in which file.
//!
//! The files are in `kernels/`, one idea each: `exact/` for the exact class, `fast/` for tensor cores, `codec/` for contributions, `shared/` for
//! what they include.

/// A kernel: a function of a `.cu` file that the host can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// Its file, from `kernels/` on.
    pub file: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// A file and its kernels.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// From `kernels/` on.
    pub path: &'static str,
    /// All that it defines.
    pub kernels: &'static [Kernel],
}

/// Declares kernels and the table of their files.
macro_rules! kernels {
    ($($path:literal { $($constant:ident = $name:literal),+ $(,)? })+) => {
        $($(
            #[doc = concat!("`", $name, "` of `kernels/", $path, "`.")]
            pub const $constant: Kernel = Kernel { file: $path, name: $name };
        )+)+

        /// All files.
        pub const FILES: &[File] = &[$(File { path: $path, kernels: &[$($constant),+] }),+];
    };
}

kernels! {
    "codec/select.cu" {
        CONTRIBUTION_LARGEST = "contribution_largest",
        CONTRIBUTION_SELECT = "contribution_select",
    }
    "exact/adamw_eight_bit.cu" {
        ADAMW_EIGHT_BIT = "adamw_eight_bit",
    }
    "exact/attention.cu" {
        ATTENTION_64 = "attention_64",
        ATTENTION_128 = "attention_128",
        ATTENTION_256 = "attention_256",
    }
    "exact/attention_backward.cu" {
        ROW_PRODUCTS = "row_products",
        ATTENTION_QUERIES_64 = "attention_queries_64",
        ATTENTION_QUERIES_128 = "attention_queries_128",
        ATTENTION_QUERIES_256 = "attention_queries_256",
        ATTENTION_KEYS_64 = "attention_keys_64",
        ATTENTION_KEYS_128 = "attention_keys_128",
        ATTENTION_KEYS_256 = "attention_keys_256",
    }
    "exact/columns.cu" {
        COLUMN_SUMS = "column_sums",
        RMS_WEIGHT_GRADIENT = "rms_weight_gradient",
        LAYER_NORM_PARAMETER_GRADIENTS = "layer_norm_parameter_gradients",
    }
    "exact/cross_entropy.cu" {
        CROSS_ENTROPY = "cross_entropy",
    }
    "exact/elementwise.cu" {
        ADD = "add",
        GELU = "gelu",
        GELU_BACKWARD = "gelu_backward",
        SWIGLU = "swiglu",
        SWIGLU_BACKWARD = "swiglu_backward",
        ADAMW = "adamw",
    }
    "exact/norms.cu" {
        LAYER_NORM = "layer_norm",
        LAYER_NORM_BACKWARD = "layer_norm_backward",
        RMS_NORM = "rms_norm",
        RMS_NORM_BACKWARD = "rms_norm_backward",
        RMS_NORM_BACKWARD_IN_PLACE = "rms_norm_backward_in_place",
        INVERSES_OF = "inverses_of",
    }
    "exact/product.cu" {
        PRODUCT_NN = "product_nn",
        PRODUCT_NN_HALF = "product_nn_half",
        PRODUCT_NT = "product_nt",
        PRODUCT_NT_HALF = "product_nt_half",
        PRODUCT_TN = "product_tn",
    }
    "exact/rotary.cu" {
        ROTATE = "rotate",
        ANGLE_GRADIENT = "angle_gradient",
    }
    "exact/rows.cu" {
        COPY_ROWS = "copy_rows",
        COPY_ROWS_HALF = "copy_rows_half",
        ADD_ROWS = "add_rows",
    }
    "exact/squares.cu" {
        SUMS_OF_SQUARES = "sums_of_squares",
    }
    "fast/attention.cu" {
        FAST_ATTENTION_64 = "attention_64",
        FAST_ATTENTION_128 = "attention_128",
    }
    "fast/attention_backward.cu" {
        FAST_ROW_PRODUCTS = "row_products",
        FAST_ATTENTION_QUERIES_64 = "attention_queries_64",
        FAST_ATTENTION_QUERIES_128 = "attention_queries_128",
        FAST_ATTENTION_KEYS_64 = "attention_keys_64",
        FAST_ATTENTION_KEYS_128 = "attention_keys_128",
    }
    "fast/cross_entropy.cu" {
        FAST_CROSS_ENTROPY = "cross_entropy",
    }
    "fast/product.cu" {
        FAST_PRODUCT_NN = "product_nn",
        FAST_PRODUCT_NN_HALF = "product_nn_half",
        FAST_PRODUCT_NT = "product_nt",
        FAST_PRODUCT_NT_HALF = "product_nt_half",
        FAST_PRODUCT_TN = "product_tn",
    }
    "fast/round.cu" {
        ROUND_TO_BF16 = "round_to_bf16",
    }
}
