//! The demo's processes: this program, started several times.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How often a process or file that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// One process of the demo.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: String,
    arguments: Vec<String>,
    threads: usize,
    log: PathBuf,
    child: Option<Child>,
}

impl Actor {
    /// Prepares a process that computes with `threads` threads; its output goes to `logs/<name>.log`.
    pub(super) fn new(dir: &Path, name: &str, threads: usize, arguments: Vec<String>) -> Self {
        let log = dir.join("logs").join(format!("{name}.log"));
        Self { name: name.to_owned(), arguments, threads, log, child: None }
    }

    /// Starts it.
    pub(super) fn start(&mut self) -> Result<()> {
        if let Some(parent) = self.log.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("opening {}", self.log.display()))?;
        let program = std::env::current_exe().context("finding this program's own file")?;
        let child = Command::new(program)
            .args(&self.arguments)
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it at once, as a power cut would.
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().with_context(|| format!("killing {}", self.name))?;
            child.wait()?;
        }
        Ok(())
    }

    /// How it ended, when it has; none while it runs.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// Waits until it ends by itself.
    pub(super) fn wait(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// The last line of its log, for messages.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned()
    }
}

impl Drop for Actor {
    /// A demo that fails leaves no processes behind.
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Waits for `path`, which `actor` is to write after `since`, and reads it.
pub(super) fn wait_for_file(path: &Path, actor: &mut Actor, limit: Duration) -> Result<String> {
    let start = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(path)
            && !text.trim().is_empty()
        {
            return Ok(text.trim().to_owned());
        }
        if let Some(status) = actor.ended()? {
            bail!("{} ended ({status}): {}", actor.name, actor.last_words());
        }
        if start.elapsed() > limit {
            bail!("{} did not write {}: {}", actor.name, path.display(), actor.last_words());
        }
        std::thread::sleep(LOOK);
    }
}
