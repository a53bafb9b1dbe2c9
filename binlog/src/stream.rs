//! The connection: asks a server for everything behind a position, and reads it.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use change::{GtidSet, Position};
use futures::{FutureExt, StreamExt};
use mysql::session::SessionOptions;
use mysql_async::binlog::events::Event;
use mysql_async::prelude::Queryable;
use mysql_async::{
    BinlogStream, BinlogStreamRequest, Conn, Error as DriverError, GnoInterval, IoError, Sid,
};
use mysql_common::proto::codec::error::PacketCodecError;

use crate::assemble::{Assembler, Filter, Output};
use crate::decode::Decoder;
use crate::error::{BinlogError, Place};

/// `ER_MASTER_FATAL_ERROR_READING_BINLOG`; see [`fatal`].
const FATAL_READING_BINLOG: u16 = 1236;

/// How long a server waits for us to take what it sends.
const WRITE_SECONDS: u32 = 3600;

/// How to read.
pub struct ReadOptions {
    /// The server and the account.
    pub session: SessionOptions,
    /// The number this reader has among the server's replicas; a second reader with the same one
    /// ends the first.
    pub server_id: u32,
    /// How often the server says that it is there while it has nothing to say.
    pub heartbeat: Duration,
    /// A server that says nothing for so long is taken for dead.
    pub deadline: Duration,
    /// Transactions are cut into parts of about so many bytes.
    pub part_bytes: usize,
}

/// A binlog that is being read.
pub struct Reader {
    stream: BinlogStream,
    pipeline: Pipeline,
    deadline: Duration,
    endpoint: String,
}

/// From events to transactions, wherever the events come from.
pub struct Pipeline {
    decoder: Decoder,
    assembler: Assembler,
}

impl Pipeline {
    /// Starts behind `position`, in `epoch`. A transaction is cut into parts of about `part_bytes`.
    pub fn new(filter: Box<dyn Filter>, position: Position, epoch: u64, part_bytes: usize) -> Self {
        Self {
            decoder: Decoder::new(position.flavor()),
            assembler: Assembler::new(filter, position, epoch, part_bytes),
        }
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// What the event cannot be read for. Nothing may be taken after it.
    pub fn take(&mut self, event: &Event) -> Result<(), BinlogError> {
        let Self { decoder, assembler } = self;
        let decoded = decoder.decode(event, &mut |database, table| {
            assembler.wants(database, table)
        })?;
        assembler.take(decoded, decoder)
    }

    /// The next event cannot even be told from its neighbours.
    fn unreadable(&self) -> BinlogError {
        self.decoder.malformed(
            "behind the last one",
            "its length is not what its header says",
        )
    }

    /// What the events so far make up and was not given yet.
    pub fn pop(&mut self) -> Option<Output> {
        self.assembler.pop()
    }
}

impl Reader {
    /// Asks for everything behind `position`. `epoch` is the server's epoch there.
    pub async fn open(
        options: &ReadOptions,
        position: Position,
        epoch: u64,
        filter: Box<dyn Filter>,
    ) -> Result<Self, BinlogError> {
        let endpoint = options.session.endpoint().to_string();
        let session = options.session.connect().await?;
        let driver = |source| BinlogError::Driver {
            endpoint: endpoint.clone(),
            source,
        };
        let mut conn = session.conn;
        prepare(&mut conn, options, &position)
            .await
            .map_err(driver)?;
        let request = BinlogStreamRequest::new(options.server_id);
        let request = match &position {
            Position::MySql(set) => request.with_gtid().with_gtid_set(sids(set)),
            Position::MariaDb(_) => request,
        };
        let stream = conn.get_binlog_stream(request).await.map_err(driver)?;
        Ok(Self {
            stream,
            pipeline: Pipeline::new(filter, position, epoch, options.part_bytes),
            deadline: options.deadline,
            endpoint,
        })
    }

