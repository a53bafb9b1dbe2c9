//! Snapshots for tests: a text compared with a file beside the sources.

use std::path::PathBuf;

/// Compares `actual` with `cli/snapshots/<name>.txt`; with `UPDATE_SNAPSHOTS=1` writes it instead.
///
/// # Panics
/// When they differ, or when there is no such file.
pub fn assert_snapshot(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("snapshots")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; UPDATE_SNAPSHOTS=1 writes it", path.display())
    });
    assert!(
        expected == actual,
        "{name} differs; UPDATE_SNAPSHOTS=1 accepts it\n--- expected\n{expected}\n--- actual\n{actual}"
    );
}
