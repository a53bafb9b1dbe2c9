//! Writes the YAML of the custom resource definitions, or with `--check` compares it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crds::generate::{GeneratedFile, files};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => false,
        ["--check"] => true,
        _ => {
            eprintln!("usage: crds-codegen [--check]");
            return ExitCode::from(2);
        }
    };
    let files = match files() {
        Ok(files) => files,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let results: Vec<Result<bool, String>> = files
        .iter()
        .map(|file| if check { compare(file) } else { write(file) })
        .collect();
    let mut stale = 0;
    for result in results {
        match result {
            Ok(true) => {}
            Ok(false) => stale += 1,
            Err(message) => {
                eprintln!("{message}");
                return ExitCode::FAILURE;
            }
        }
    }
    if stale > 0 {
        eprintln!(
            "{stale} generated files are not what the types say: run `cargo xtask codegen` and commit the result"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The repository: the parent of this crate's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn compare(file: &GeneratedFile) -> Result<bool, String> {
    let path = root().join(&file.path);
    let present = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let same = present == file.content;
    if !same {
        eprintln!("{} differs", file.path);
    }
    Ok(same)
}

fn write(file: &GeneratedFile) -> Result<bool, String> {
    let path = root().join(&file.path);
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(&path, &file.content).map_err(failed)?;
    println!("{}", file.path);
    Ok(true)
}