    /// The position after the last whole transaction that came out of [`Self::next`].
    pub fn position(&self) -> &Position {
        self.pipeline.assembler.position()
    }

    /// The server's epoch at that position.
    pub fn epoch(&self) -> u64 {
        self.pipeline.assembler.epoch()
    }

    /// The next thing. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Output, BinlogError> {
        loop {
            if let Some(output) = self.pipeline.pop() {
                return Ok(output);
            }
            // The driver panics on an event that is shorter than its header says (mysql_common
            // 0.37, found by fuzzing); that is to halt the link, not to end the process.
            let next = AssertUnwindSafe(self.stream.next()).catch_unwind();
            let event = tokio::time::timeout(self.deadline, next).await;
            let event = match event {
                Ok(Ok(Some(Ok(event)))) => event,
                Ok(Ok(Some(Err(source)))) => return Err(self.failed(source)),
                Ok(Err(_panic)) => return Err(self.pipeline.unreadable()),
                Ok(Ok(None)) => {
                    return Err(BinlogError::Ended {
                        endpoint: self.endpoint.clone(),
                    });
                }
                Err(_) => {
                    return Err(BinlogError::Silent {
                        endpoint: self.endpoint.clone(),
                        seconds: self.deadline.as_secs(),
                    });
                }
            };
            self.pipeline.take(&event)?;
        }
    }

    fn failed(&self, source: DriverError) -> BinlogError {
        failed(source, self.endpoint.clone(), self.pipeline.decoder.place())
    }
}

/// What an error on the way means, which came behind `place`.
fn failed(source: DriverError, endpoint: String, place: &Place) -> BinlogError {
    let place = Box::new(place.clone());
    match source {
        DriverError::Server(error) if error.code == FATAL_READING_BINLOG => {
            let answer = error.message;
            match fatal(&answer) {
                Fatal::Purged => BinlogError::Purged { endpoint, answer },
                Fatal::Replaced => BinlogError::Replaced { endpoint, answer },
                Fatal::Other => BinlogError::NotSent {
                    endpoint,
                    place,
                    answer,
                },
            }
        }
        DriverError::Io(IoError::Io(error)) if is_too_large(&error) => BinlogError::TooLarge {
            endpoint,
            place,
            answer: error.to_string(),
        },
        source => BinlogError::Driver { endpoint, source },
    }
}

/// What [`FATAL_READING_BINLOG`] is told for.
#[derive(Debug, PartialEq, Eq)]
enum Fatal {
    /// Files that the position needs are gone.
    Purged,
    /// Another reader came with the same number.
    Replaced,
    /// A damaged file, an event that is too large, a diverged position.
    Other,
}

/// One number stands for everything that ends the reading of a binlog, so the text has to tell. Both
/// engines' messages are in `sql/rpl_binlog_sender.cc` and `messages_to_clients.txt` of MySQL and in
/// `sql/sql_repl.cc` of MariaDB; they are not translated.
fn fatal(answer: &str) -> Fatal {
    let answer = answer.to_ascii_lowercase();
    let says = |words: &str| answer.contains(words);
    if says("purged") || says("could not find first log file name") {
        Fatal::Purged
    } else if says("with the same server_uuid/server_id") || says("with the same server_id") {
        Fatal::Replaced
    } else {
        Fatal::Other
    }
}

/// Whether the driver refuses a packet for its size alone.
fn is_too_large(error: &std::io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<PacketCodecError>());
    matches!(inner, Some(PacketCodecError::PacketTooLarge))
}

