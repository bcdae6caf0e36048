//! Opens and closes rounds, writes the ledger.
