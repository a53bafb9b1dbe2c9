//! Reading typed values out of rows, with an error that names what could not be read.

use model::Endpoint;
use mysql_async::Row;
use mysql_async::prelude::FromValue;

use super::ControlError;

/// One answer's rows, with what is needed to say what was wrong with it.
pub(crate) struct Answer<'a> {
    pub(crate) doing: &'static str,
    pub(crate) endpoint: &'a Endpoint,
}

impl Answer<'_> {
    /// The only row of a result set.
    pub(crate) fn row(&self, sets: &mut [Vec<Row>], set: usize) -> Result<Row, ControlError> {
        let rows = sets.get_mut(set).filter(|rows| !rows.is_empty());
        match rows {
            Some(rows) => Ok(rows.swap_remove(0)),
            None => Err(self.missing(format!("row in result {set}"))),
        }
    }

    /// A column's value; NULL only where `T` is an `Option`.
    pub(crate) fn value<T: FromValue>(
        &self,
        row: &mut Row,
        column: usize,
        what: &str,
    ) -> Result<T, ControlError> {
        match row.take_opt(column) {
            Some(Ok(value)) => Ok(value),
            _ => Err(self.missing(what.to_owned())),
        }
    }

    pub(crate) fn missing(&self, what: String) -> ControlError {
        ControlError::Answer {
            doing: self.doing,
            endpoint: self.endpoint.clone(),
            what,
        }
    }
}
