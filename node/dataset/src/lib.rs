//! From pictures and text to packed shards.
