//! Taking the schema away again. Nothing of the product does this by itself.

use crate::session::Engine;

/// The statements that take everything of ours out of a server, for a person to run there, once no
/// arbiter, syncer or writer uses it. It leaves `read_only` as it is.
pub fn uninstall_statements(engine: Engine) -> Vec<String> {
    let mut statements = vec![
        // Each member has a schema of its own, and dropping one must not drop the others.
        "SET SESSION sql_log_bin = 0".to_owned(),
        "DROP DATABASE IF EXISTS multiactive".to_owned(),
        "SET SESSION sql_log_bin = 1".to_owned(),
    ];
    if engine == Engine::MySql {
        statements.push("RESET PERSIST IF EXISTS read_only".to_owned());
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_is_never_logged() {
        for engine in [Engine::MySql, Engine::MariaDb] {
            let statements = uninstall_statements(engine);
            let of = |part: &str| statements.iter().position(|s| s.contains(part)).unwrap();
            assert!(of("sql_log_bin = 0") < of("DROP DATABASE"));
            assert!(of("DROP DATABASE") < of("sql_log_bin = 1"));
        }
    }
}
