//! An explanation and the answer to the request it is about are one and the same, whatever the key, its owner and the
//! request: rows C2, C4, C5 and C6 of the threats, once more.

mod layers;
mod random;
mod said;
