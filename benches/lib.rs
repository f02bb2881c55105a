//! Nothing: this package is its benchmarks.
