//! An explanation and the response to the same request agree, whatever the key, its owner and the request: rows C2,
//! C4, C5 and C6 of the threats.

mod layers;
mod random;
mod said;
