//! Questions to servers that are being fenced.

use std::time::Duration;

use anyhow::Result;

/// Asks again where that fails: setting MySQL's `offline_mode` also ends sessions that are about to log
/// in, and a fence those that pass its door.
pub async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 0..10 {
        if let Ok(answer) = ask().await {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ask().await
}
