//! The known forms of statements.

use super::names::Words;
use super::tokens::{Token, tokens};

/// What a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It makes, changes or removes objects.
    Ddl,
    /// Accounts, privileges, maintenance, temporary tables: nothing that a link carries.
    Ignored,
    /// It changes rows: the binlog is not in row format.
    Rows,
    /// A server-side EVENT, which would run at the target too.
    ServerEvent,
}

/// How an object is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// By the link's table patterns: tables, views, and what hangs on a table.
    Table,
    /// By its database.
    Other,
}

/// An object that a statement touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its database.
    pub database: String,
    /// Its name; `None`: the database itself.
    pub name: Option<String>,
    /// How it is selected.
    pub scope: Scope,
}

/// A statement as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// What it is.
    pub class: Class,
    /// For example `ALTER TABLE`.
    pub verb: String,
    /// What it touches.
    pub objects: Vec<Object>,
}

/// Why a statement cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unclear(pub String);

impl Unclear {
    pub(super) fn name(found: Option<&Token>) -> Self {
        Self(match found {
            Some(Token::Word(text) | Token::Name(text) | Token::Text(text)) => {
                format!("{text:?} stands where a name is expected")
            }
            Some(Token::Symbol(symbol)) => format!("{symbol:?} stands where a name is expected"),
            None => "it ends where a name is expected".to_owned(),
        })
    }
}

