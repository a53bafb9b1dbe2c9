//! Whether a session that owes an answer can still give one.
//!
//! How long a statement may take is nobody's to say: an `ALTER` takes hours. But a server that has
//! vanished with its machine sends nothing at all, and TCP notices that only after ten minutes and
//! more: the driver sets when probes begin, not how many there are (the kernel's 9, 75 s apart). So
//! while an answer does not come, another connection looks for the session in the server's list.

use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::session::{SessionError, SessionOptions};

/// How long an answer may take before somebody looks, and between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// So many looks in a row find nobody there.
const MISSES: u32 = 2;

/// What is needed to look for a session.
#[derive(Debug, Clone)]
pub struct Lifeline {
    pub(crate) options: SessionOptions,
    /// The server's number of the connection. What the handshake told may be a proxy's.
    pub(crate) id: u64,
    /// Where the server's data is: behind one address there may be several servers, and those of a
    /// cluster may share `@@server_id`.
    pub(crate) server: String,
}

/// What a look found.
enum Look {
    /// The session, or nothing that says it is gone.
    Perhaps,
    /// Nobody answers.
    Nobody(SessionError),
    /// The server has no such session.
    Gone,
}

impl Lifeline {
    /// Waits for an answer of the session.
    ///
    /// # Errors
    /// [`SessionError::Unreachable`] if none can come any more. The answer is dropped then, so the
    /// session cannot be used again.
    pub async fn wait<T>(&self, answer: impl Future<Output = T>) -> Result<T, SessionError> {
        tokio::pin!(answer);
        let mut misses = 0;
        loop {
            let look = async {
                tokio::time::sleep(LOOK).await;
                self.look().await
            };
            let look = tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                look = look => look,
            };
            match look {
                Look::Perhaps => misses = 0,
                Look::Nobody(error) => {
                    misses += 1;
                    if misses >= MISSES {
                        return Err(error);
                    }
                }
                Look::Gone => {
                    return Err(SessionError::Unreachable {
                        endpoint: self.options.endpoint().clone(),
                        reason: format!("it does not know connection {} any more", self.id),
                    });
                }
            }
        }
    }

    async fn look(&self) -> Look {
        let mut session = match self.options.connect().await {
            Ok(session) => session,
            Err(error @ SessionError::Unreachable { .. }) => return Look::Nobody(error),
            // Too many connections, a password that was changed: it is there.
            Err(_) => return Look::Perhaps,
        };
        // Each account sees its own sessions.
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE id = {}",
            self.id
        );
        let counted = session.conn.query_first::<u64, _>(sql);
        let found = tokio::time::timeout(LOOK, counted).await;
        let look = match found {
            Ok(Ok(Some(0))) if session.lifeline().server == self.server => Look::Gone,
            _ => Look::Perhaps,
        };
        // What does not end in good order is ended by the server.
        let _ended = tokio::time::timeout(LOOK, session.close()).await;
        look
    }
}
