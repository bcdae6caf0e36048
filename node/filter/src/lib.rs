//! Leaves out samples that teach nothing, and those that teach the same again.
//!
//! ```text
//!                    1. each by itself             2. nearly the same            3. people
//! lists of samples --examine--> prints, scores --find duplicates--> list --review--> list --> pack
//!                     `--> rejects                  `--> rejects            `--> rejects
//! ```
//!
//! The first pass reads every sample and decodes every picture; it can be split by hash range over processes or hosts
//! that share a folder. The second needs 64 bytes a sample, their [prints](mod@print). However the work is split, on any
//! number of threads, and however often it was killed and begun again, the same lists under the same configuration give
//! the same bytes. Samples in are samples kept and samples dropped, always, and each that is dropped has a line that
//! names the rule, the value and the limit.
//!
//! ```
//! use talkoot_filter::{Config, config::DEFAULT_TOML};
//!
//! assert_eq!(Config::parse(DEFAULT_TOML)?, Config::default());
//! let error = Config::parse("[picture]\nmin_side = 0").unwrap_err();
//! assert_eq!(error.to_string(), "picture.min_side is 0, it must be from 1 to 16384");
//! # Ok::<(), talkoot_filter::config::ConfigError>(())
//! ```

pub mod config;
pub mod duplicates;
pub mod examine;
pub mod histogram;
pub mod print;
pub mod report;
pub mod review;
pub mod rule;
mod run;

pub use self::{
    config::Config,
    report::FilterReport,
    rule::{Dropped, Rule},
    run::{FilterError, FilterOptions, Step, filter, filter_step},
};