/// Session variables that the server's dump thread looks at. The names with `master` and `slave`
/// are known to both engines; MySQL 8.4 and later also look for `source` and `replica`.
async fn prepare(
    conn: &mut Conn,
    options: &ReadOptions,
    position: &Position,
) -> Result<(), DriverError> {
    let nanos = options.heartbeat.as_nanos();
    conn.query_drop(format!(
        "SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}"
    ))
    .await?;
    // A writer that is busy, with a long statement perhaps, takes nothing meanwhile, and a server
    // that cannot send for this time (60 s otherwise) ends the stream.
    conn.query_drop(format!("SET SESSION net_write_timeout = {WRITE_SECONDS}"))
        .await?;
    if let Position::MariaDb(list) = position {
        // 4: knows GTIDs. A domain that is left out of the state streams from its beginning, so
        // the state must be the whole position.
        conn.query_drop("SET @mariadb_slave_capability = 4, @slave_gtid_strict_mode = 1")
            .await?;
        conn.query_drop(format!("SET @slave_connect_state = '{list}'"))
            .await?;
        conn.query_drop("SET @slave_gtid_ignore_duplicates = 0")
            .await?;
    }
    Ok(())
}

/// The set as the dump command wants it: an entry for each server and tag, ends excluded.
fn sids(set: &GtidSet) -> Vec<Sid<'static>> {
    set.iter()
        .map(|(uuid, tag, intervals)| {
            let intervals = intervals
                .iter()
                .map(|&(first, last)| GnoInterval::new(first, last + 1))
                .collect();
            let sid = Sid::new(uuid.0).with_intervals(intervals);
            match mysql_common::packets::Tag::new(Cow::Owned::<str>(tag.to_owned())) {
                Ok(tag) => sid.with_tag(tag),
                // The empty tag, which is none; others were checked when the set was read.
                Err(_) => sid,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use mysql_async::ServerError;

    use super::*;

    fn told(source: DriverError) -> (BinlogError, String) {
        let place = Place {
            file: "bin.000007".into(),
            offset: 1234,
            gtid: None,
        };
        let error = failed(source, "db:3306".into(), &place);
        let text = error.to_string();
        (error, text)
    }

    fn fatal_error(message: &str) -> (BinlogError, String) {
        told(DriverError::Server(ServerError {
            code: FATAL_READING_BINLOG,
            message: message.into(),
            state: "HY000".into(),
        }))
    }

    #[test]
    fn an_event_that_is_too_large_halts_and_is_named_by_its_place() {
        let too_large = std::io::Error::other(PacketCodecError::PacketTooLarge);
        let (error, text) = told(DriverError::Io(IoError::Io(too_large)));
        assert!(error.is_permanent() && error.category() == "EventTooLarge");
        assert!(text.contains("bin.000007:1234"), "{text}");
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert!(!told(DriverError::Io(IoError::Io(reset))).0.is_permanent());
    }

    #[test]
    fn only_what_is_purged_asks_for_a_new_copy() {
        for message in [
            "Cannot replicate because the source purged required binary logs. Replicate the missing \
             transactions from elsewhere, or provision a new replica from backup.",
            "Could not find GTID state requested by slave in any binlog files. Probably the slave \
             state is too old and required binlog files have been purged.",
            "Could not find first log file name in binary log index file",
        ] {
            let (error, text) = fatal_error(message);
            assert_eq!(error.category(), "Purged", "{message}");
            assert!(text.contains("copy them anew"), "{text}");
        }
        for message in [
            "log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source; the \
             first event 'bin.000007' at 4",
            "Error: connecting slave requested to start from GTID 0-1-9, which is not in the \
             master's binlog",
            "binlog truncated in the middle of event; consider out of disk space on source",
        ] {
            let (error, text) = fatal_error(message);
            assert!(error.is_permanent());
            assert_eq!(error.category(), "BinlogNotSent", "{message}");
            assert!(text.contains("bin.000007:1234") && text.contains(message));
            assert!(!text.contains("empty") && !text.contains("anew"), "{text}");
        }
        let (error, _) = fatal_error(
            "A replica with the same server_uuid/server_id as this replica has connected to the \
             source; the first event '' at 4",
        );
        assert!(!error.is_permanent());
    }
}
