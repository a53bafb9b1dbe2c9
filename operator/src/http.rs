//! One GET of a process's `/status`, bounded in time and size.

use std::time::Duration;

use process::fetch::{self, Address, FetchError};
use serde::de::DeserializeOwned;

/// An answer that takes longer counts as none.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// A status with hundreds of Units stays far below this.
const LARGEST: usize = 8 << 20;

/// Why there is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// Nobody answers.
    #[error("http://{address}/status does not answer: {cause}")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// What came back.
        cause: String,
    },
    /// It answers, but not with a status.
    #[error("http://{address}/status answers {cause}")]
    Answer {
        /// `host:port`.
        address: String,
        /// What came back.
        cause: String,
    },
}

/// Fetches a status from `host:port`.
pub async fn status<T: DeserializeOwned>(address: &str) -> Result<T, StatusError> {
    match tokio::time::timeout(TIMEOUT, fetch(address)).await {
        Ok(answer) => answer,
        Err(_) => Err(StatusError::Unreachable {
            address: address.to_owned(),
            cause: format!("nothing came within {TIMEOUT:?}"),
        }),
    }
}

async fn fetch<T: DeserializeOwned>(address: &str) -> Result<T, StatusError> {
    let answer = |cause: String| StatusError::Answer {
        address: address.to_owned(),
        cause,
    };
    let status_of = Address {
        host: address.to_owned(),
        path: "/status".to_owned(),
    };
    let (status, body) = fetch::get(&status_of, LARGEST)
        .await
        .map_err(|error| match error {
            FetchError::Unreachable(cause) => StatusError::Unreachable {
                address: address.to_owned(),
                cause,
            },
            FetchError::Answer(cause) => answer(cause),
        })?;
    if !status.is_success() {
        let text = String::from_utf8_lossy(&body);
        let text = text.trim();
        let colon = if text.is_empty() { "" } else { ": " };
        return Err(answer(format!("{status}{colon}{text}")));
    }
    serde_json::from_slice(&body)
        .map_err(|error| answer(format!("what is no status of this version: {error}")))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn a_status_is_read_and_anything_else_is_told() {
        let address = answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"lag\":7}").await;
        let value: serde_json::Value = status(&address).await.unwrap();
        assert_eq!(value["lag"], 7);

        let address = answering(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 14\r\n\r\nno status yet\n",
        )
        .await;
        let error = status::<serde_json::Value>(&address).await.unwrap_err();
        assert!(error.to_string().ends_with("no status yet"), "{error}");

        let error = status::<serde_json::Value>("127.0.0.1:1")
            .await
            .unwrap_err();
        assert!(matches!(error, StatusError::Unreachable { .. }), "{error}");
    }
}
