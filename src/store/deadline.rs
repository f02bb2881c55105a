//! [`in_time`]: a deadline for the answer of a store.

use std::future::Future;
use std::time::Duration;

use super::StoreError;

/// Returns the store's answer, or [`StoreError::Timeout`] if it does not come in time.
pub(crate) async fn in_time<T, E: From<StoreError>>(
    deadline: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(deadline, question).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Timeout.into()),
    }
}
