//! One GET by HTTP, bounded in size. Whoever calls bounds its time.

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers.
    #[error("does not answer: {0}")]
    Unreachable(String),
    /// It answers, and not with what was asked for.
    #[error("answers {0}")]
    Answer(String),
}

/// What can be fetched: an address with the scheme `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`.
    pub host: String,
    /// The path with the query.
    pub path: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// Why it is none, as part of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .parse()
            .map_err(|_| format!("{text:?} is no address"))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{text:?} does not begin with http:// and a host"));
        };
        let port = authority.port_u16().unwrap_or(80);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host: format!("{}:{port}", authority.host()),
            path: path.to_owned(),
        })
    }
}

/// Fetches, and reads at most `largest` bytes of what comes; with 0, the body is not read.
///
/// The connection is driven within this call, and ends with it.
pub async fn get(address: &Address, largest: usize) -> Result<(StatusCode, Bytes), FetchError> {
    let unreachable = |error: &dyn std::error::Error| FetchError::Unreachable(error.to_string());
    let stream = TcpStream::connect(&address.host)
        .await
        .map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(&error))?;
    let request = Request::get(&address.path)
        .header(header::HOST, &address.host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| unreachable(&error))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let status = response.status();
        if largest == 0 {
            return Ok((status, Bytes::new()));
        }
        let body = Limited::new(response.into_body(), largest)
            .collect()
            .await
            .map_err(|error| FetchError::Answer(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = connection => match ended {
            // A connection that closed in good order has handed everything over.
            Ok(()) => exchange.await,
            Err(error) => Err(unreachable(&error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_path() {
        let read = |text: &str| Address::parse(text).map(|it| (it.host, it.path));
        let pair = |host: &str, path: &str| Ok((host.to_owned(), path.to_owned()));
        assert_eq!(
            read("http://a.example/x?y=1"),
            pair("a.example:80", "/x?y=1")
        );
        assert_eq!(read("http://[::1]:8080"), pair("[::1]:8080", "/"));
        for wrong in [
            "https://a.example/",
            "a.example/x",
            "http:///x",
            "http://a b",
        ] {
            assert!(read(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
