//! From a `.cu` file to a library of the processor.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use talkoot_cuda::kernels::File;

/// Folder of the kernels' sources.
pub(crate) const KERNELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cuda/kernels");
/// Folder of what stands for CUDA.
const RUNTIME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/runtime");

/// Nothing is contracted, as for GPUs; vectors are free, since they round alike.
const OPTIONS: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-march=native",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-U_FORTIFY_SOURCE",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-Wno-unused-function",
    "-Wno-unused-variable",
];

/// Compilers that are tried, after the one that the variable `CXX` names.
const COMPILERS: [&str; 2] = ["g++", "clang++"];

/// The first compiler that answers; `None` where there is none.
pub(crate) fn compiler() -> Option<String> {
    let named = env::var("CXX").ok().into_iter();
    let mut tried = named.chain(COMPILERS.map(str::to_owned));
    tried.find(|name| Command::new(name).arg("--version").output().is_ok_and(|said| said.status.success()))
}

/// The library of a file: compiled, or found as it was compiled before from the same sources.
///
/// # Errors
///
/// What the compiler says.
pub(crate) fn library_of(compiler: &str, sources: &Path, file: &File) -> Result<PathBuf, String> {
    let say = |error: io::Error| format!("{}: {error}", file.path);
    let program = program_of(file);
    let folder = folder();
    fs::create_dir_all(&folder).map_err(say)?;
    let library = folder.join(format!("{}.so", name_of(compiler, sources, file, &program).map_err(say)?));
    if library.exists() {
        return Ok(library);
    }
    // under names of this process, then renamed: tests of several processes compile at the same time
    let own = folder.join(format!("{}-{}", file.path.replace('/', "-"), std::process::id()));
    let (source, made) = (own.with_extension("cpp"), own.with_extension("so.part"));
    fs::write(&source, &program).map_err(say)?;
    let said = compile(compiler, sources, &source, &made).map_err(say)?;
    if !said.status.success() {
        return Err(format!("{} does not compile:\n{}", file.path, String::from_utf8_lossy(&said.stderr)));
    }
    fs::rename(&made, &library).map_err(say)?;
    let _gone = fs::remove_file(&source);
    Ok(library)
}

fn compile(compiler: &str, sources: &Path, source: &Path, to: &Path) -> io::Result<Output> {
    let folders = [format!("-I{}", sources.display()), format!("-I{KERNELS}"), format!("-I{RUNTIME}")];
    Command::new(compiler).args(OPTIONS).args(folders).arg(source).arg("-o").arg(to).output()
}

/// The file's kernels, each made known.
fn program_of(file: &File) -> String {
    let mut program = format!("#include \"cuda.h\"\n#include \"{}\"\n", file.path);
    program.push_str("#pragma GCC visibility push(default)\n");
    for kernel in file.kernels {
        program.push_str(&format!("EMULATED({})\n", kernel.name));
    }
    program.push_str("#pragma GCC visibility pop\n");
    program
}

/// A name that says what a library was made from: all that the compiler may read.
fn name_of(compiler: &str, sources: &Path, file: &File, program: &str) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(compiler.as_bytes()).update(OPTIONS.concat().as_bytes()).update(program.as_bytes());
    hasher.update(&fs::read(sources.join(file.path))?);
    let beside = sources.join(file.path).parent().map(Path::to_owned);
    for folder in beside.into_iter().chain([Path::new(KERNELS).join("shared"), RUNTIME.into()]) {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "cuh" || ending == "h"));
        paths.sort();
        for path in paths {
            hasher.update(&fs::read(path)?);
        }
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Where libraries are kept: beside what cargo builds.
fn folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    target.join("emulated-kernels")
}
