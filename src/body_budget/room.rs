//! [`Room`]: a budget and a sender, for routes that read bodies themselves.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;

use super::budget::{Budget, Charge, Sender};
use super::read::{Collected, read};
use crate::auth_error::AuthErrorKind;

/// The part of a budget that one sender's bodies may use. [`settle`](crate::unread_body::settle) puts it into the
/// extensions of a request.
#[derive(Clone, Debug)]
pub struct Room {
    budget: Budget,
    sender: Sender,
}

impl Room {
    /// Reads a body to its end: at most `limit` bytes, charged as they arrive, within the deadline `within`, which
    /// shrinks as the budget fills.
    ///
    /// # Errors
    ///
    /// [`BodyTooLarge`](AuthErrorKind::BodyTooLarge), [`BodyTimeout`](AuthErrorKind::BodyTimeout),
    /// [`Overloaded`](AuthErrorKind::Overloaded) if the budget is exhausted, and
    /// [`MalformedBody`](AuthErrorKind::MalformedBody) if the body ends early.
    pub async fn read<B>(&self, body: B, limit: usize, within: Duration) -> Result<Collected, AuthErrorKind>
    where
        B: Body<Data = Bytes>,
    {
        read(pin!(body), limit, within, self.charge()).await
    }

    pub(crate) fn charge(&self) -> Charge {
        self.budget.charge(&self.sender)
    }
}

impl Budget {
    /// Returns the part of the budget that bodies of this sender may use.
    #[must_use]
    pub fn room(&self, sender: Sender) -> Room {
        Room { budget: self.clone(), sender }
    }
}
