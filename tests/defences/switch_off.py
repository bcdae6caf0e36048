#!/usr/bin/env python3
"""Switches each defence of `defences.toml` off, one at a time, and requires that its test fails.

A copy of the tree is made, the checkout stays as it is. In the copy every defence gets a switch that is read at run time,

    code   becomes   if <TALKOOT_SWITCHED_OFF names this defence> { off } else { code }

so that one build serves all of them. Each test has to pass with nothing switched off, and to fail by an assertion of its
own, not by a hang or a signal, with its defence switched off.

    tests/defences/switch_off.py --check          seconds: the table against the sources, and the threat model against the tests
    tests/defences/switch_off.py                  everything: one build of the workspace, then the tests
    tests/defences/switch_off.py ban liar         only the defences whose name contains one of these words
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("defences.toml")
THREATS = ROOT / "docs/threat-model.md"
SWITCH = "TALKOOT_SWITCHED_OFF"
# A test that hangs with its defence off is no proof: nothing was asserted. Far above what the slowest takes.
PATIENCE_S = 900
FIELDS = {"name", "against", "file", "code", "off", "package", "target", "tests"}


def defences():
    """The rows of the table; complains about a row that lacks something."""
    rows = tomllib.loads(TABLE.read_text())["defence"]
    for row in rows:
        if set(row) != FIELDS:
            raise SystemExit(f"{row.get('name', row)}: has to have exactly the fields {sorted(FIELDS)}")
        if not re.fullmatch(r"[a-z0-9-]+", row["name"]):
            raise SystemExit(f"{row['name']!r}: a name is of a-z, 0-9 and -")
    names = [row["name"] for row in rows]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SystemExit(f"names that stand twice: {sorted(twice)}")
    return rows


def members():
    """Where each package of the workspace lies, by its name."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())
    found = {workspace["package"]["name"]: ROOT}
    for member in workspace["workspace"]["members"]:
        manifest = tomllib.loads((ROOT / member / "Cargo.toml").read_text())
        found[manifest["package"]["name"]] = ROOT / member
    return found


def sources(folder):
    """The Rust files of a package, without those of packages inside it."""
    for path in sorted(folder.rglob("*.rs")):
        inner = path.parent
        while inner != folder and not (inner / "Cargo.toml").exists():
            inner = inner.parent
        if inner == folder and "target" not in path.relative_to(folder).parts:
            yield path


def test_names():
    """Every test function, and the packages that have one of that name."""
    found = {}
    for package, folder in members().items():
        for path in sources(folder):
            for name in re.findall(r"\bfn ([a-z0-9_]+)\s*\(", path.read_text()):
                found.setdefault(name, set()).add(package)
    return found


