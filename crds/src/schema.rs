//! Schemas of texts that are more than text, as stand-ins for `#[schemars(with = "...")]`.
//!
//! Rules are CEL with a sentence that says what to change; a bare pattern would only be quoted
//! back. Each has a `maxLength`, from which the API server estimates what evaluating it costs, and
//! refuses a definition that could cost too much.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! text_schema {
    ($(#[$doc:meta])* $name:ident: max $max:literal, rule $rule:literal, message $message:literal) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "maxLength": $max,
                    "x-kubernetes-validations": [{
                        "rule": $rule,
                        "message": $message,
                        "messageExpression": concat!("\"'\" + self + \"': ", $message, "\""),
                    }],
                })
            }
        }
    };
}

text_schema! {
    /// `model::IdcName`.
    IdcName: max 63,
    rule "self.matches('^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$')",
    message "an IDC name has 1 to 32 lower-case letters, digits and '-', starts with a letter and does not end with '-'"
}

text_schema! {
    /// The name of an object whose name is a DNS label: a Unit, a SyncLink.
    LabelName: max 63,
    rule "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
    message "a name of lower-case letters, digits and '-' is needed here, without dots"
}

text_schema! {
    /// The name of a Secret in the same namespace.
    SecretName: max 253,
    rule "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
    message "the name of a Secret in the same namespace is needed here: lower-case letters, digits, '-' and '.'"
}

text_schema! {
    /// A database of a Unit. The server's own and ours cannot be copied.
    DatabaseName: max 64,
    rule "size(self) > 0 && !(self.lowerAscii() in ['mysql', 'sys', 'information_schema', 'performance_schema', 'multiactive', 'ndbinfo'])",
    message "this database belongs to the server or to multiactive and is never copied; name the databases of your application"
}

text_schema! {
    /// A host name or an IP address.
    HostName: max 253,
    rule "self.matches('^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$') || isIP(self)",
    message "the host is a DNS name or an IP address without scheme, port or brackets, for example mysql.sh.example"
}

text_schema! {
    /// A pattern that selects tables.
    TablePattern: max 129,
    rule "self.matches('^[^.]+[.][^.]+$')",
    message "write a table as database.table, with * as wildcard, for example orders.* or orders.log_*"
}

text_schema! {
    /// A column of a table.
    CounterColumn: max 194,
    rule "self.matches('^[^.*]+[.][^.*]+[.][^.*]+$')",
    message "write a column as database.table.column, without wildcards, for example orders.stock.quantity"
}

text_schema! {
    /// An address that is fetched to see whether an application is well.
    HttpUrl: max 512,
    rule "isURL(self.replace('{idc}', 'idc')) && url(self.replace('{idc}', 'idc')).getScheme() == 'http' && url(self.replace('{idc}', 'idc')).getHostname() != ''",
    message "write a whole address that begins with http://, for example http://orders.{idc}.example/healthz, where {idc} stands for the IDC of each member"
}

macro_rules! bounded_duration {
    ($(#[$doc:meta])* $name:ident: from $least:literal to $most:literal) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut schema = crate::Duration::json_schema(generator);
                let bounds = serde_json::json!({
                    // What is no duration at all is the other rule's to say.
                    "rule": concat!(
                        "!self.matches('^[0-9]{1,6}(ms|s|m|h)$') || (duration(self) >= duration('",
                        $least, "') && duration(self) <= duration('", $most, "'))"
                    ),
                    "message": concat!("choose a duration from ", $least, " to ", $most),
                    "messageExpression": concat!(
                        "\"'\" + self + \"' is out of bounds: choose a duration from ",
                        $least, " to ", $most, "\""
                    ),
                });
                if let Some(serde_json::Value::Array(rules)) =
                    schema.ensure_object().get_mut("x-kubernetes-validations")
                {
                    rules.push(bounds);
                }
                schema
            }
        }
    };
}

bounded_duration! {
    /// Time between two looks.
    Interval: from "100ms" to "10m"
}

bounded_duration! {
    /// How long an answer may take.
    Timeout: from "50ms" to "1m"
}

bounded_duration! {
    /// How long every change may wait for company.
    Linger: from "0s" to "10s"
}

bounded_duration! {
    /// How far behind a copy may be.
    MaxLag: from "100ms" to "24h"
}
