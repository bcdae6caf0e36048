//! Which samples a run learns when: mixtures of sources and difficulties over time.
//!
//! ```text
//! lists of samples --cells: source x difficulty band--> a count for each cell and period --draw--> a list for each period
//!                                                                                                     |
//!                           a run learns period after period <-- manifest with periods <-- pack --ordered
//! ```
//!
//! A configuration names *periods* and, for each, its share of the whole and how much more or less of every source and
//! every band of difficulty it has than there is. Within a period no sample comes twice. Over all periods a sample comes
//! again only when every sample of its cell has been drawn. The draw goes by hash: the same samples under the same
//! configuration give the same mixture, however they are spread over lists.
//!
//! ```
//! use talkoot_mixture::{Config, config::EXAMPLE_TOML};
//!
//! assert_eq!(Config::parse(EXAMPLE_TOML)?.periods.len(), 3);
//! let error = Config::parse("cuts = [0.5]\n[[period]]\nname = \"a\"\nbands = [1]").unwrap_err();
//! assert_eq!(error.to_string(), "period[0].bands has 1 weight, it must have 2, one for each band");
//! # Ok::<(), talkoot_mixture::config::ConfigError>(())
//! ```

mod apportion;
mod bands;
pub mod config;
mod draw;
mod mix;
pub mod report;
mod table;

pub use self::{
    config::Config,
    mix::{MixError, MixOptions, mix},
    report::MixReport,
};
