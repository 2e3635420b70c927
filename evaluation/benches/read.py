"""CPU time to read a table in every format: `evaluation data` against numpy, pandas, pyarrow, h5py, netCDF4 and uproot.

    python read.py EVALUATION_BINARY [--rows 200000] [--rounds 5] > result.json

Needs numpy, pandas, pyarrow, h5py, netCDF4 and uproot. The table has 28 single-precision columns and a label; the files
are written once to a scratch folder. Ours is the whole process, start and the count of missing values included; theirs
is the call that leaves arrays in memory, without start and imports, on one thread where the library has that choice.
CPU time is measured, user and system, so that other load on the machine matters little.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import h5py
import netCDF4
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import uproot

COLUMNS = 28


def write(folder, rows):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(rows, COLUMNS)).astype("f4")
    label = (values[:, 0] > 0).astype("i4")
    frame = pd.DataFrame(values, columns=[f"x{at}" for at in range(COLUMNS)])
    frame["y"] = label
    table = pa.Table.from_pandas(frame, preserve_index=False)
    np.save(folder / "t.npy", values)
    np.savez_compressed(folder / "t.npz", x=values, y=label)
    frame.to_csv(folder / "t.csv", index=False, float_format="%.6g")
    pq.write_table(table, folder / "t.parquet")
    feather.write_feather(table, folder / "t.feather", compression="lz4")
    with h5py.File(folder / "t.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(4096, COLUMNS), compression="gzip", shuffle=True)
        file["y"] = label
    with netCDF4.Dataset(folder / "t.nc", "w") as file:
        file.createDimension("row", rows)
        file.createDimension("feature", COLUMNS)
        file.createVariable("x", "f4", ("row", "feature"), zlib=True)[:] = values
        file.createVariable("y", "i4", ("row",))[:] = label
    with uproot.recreate(folder / "t.root") as file:
        tree = file.mktree("t", {name: frame[name].dtype for name in frame.columns})
        tree.extend({name: frame[name].to_numpy() for name in frame.columns})


def read_hdf5(path):
    with h5py.File(path) as file:
        return file["x"][:], file["y"][:]


def read_netcdf(path):
    with netCDF4.Dataset(path) as file:
        return file["x"][:], file["y"][:]


def read_npz(path):
    with np.load(path) as file:
        return file["x"], file["y"]


THEIRS = [
    ("t.npy", "numpy", np.load),
    ("t.npz", "numpy", read_npz),
    ("t.csv", "pandas", pd.read_csv),
    ("t.csv", "pyarrow", lambda path: pa.csv.read_csv(path, read_options=pa.csv.ReadOptions(use_threads=False)).to_pandas()),
    ("t.parquet", "pyarrow", lambda path: pq.read_table(path, use_threads=False).to_pandas()),
    ("t.feather", "pyarrow", lambda path: feather.read_table(path, use_threads=False, memory_map=False).to_pandas()),
    ("t.h5", "h5py", read_hdf5),
    ("t.nc", "netCDF4", read_netcdf),
    ("t.root", "uproot", lambda path: uproot.open(path)["t"].arrays(library="np")),
]


def ours(binary, path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([binary, "data", str(path)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def theirs(read, path):
    before = time.process_time()
    read(path)
    return time.process_time() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write(folder, options.rows)
        print("| format | ours, rows/s | library | its rows/s | ours to its |", file=sys.stderr)
        print("| --- | --- | --- | --- | --- |", file=sys.stderr)
        for name, library, read in THEIRS:
            path = folder / name
            times = [(ours(options.binary, path), theirs(read, path)) for _ in range(options.rounds)]
            mine = statistics.median(pair[0] for pair in times)
            other = statistics.median(pair[1] for pair in times)
            case = {
                "format": path.suffix[1:],
                "bytes": path.stat().st_size,
                "library": library,
                "ours_rows_per_second": round(options.rows / mine),
                "theirs_rows_per_second": round(options.rows / other),
                "ratio": round(other / mine, 2),
            }
            cases.append(case)
            cells = [case["format"], f"{case['ours_rows_per_second']:,}", library]
            cells += [f"{case['theirs_rows_per_second']:,}", f"{case['ratio']} ×"]
            print(f"| {' | '.join(cells)} |", file=sys.stderr)
    versions = {
        module.__name__: module.__version__ for module in (np, pd, pa, h5py, netCDF4, uproot)
    }
    facts = {"rows": options.rows, "columns": COLUMNS + 1, "rounds": options.rounds, "cores": os.cpu_count()}
    print(json.dumps({**facts, "versions": versions, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