/// Reads a statement. `default_database` may be empty.
pub fn classify(
    statement: &[u8],
    default_database: &str,
    sql_mode: u64,
) -> Result<Classified, Unclear> {
    let tokens = tokens(statement, sql_mode).map_err(|error| Unclear(error.to_string()))?;
    let mut words = Words::new(&tokens, default_database);
    let Some(Token::Word(first)) = words.next() else {
        return Err(Unclear("it does not begin with a word".to_owned()));
    };
    match first.to_ascii_uppercase().as_str() {
        "CREATE" => create(&mut words),
        "ALTER" => alter(&mut words),
        "DROP" => drop_objects(&mut words),
        "RENAME" => rename(&mut words),
        "TRUNCATE" => {
            words.skip("TABLE");
            ddl("TRUNCATE TABLE", vec![words.object(Scope::Table)?])
        }
        verb @ ("GRANT" | "REVOKE" | "SET" | "FLUSH" | "ANALYZE" | "OPTIMIZE" | "REPAIR"
        | "CHECK" | "CHECKSUM" | "INSTALL" | "UNINSTALL") => ignored(verb),
        verb @ ("INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "CALL" | "DO" | "SELECT"
        | "WITH") => Ok(Classified {
            class: Class::Rows,
            verb: verb.to_owned(),
            objects: mentioned(&tokens, default_database),
        }),
        other => Err(Unclear(format!(
            "statements that begin with {other} are not known"
        ))),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the last word of functions that can fail"
)]
fn ddl(verb: &str, objects: Vec<Object>) -> Result<Classified, Unclear> {
    Ok(Classified {
        class: Class::Ddl,
        verb: verb.to_owned(),
        objects,
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the last word of functions that can fail"
)]
fn ignored(verb: &str) -> Result<Classified, Unclear> {
    Ok(Classified {
        class: Class::Ignored,
        verb: verb.to_owned(),
        objects: Vec::new(),
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the last word of functions that can fail"
)]
fn server_event(verb: &str, object: Object) -> Result<Classified, Unclear> {
    Ok(Classified {
        class: Class::ServerEvent,
        verb: verb.to_owned(),
        objects: vec![object],
    })
}

/// Every database that a statement may mean: each name before a dot, and the default one.
fn mentioned(tokens: &[Token], default_database: &str) -> Vec<Object> {
    let object = |database: &str| Object {
        database: database.to_owned(),
        name: None,
        scope: Scope::Other,
    };
    let mut objects = vec![object(default_database)];
    for pair in tokens.windows(2) {
        if let [Token::Word(name) | Token::Name(name), Token::Symbol('.')] = pair {
            objects.push(object(name));
        }
    }
    objects
}

/// Kinds of objects that belong to the server and not to a database.
const SERVER_OBJECTS: [&str; 8] = [
    "USER",
    "ROLE",
    "SERVER",
    "TABLESPACE",
    "UNDO",
    "LOGFILE",
    "RESOURCE",
    "INSTANCE",
];

/// Passes over `DEFINER = user@host` and the like: what can stand between CREATE or ALTER and the
/// kind of object.
fn skip_attributes(words: &mut Words<'_>) -> Result<(), Unclear> {
    loop {
        if words.skip("DEFINER") {
            words.symbol('=');
            // user, 'user', CURRENT_USER, CURRENT_USER(), user@host
            words.next();
            if words.symbol('(') {
                words.symbol(')');
            }
            if words.symbol('@') {
                words.next();
                // A host name without quotes: its parts.
                while words.symbol('.') || words.symbol('%') || words.symbol('-') {
                    words.next();
                }
            }
        } else if words.skip("ALGORITHM") {
            words.symbol('=');
            words.next();
        } else if words.skip_all(&["SQL", "SECURITY"]) {
            words.next();
        } else if words.skip_all(&["OR", "REPLACE"])
            || words.skip("AGGREGATE")
            || words.skip("ONLINE")
            || words.skip("OFFLINE")
            || words.skip("IGNORE")
        {
            // Says nothing about the object.
        } else {
            return Ok(());
        }
    }
}

fn kind_of(words: &mut Words<'_>) -> Result<String, Unclear> {
    match words.next() {
        Some(Token::Word(word)) => Ok(word.to_ascii_uppercase()),
        other => Err(Unclear::name(other)),
    }
}

fn create(words: &mut Words<'_>) -> Result<Classified, Unclear> {
    skip_attributes(words)?;
    if words.skip_all(&["SPATIAL", "REFERENCE"]) {
        return ignored("CREATE SPATIAL REFERENCE SYSTEM");
    }
    if words.skip("TEMPORARY") {
        return ignored("CREATE TEMPORARY TABLE");
    }
    let _index_kind = words.skip("UNIQUE") || words.skip("FULLTEXT") || words.skip("SPATIAL");
    let kind = kind_of(words)?;
    words.skip_if();
    let verb = format!("CREATE {kind}");
    match kind.as_str() {
        "TABLE" | "VIEW" | "SEQUENCE" => ddl(&verb, vec![words.object(Scope::Table)?]),
        "DATABASE" | "SCHEMA" => ddl("CREATE DATABASE", vec![words.database()?]),
        "INDEX" => index(&verb, words),
        "TRIGGER" => {
            let _name = words.object(Scope::Other)?;
            trigger_table(&verb, words)
        }
        "PROCEDURE" | "FUNCTION" => routine(&verb, words),
        "PACKAGE" => {
            words.skip("BODY");
            words.skip_if();
            ddl(&verb, vec![words.object(Scope::Other)?])
        }
        "EVENT" => server_event(&verb, words.object(Scope::Other)?),
        kind if SERVER_OBJECTS.contains(&kind) => ignored(&verb),
        _ => Err(Unclear(format!("{verb} is not known"))),
    }
}

/// A loadable function (`CREATE FUNCTION name RETURNS type SONAME file`) belongs to the server.
fn routine(verb: &str, words: &mut Words<'_>) -> Result<Classified, Unclear> {
    let name = words.object(Scope::Other);
    if words.skip("RETURNS") && words.find("SONAME") {
        return ignored(verb);
    }
    ddl(verb, vec![name?])
}

fn index(verb: &str, words: &mut Words<'_>) -> Result<Classified, Unclear> {
    if words.find("ON") {
        ddl(verb, vec![words.object(Scope::Table)?])
    } else {
        Err(Unclear("an index without its table".to_owned()))
    }
}

fn trigger_table(verb: &str, words: &mut Words<'_>) -> Result<Classified, Unclear> {
    if words.find("ON") {
        ddl(verb, vec![words.object(Scope::Table)?])
    } else {
        Err(Unclear("a trigger without its table".to_owned()))
    }
}

fn alter(words: &mut Words<'_>) -> Result<Classified, Unclear> {
    skip_attributes(words)?;
    let kind = kind_of(words)?;
    let verb = format!("ALTER {kind}");
    match kind.as_str() {
        "TABLE" => {
            words.skip_if();
            alter_table(words)
        }
        "VIEW" | "SEQUENCE" => {
            words.skip_if();
            ddl(&verb, vec![words.object(Scope::Table)?])
        }
        "DATABASE" | "SCHEMA" => ddl("ALTER DATABASE", vec![altered_database(words)?]),
        "PROCEDURE" | "FUNCTION" => ddl(&verb, vec![words.object(Scope::Other)?]),
        "EVENT" => {
            words.skip_if();
            server_event(&verb, words.object(Scope::Other)?)
        }
        kind if SERVER_OBJECTS.contains(&kind) => ignored(&verb),
        _ => Err(Unclear(format!("{verb} is not known"))),
    }
}

/// The name may be left out: an option follows at once.
fn altered_database(words: &mut Words<'_>) -> Result<Object, Unclear> {
    const OPTIONS: [&str; 8] = [
        "CHARACTER",
        "CHARSET",
        "COLLATE",
        "DEFAULT",
        "ENCRYPTION",
        "READ",
        "COMMENT",
        "UPGRADE",
    ];
    if OPTIONS.iter().any(|option| words.is(option)) {
        words.default_database()
    } else {
        words.database()
    }
}

fn alter_table(words: &mut Words<'_>) -> Result<Classified, Unclear> {
    let mut objects = vec![words.object(Scope::Table)?];
    let mut depth = 0i32;
    while let Some(token) = words.next() {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            token if depth == 0 && token.is("RENAME") => {
                let part = ["COLUMN", "INDEX", "KEY"].iter().any(|part| words.is(part));
                if !part {
                    let _ = words.skip("TO") || words.skip("AS") || words.symbol('=');
                    objects.push(words.object(Scope::Table)?);
                }
            }
            token if depth == 0 && token.is("EXCHANGE") && words.find("WITH") => {
                words.skip("TABLE");
                objects.push(words.object(Scope::Table)?);
            }
            token
                if depth == 0
                    && token.is("CONVERT")
                    && words.is("PARTITION")
                    && words.find("TO")
                    && words.skip("TABLE") =>
            {
                objects.push(words.object(Scope::Table)?);
            }
            _ => {}
        }
    }
    ddl("ALTER TABLE", objects)
}

fn drop_objects(words: &mut Words<'_>) -> Result<Classified, Unclear> {
    if words.skip("TEMPORARY") {
        return ignored("DROP TEMPORARY TABLE");
    }
    if words.skip_all(&["SPATIAL", "REFERENCE"]) {
        return ignored("DROP SPATIAL REFERENCE SYSTEM");
    }
    let kind = kind_of(words)?;
    words.skip_if();
    let verb = format!("DROP {kind}");
    match kind.as_str() {
        "TABLE" | "TABLES" => ddl("DROP TABLE", words.list(Scope::Table)?),
        "VIEW" | "VIEWS" => ddl("DROP VIEW", words.list(Scope::Table)?),
        "SEQUENCE" => ddl(&verb, words.list(Scope::Table)?),
        "DATABASE" | "SCHEMA" => ddl("DROP DATABASE", vec![words.database()?]),
        "INDEX" => index(&verb, words),
        "TRIGGER" | "PROCEDURE" => ddl(&verb, vec![words.object(Scope::Other)?]),
        // A loadable function has no database; without a default one it is what is meant.
        "FUNCTION" => match words.object(Scope::Other) {
            Ok(object) => ddl(&verb, vec![object]),
            Err(_) => ignored(&verb),
        },
        "PACKAGE" => {
            words.skip("BODY");
            words.skip_if();
            ddl(&verb, vec![words.object(Scope::Other)?])
        }
        "EVENT" => server_event(&verb, words.object(Scope::Other)?),
        "PREPARE" => ignored(&verb),
        kind if SERVER_OBJECTS.contains(&kind) => ignored(&verb),
        _ => Err(Unclear(format!("{verb} is not known"))),
    }
}

fn rename(words: &mut Words<'_>) -> Result<Classified, Unclear> {
    if words.skip("USER") {
        return ignored("RENAME USER");
    }
    if !words.skip("TABLE") && !words.skip("TABLES") {
        return Err(Unclear(
            "RENAME of something that is neither table nor user".to_owned(),
        ));
    }
    words.skip_if();
    let mut objects = Vec::new();
    loop {
        objects.push(words.object(Scope::Table)?);
        // MariaDB allows WAIT n and NOWAIT here.
        if words.skip("WAIT") {
            words.next();
        }
        words.skip("NOWAIT");
        if !words.skip("TO") {
            return Err(Unclear("RENAME TABLE without TO".to_owned()));
        }
        objects.push(words.object(Scope::Table)?);
        if !words.symbol(',') {
            return ddl("RENAME TABLE", objects);
        }
    }
}
