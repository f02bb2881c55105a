//! The stores: one contract for all, and what only SQLite has to keep.

mod contract;
