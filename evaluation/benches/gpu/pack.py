"""Packs what a GPU host without a network needs, in parts of a size that can be uploaded.

    python pack.py EVALUATION_BINARY OUTPUT_FOLDER [--part 60000000] [--cache DIR]

Runs `evaluation setup --gpu` for ONNX Runtime and the libraries of CUDA, and writes `part-00`, `part-01` and so on, with
`measure.py` and the sums of the parts beside them. Libraries of CUDA that the host has as Python packages can be left out
with `--without-cuda`: `evaluation` finds them there.
"""

import argparse
import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

PREFIXES = ("libonnxruntime.so", "libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so")


def libraries(cache, without_cuda):
    for path in sorted(cache.rglob("*.so*")):
        if path.is_file() and not path.is_symlink() and (path.name.startswith(PREFIXES) or not without_cuda):
            yield path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--part", type=int, default=60_000_000)
    parser.add_argument("--cache", type=pathlib.Path)
    parser.add_argument("--without-cuda", action="store_true")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        cache = options.cache or scratch / "cache"
        subprocess.run([options.binary, "setup", "--gpu", "--cache", cache], check=True)
        archive = scratch / "all.tar.xz"
        with tarfile.open(archive, "w:xz") as tar:
            tar.add(options.binary, "evaluation")
            for path in libraries(cache, options.without_cuda):
                tar.add(path, f"libraries/{path.name}")
        sums = []
        with archive.open("rb") as file:
            while part := file.read(options.part):
                name = f"part-{len(sums):02}"
                (options.output / name).write_bytes(part)
                sums.append(f"{hashlib.sha256(part).hexdigest()}  {name}\n")
    (options.output / "SHA256SUMS").write_text("".join(sums))
    shutil.copy(pathlib.Path(__file__).with_name("measure.py"), options.output)
    print(f"{len(sums)} parts in {options.output}")


if __name__ == "__main__":
    main()
