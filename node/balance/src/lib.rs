//! Draws samples so that rare concepts are seen as well as common ones.
//!
//! ```text
//!                     1. map                          2. count                3. draw
//! lists of samples --the K concepts most like each--> tags --add up--> counts --weigh, draw by hash--> list --> pack
//! concepts, embeddings --^                                                  `--> rejects, report, settings
//! ```
//!
//! A sample weighs what the inverse frequencies of its concepts make, and a hash of its id decides with its weight whether
//! it is drawn. The map can be split by hash range over processes or hosts that share a folder; however it is split, on
//! any number of threads, and however often it was killed and begun again, the same inputs under the same rules give the
//! same bytes. Nothing that grows with the number of samples is held in memory.
//!
//! Embeddings come from anywhere, or from a model of this project's kind ([`embed`]); without any, concepts are found in
//! the words of texts.
//!
//! ```
//! use talkoot_balance::{Config, config::DEFAULT_TOML};
//!
//! assert_eq!(Config::parse(DEFAULT_TOML)?, Config::default());
//! let error = Config::parse("[weight]\npower = 2.0").unwrap_err();
//! assert_eq!(error.to_string(), "weight.power is 2, it must be 0, 0.25, 0.5, 0.75 or 1");
//! # Ok::<(), talkoot_balance::config::ConfigError>(())
//! ```

pub mod concepts;
pub mod config;
pub mod coverage;
pub mod draw;
pub mod embed;
pub mod embedding;
pub mod report;
mod run;
pub mod search;
pub mod weight;
pub mod words;

pub use self::{
    config::Config,
    report::BalanceReport,
    run::{BalanceError, BalanceOptions, Counted, Done, Matching, Step, balance, balance_step},
};
