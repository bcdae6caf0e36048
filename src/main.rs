//! The `talkoot` command line: one file per subcommand, no logic of its own.

mod commands;
mod demo;
mod progress;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    match arguments.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("talkoot: {}", commands::one_line(&error));
            ExitCode::FAILURE
        }
    }
}