def check():
    """What is wrong between table, sources, tests and threat model; seconds, and no build."""
    wrong, known = [], test_names()
    for row in defences():
        count = (ROOT / row["file"]).read_text().count(row["code"])
        if count != 1:
            wrong.append(f"{row['name']}: its code occurs {count} times in {row['file']}, not once: {row['code']!r}")
        for test in row["tests"]:
            if row["package"] not in known.get(test, ()):
                wrong.append(f"{row['name']}: there is no test {test} in {row['package']}")
    for name in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+){2,})`", THREATS.read_text()):
        if name not in known and not name.endswith("_s"):
            wrong.append(f"{THREATS.relative_to(ROOT)}: there is no test {name}")
    return wrong


def with_switch(row):
    """The code of a defence with its switch."""
    asked = (
        "{ static OFF: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| "
        f'std::env::var_os("{SWITCH}").is_some_and(|name| name == "{row["name"]}")); *OFF }}'
    )
    chosen = f"if {asked} {{ {row['off']} }} else {{ {row['code']} }}"
    # a statement stands as it is, a block too; an expression may stand inside another one
    return chosen if row["code"].rstrip().endswith((";", "}")) else f"({chosen})"


def copy_tree(copy, rows):
    """Brings the copy up to date, touching only files that differ, so that a build in it stays warm."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True,
    )
    files = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    changed = {}
    for row in rows:
        text = changed.get(row["file"]) or (ROOT / row["file"]).read_text()
        if text.count(row["code"]) != 1:
            raise SystemExit(f"{row['name']}: its code lies within another defence's, or is not there once")
        changed[row["file"]] = text.replace(row["code"], with_switch(row))
    for name in sorted(files):
        target, source = copy / name, ROOT / name
        content = changed[name].encode() if name in changed else source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            shutil.copymode(source, target)
    for path in sorted(copy.rglob("*.rs")):
        name = path.relative_to(copy).as_posix()
        if name not in files and not name.startswith("target/"):
            path.unlink()
    # tests look for the material of the house beside the checkout
    beside = ROOT.parent / "shared"
    if beside.exists() and not (copy.parent / "shared").exists():
        (copy.parent / "shared").symlink_to(beside)


def build(copy, target, said, rows):
    """Builds the tests that the rows name; the executables by package and target."""
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target))
    # of the whole workspace, so that crates have the features that they have everywhere else
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics", "--lib"]
    for name in sorted({row["target"] for row in rows} - {"lib"}):
        command += ["--test", name]
    # what is switched off leaves things unused behind: the warnings are of no interest
    with open(said, "w") as log:
        built = subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    if built.returncode:
        raise SystemExit(f"the copy does not build; {said} says why")
    executables = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("profile", {}).get("test"):
            manifest = Path(message["manifest_path"])
            package = tomllib.loads(manifest.read_text())["package"]["name"]
            kind = message["target"]["kind"][0]
            name = message["target"]["name"] if kind == "test" else kind
            executables[package, name] = (message["executable"], manifest.parent)
    return executables


def run_test(executable, folder, test, switched_off):
    """Runs one test; how it ended (`passed`, `failed`, `skipped`, ...) and its first words."""
    environment = {key: value for key, value in os.environ.items() if key != SWITCH}
    if switched_off:
        environment[SWITCH] = switched_off
    listed = subprocess.run([executable, "--list"], cwd=folder, env=environment, capture_output=True, text=True)
    full = [line[:-6] for line in listed.stdout.splitlines() if line.endswith(": test")]
    full = [name for name in full if name == test or name.endswith("::" + test)]
    if len(full) != 1:
        return "not there", f"{len(full)} tests of this name"
    command = [executable, "--exact", full[0], "--include-ignored", "--nocapture"]
    running = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said = running.communicate(timeout=PATIENCE_S)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        # its children too; they are all in the session that was begun for it
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        return "hung", f"no end after {PATIENCE_S} s"
    if running.returncode == 0:
        return ("skipped", first(r"SKIP.*", said)) if re.search(r"\bSKIP", said) else ("passed", "")
    panic = re.search(r"panicked at [^\n]*\n(.*?)(?:\nnote: |\nstack backtrace|\Z)", said, re.DOTALL)
    if running.returncode == 101 and panic and f"test {full[0]}" in said:
        return "failed", " ".join(panic.group(1).split())[:160]
    return "broken", f"exit code {running.returncode}: " + " ".join(said.split())[-160:]


def first(pattern, text):
    found = re.search(pattern, text)
    return found.group(0)[:160] if found else ""


def try_out(rows, executables, report):
    """Every test with nothing off and with its defence off; how many did not do as they should."""
    whole, bad = {}, 0
    for row in rows:
        place = executables.get((row["package"], row["target"]))
        if place is None:
            raise SystemExit(f"{row['name']}: {row['package']} has no target {row['target']}")
        for test in row["tests"]:
            begun = time.monotonic()
            key = (*place, test)
            if key not in whole:
                whole[key] = run_test(*key, None)
            verdict, words = whole[key]
            if verdict == "passed":
                verdict, words = run_test(*key, row["name"])
                verdict = {"failed": "noticed", "passed": "NOT NOTICED"}.get(verdict, verdict.upper())
            else:
                verdict = {"skipped": "skipped"}.get(verdict, f"{verdict.upper()} WITH NOTHING OFF")
            bad += verdict not in ("noticed", "skipped")
            seconds = time.monotonic() - begun
            print(f"{verdict:12} {row['name']:32} {test} ({seconds:.0f} s) {words}", flush=True)
            cell = words.replace("|", "\\|")
            report.write(f"| {row['against']} | {row['name']} | `{test}` | {verdict} | {cell} |\n")
            report.flush()
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only defences whose name contains one of these")
    parser.add_argument("--check", action="store_true", help="the table alone, in seconds")
    parser.add_argument("--copy", type=Path, default=ROOT / "target/defences/tree", help="where the copy is made")
    parser.add_argument("--target-dir", type=Path, help="cargo's target folder for it; beside the copy by default")
    parser.add_argument("--out", type=Path, default=ROOT / "target/defences/report.md", help="the table of results")
    given = parser.parse_args()
    wrong = check()
    if wrong:
        raise SystemExit("\n".join(wrong))
    rows = defences()
    if given.check:
        print(f"{len(rows)} defences stand where the table says, and their tests are there")
        return
    copy = given.copy.resolve()
    if copy == ROOT:
        raise SystemExit("the copy has to be another folder than the checkout")
    copy.mkdir(parents=True, exist_ok=True)
    # all of them, whatever was asked for: another set would be another build
    copy_tree(copy, rows)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    executables = build(copy, (given.target_dir or copy.parent / "target").resolve(), given.out.with_suffix(".log"), rows)
    chosen = [row for row in rows if not given.words or any(word in row["name"] for word in given.words)]
    with open(given.out, "w") as report:
        report.write("| against | defence | test | switched off | the test says |\n|---|---|---|---|---|\n")
        bad = try_out(chosen, executables, report)
    print(f"{given.out}: {len(chosen)} defences, {bad} not as they should be")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
