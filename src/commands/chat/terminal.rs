//! A conversation line by line, typed by somebody or read from a pipe.

use std::{
    io::{BufRead, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Result, bail};

use super::Talk;
use crate::commands::{one_line, tell};

/// What can be typed besides questions.
const HELP: &str = "\
/image FILE   shows a picture with the next question
/reset        forgets what was said and shown
/quit         ends, as the end of the input does
anything else is said to the model";

/// Reads turns until the input ends. What goes wrong is told and the conversation goes on; where nobody watches, the exit
/// code says it too.
pub(super) fn converse(talk: &mut Talk<'_>, watched: bool) -> Result<ExitCode> {
    if watched {
        tell("Ask, or type /help.");
    }
    let mut failed = false;
    let mut line = String::new();
    loop {
        if watched {
            eprint!("> ");
            let _ = std::io::stderr().flush();
        }
        line.clear();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            break;
        }
        match obey(talk, line.trim()) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                failed = true;
                tell(&format!("talkoot: {}", one_line(&error)));
            }
        }
    }
    Ok(if failed && !watched { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Does what a line asks for; whether the conversation goes on.
fn obey(talk: &mut Talk<'_>, line: &str) -> Result<bool> {
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match command {
        "" => {}
        "/quit" => return Ok(false),
        "/reset" => talk.reset(),
        "/help" => tell(HELP),
        "/image" if rest.trim().is_empty() => bail!("/image needs a file"),
        "/image" => talk.show(Path::new(rest.trim()))?,
        _ if command.starts_with('/') => bail!("there is no {command}; /help tells what there is"),
        _ => talk.turn(line)?,
    }
    Ok(true)
}
