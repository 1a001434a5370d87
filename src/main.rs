//! The `catc` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    catc::cli::main()
}
