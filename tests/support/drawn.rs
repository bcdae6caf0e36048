//! A temporary folder with drawn data, and what tests of the data commands do in it.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio, thread, time::Duration};

use super::{run_well, talkoot};

/// A temporary folder, in it `drawn` as `dataset synth` leaves it.
#[derive(Debug)]
pub(crate) struct Drawn(tempfile::TempDir);

impl Drawn {
    /// Draws so many pictures to learn and to hold out.
    pub(crate) fn new(train: u32, heldout: u32, seed: u64) -> Self {
        let drawn = Self(tempfile::tempdir().expect("a folder"));
        let out = drawn.text("drawn");
        let [train, heldout, seed] = [train.to_string(), heldout.to_string(), seed.to_string()];
        run_well(&[
            "dataset",
            "synth",
            "--out",
            &out,
            "--train",
            &train,
            "--heldout",
            &heldout,
            "--seed",
            &seed,
        ]);
        drawn
    }

    /// The file `name` in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The file `name` in the folder, as an argument of a command.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Names and contents of the files in the folder `name`, which has finished files only.
    pub(crate) fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("a file, not a folder of unfinished work"))
        };
        fs::read_dir(self.path(name)).expect("a folder").flatten().map(read).collect()
    }
}

/// The words of a command, those that are `fixed` and some more.
pub(crate) fn words(fixed: &[&str], more: &[&str]) -> Vec<String> {
    fixed.iter().chain(more).map(|&word| word.to_owned()).collect()
}

/// Runs a command, which has to succeed.
pub(crate) fn run_words(words: &[String]) -> String {
    run_well(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Starts a command and kills it some time after; whether it was still at work then.
pub(crate) fn kill_after(words: &[String], time: Duration) -> bool {
    let mut command = talkoot();
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    thread::sleep(time);
    let at_work = child.try_wait().expect("it can be asked").is_none();
    let _ = child.kill();
    child.wait().expect("it ends");
    at_work
}
