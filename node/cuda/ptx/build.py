#!/usr/bin/env python3
"""Makes the PTX that is embedded in the program from the kernels' sources, or checks that it is what they give.

    ptx/build.py           makes ptx/CLASS.json.z, and ptx/CLASS.sha256 with what it was made from
    ptx/build.py --check   makes them again and compares; exit 1 when they differ, 77 when NVRTC cannot be had
    ptx/build.py --assemble   goes on to machine code, as the driver does, and says what each kernel takes of a GPU

NVRTC, NVIDIA's compiler as a library, comes as a package from PyPI, pinned below with its hash. It needs no GPU, no
driver and no other part of CUDA. Version 12.0 is the oldest that knows compute capability 9.0; its PTX (ISA 8.0) is
taken by every driver since 525.
"""

import argparse
import ctypes
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib

PACKAGE = "nvidia-cuda-nvrtc-cu12==12.0.140"
WHEEL_SHA256 = "8e94e991d85c422de4da87bdc7472fdc1364367bd4aace7000b559cd33122071"
PLATFORM = "manylinux1_x86_64"

# of each class: the generations of GPUs that it is compiled for
CLASSES = {"codec": (75, 80, 89, 90), "exact": (75, 80, 89, 90), "fast": (80, 89, 90)}

# Nothing is contracted, subnormal numbers count, roots and quotients are IEEE's.
OPTIONS = ["--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"]

HERE = pathlib.Path(__file__).resolve().parent
KERNELS = HERE.parent / "kernels"


def fetch_nvrtc(folder):
    """The path of libnvrtc, from the pinned package."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
               f"--platform={PLATFORM}", f"--dest={folder}", PACKAGE]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"SKIPPED: {PACKAGE} cannot be fetched: {error}", file=sys.stderr)
        sys.exit(77)
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel.name} has SHA-256 {found}, not {WHEEL_SHA256}")
    zipfile.ZipFile(wheel).extractall(folder)
    libraries = pathlib.Path(folder) / "nvidia" / "cuda_nvrtc" / "lib"
    # the compiler looks for its built-in functions under their name alone: load them first
    ctypes.CDLL(str(next(libraries.glob("libnvrtc-builtins.so*"))), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(next(libraries.glob("libnvrtc.so*"))))


def compile_file(nvrtc, path, target, more=()):
    """A compiled program of one file for one target, and what the compiler said; ends when there is none."""
    program = ctypes.c_void_p()
    name = str(path.relative_to(KERNELS)).encode()
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), path.read_bytes(), name, 0, None, None):
        sys.exit(f"NVRTC does not take {name.decode()}")
    options = OPTIONS + [f"--gpu-architecture={target}", f"--include-path={KERNELS}", *more]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), array)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    said = log.value.decode().strip()
    if failed:
        sys.exit(f"{name.decode()}, {target}:\n{said}")
    return program, said


def compile_ptx(nvrtc, path, capability):
    """The PTX of one file for one generation."""
    program, said = compile_file(nvrtc, path, f"compute_{capability}")
    if said:
        print(f"{path.name}, compute_{capability}:\n{said}", file=sys.stderr)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    # without comments, empty lines, and constants of the compiler's own that nothing reads
    lines = (line.rstrip() for line in ptx.value.decode().splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//") and "nv6target" not in line) + "\n"


def assemble(nvrtc, kind):
    """What every kernel of a class takes: registers, bytes of spilled registers and of shared memory."""
    found = re.compile(r"entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers([^\n]*)", re.S)
    for path in sorted((KERNELS / kind).glob("*.cu")):
        for capability in CLASSES[kind]:
            program, said = compile_file(nvrtc, path, f"sm_{capability}", ["--ptxas-options=-v"])
            nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
            for name, target, spilled, registers, rest in found.findall(said):
                shared = re.search(r"(\d+) bytes smem", rest)
                print(f"{target} {name:32} {registers:>4} registers {spilled:>4} spilled"
                      f" {shared.group(1) if shared else 0:>6} shared")


def archive_of(nvrtc, kind):
    """A class's PTX as JSON. What differs between generations in the line `.target` alone is kept once."""
    texts, files = [], {}
    for path in sorted((KERNELS / kind).glob("*.cu")):
        generations = files.setdefault(path.relative_to(KERNELS).as_posix(), {})
        for capability in CLASSES[kind]:
            ptx = compile_ptx(nvrtc, path, capability)
            text = ptx.replace(f".target sm_{capability}\n", ".target sm_@\n", 1)
            assert text != ptx, "NVRTC says which generation it compiled for"
            if text not in texts:
                texts.append(text)
            generations[str(capability)] = texts.index(text)
    return json.dumps({"texts": texts, "files": files}, sort_keys=True).encode()


def sources_of(kind):
    """Files that decide a class's PTX: its own, and what they include."""
    waiting, found = sorted((KERNELS / kind).glob("*.cu")), set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [KERNELS / name for name in re.findall(r'^#include "(.+)"', path.read_text(), re.M)]
    return sorted(found)


def digests_of(kind):
    """What they were, as `sha256sum` writes it."""
    lines = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(KERNELS).as_posix()}\n"
             for path in sources_of(kind))
    return "".join(lines)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="compare with what is there, and write nothing")
    arguments.add_argument("--assemble", action="store_true", help="say what each kernel takes, and write nothing")
    arguments.add_argument("--class", dest="kind", choices=sorted(CLASSES), help="only this class")
    arguments = arguments.parse_args()
    different = []
    with tempfile.TemporaryDirectory() as folder:
        nvrtc = fetch_nvrtc(folder)
        for kind in [arguments.kind] if arguments.kind else sorted(CLASSES):
            if arguments.assemble:
                assemble(nvrtc, kind)
                continue
            made = archive_of(nvrtc, kind)
            target = HERE / f"{kind}.json.z"
            if not arguments.check:
                target.write_bytes(zlib.compress(made, 9))
                print(f"{target.name}: {len(made)} bytes, {target.stat().st_size} packed")
            elif not target.exists() or zlib.decompress(target.read_bytes()) != made:
                different.append(target.name)
            record = HERE / f"{kind}.sha256"
            if not arguments.check:
                record.write_text(digests_of(kind))
            elif not record.exists() or record.read_text() != digests_of(kind):
                different.append(record.name)
    if different:
        sys.exit(f"not what the sources give: {', '.join(different)}; run node/cuda/ptx/build.py")
    if arguments.check:
        print("the embedded PTX is what the sources give")


if __name__ == "__main__":
    main()
