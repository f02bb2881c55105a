//! [`Budget`]: limits how many bytes of request bodies are held at once, and gives each client a share.
//!
//! Every place that reads a body has a [`Budget`]. Bytes are charged when they arrive, not when their length is
//! announced, and stay charged until they are dropped.
//!
//! # Shares
//!
//! A known [`Sender`] may hold at most a third of what is free: a quarter of the cap if it is alone, less if there
//! are several. So no number of senders can fill the budget, and a new one always finds room (network switches
//! share their buffers in this way: Choudhury and Hahne, "Dynamic queue length thresholds", 1998). If a quarter of
//! the cap is less than one body of the largest size, that size is the share, as far as it fits into the cap.
//!
//! Unknown senders have no share. For all senders, the read deadline shrinks as the cap or the sender's share
//! fills: it is the full deadline while half of both is free, and a tenth of it when one is full.

mod budget;
mod read;
mod room;

pub use self::budget::{Budget, Charge, Sender};
pub use self::read::Collected;
pub(crate) use self::read::{drain, read};
pub use self::room::Room;
