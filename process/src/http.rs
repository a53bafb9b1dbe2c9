//! The HTTP endpoint.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Health;

/// Serves until the token is cancelled.
pub(crate) fn serve(
    listener: TcpListener,
    health: Health,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    let router = Router::new()
        .route(
            "/healthz",
            get(|State(health): State<Health>| async move { verdict(health.live()) }),
        )
        .route(
            "/readyz",
            get(|State(health): State<Health>| async move { readiness(&health) }),
        )
        .route(
            "/metrics",
            get(|State(health): State<Health>| async move { metrics(&health) }),
        )
        .route(
            "/status",
            get(|State(health): State<Health>| async move { status(&health) }),
        )
        .with_state(health);
    tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(async move { shutdown.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the HTTP endpoint ended");
        }
    })
}

fn verdict(outcome: Result<(), String>) -> Response {
    match outcome {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()).into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

fn readiness(health: &Health) -> Response {
    let readiness = health.lock().readiness.clone();
    verdict(readiness)
}

fn metrics(health: &Health) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.lock().registry) {
        Ok(()) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("metrics cannot be encoded: {error}\n"),
        )
            .into_response(),
    }
}

fn status(health: &Health) -> Response {
    match &health.lock().status {
        Some(source) => axum::Json(source()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no status yet\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use crate::{LogFormat, Options, Process};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_endpoints_tell_the_state() {
        // Port 0 cannot be asked back through the API, so a free one is taken and released.
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let options = Options {
            listen: address,
            log: LogFormat::Text,
            log_level: "warn".to_owned(),
        };
        let process = Process::start(&options, "test").await.unwrap();

        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/status").await.starts_with("HTTP/1.1 503"));
        process.health().set_ready();
        process.publish_status(|| serde_json::json!({"lag": 7}));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/status").await.ends_with("{\"lag\":7}"));
        assert!(
            get(address, "/metrics")
                .await
                .contains("multiactive_build_info{process=\"test\"")
        );
        process.health().set_not_ready("the database is gone");
        assert!(
            get(address, "/readyz")
                .await
                .ends_with("the database is gone\n")
        );
        process.finish().await;
    }
}
