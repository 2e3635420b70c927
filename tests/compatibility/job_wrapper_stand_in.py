#!/usr/bin/env python3
"""Stands in for `runHPO`, the wrapper that PanDA puts around an evaluation: the real one is in no package index.

Written from a description of what the real one reads, writes and returns, for the mode in which it asks no server: points come
from `JobsEventRanges.json`, losses go to `event_status.dump`. What `runHPO` does for single steps, for files that are read from afar
and for servers is not here: options of these are accepted and without effect.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.parse
import uuid
import zlib
from pathlib import Path

CORRUPT_ARCHIVE, NO_INPUT, NO_POINT, NO_MORE_POINTS, NO_OUTPUT, ENOUGH_POINTS = 9, 7, 11, 12, 13, 14
LARGEST_CHECKPOINT, LARGEST_METADATA = 100, 1 << 20  # mebibytes, bytes

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("-o", "-j", "-p", "-a", "-i", "-l", "--inSampleFile", "--sourceURL", "--writeInputToTxt", "--inMap", "--outMetaFile",
             "--outMetricsFile", "--segmentID", "--checkPointToSave", "--checkPointToLoad", "--pandaURL", "--iddsURL"):
    parser.add_argument(name, default="")
parser.add_argument("--checkPointInterval", type=int, default=5)
parser.add_argument("--maxLoopCount", type=int)
for name in ("--preprocess", "--coprocess", "--postprocess", "--debug"):
    parser.add_argument(name, action="store_true")
options = parser.parse_args()

JOB = Path.cwd()
WORK = JOB / "workDir"
SAMPLE = WORK / "__hpo_sample.txt"
STATUS = JOB / "event_status.dump"
PANDA_ID = os.environ.get("PandaID") or os.environ["PANDAID"]
ITERATION = os.environ.get("PILOT_EXEC_ITERATION_COUNT")


def leave(code, reason):
    print("ERROR:", reason)
    (JOB / "payload_error_report.json").write_text(json.dumps({"error_code": 5500 + code, "error_diag": reason}))
    sys.exit(code)


def unpacked(archive):
    """Whether it could be; what comes out is as new as now."""
    return subprocess.run(["tar", "xzmf", archive], cwd=WORK).returncode == 0


def preprocess():
    if options.maxLoopCount and ITERATION and int(ITERATION) >= options.maxLoopCount:
        leave(ENOUGH_POINTS, "the job has had all the points that it may have")
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    if options.a:
        (WORK / options.a).symlink_to(Path("..", options.a))
        if not unpacked(options.a):
            leave(CORRUPT_ARCHIVE, f"`{options.a}` is corrupted")
    command = urllib.parse.unquote(options.p)
    streams = ast.literal_eval(options.inMap or "{}")
    wanted = list(dict.fromkeys(ast.literal_eval(options.i or "[]") + [name for names in streams.values() for name in names]))
    found = [name for name in wanted if (JOB / name).exists()]
    if wanted and not found:
        leave(NO_INPUT, "no training file is here")
    for name in found:
        (WORK / name).symlink_to(Path("..", name))
    listed = dict(pair.split(":") for pair in options.writeInputToTxt.split(",") if pair)
    for stream, names in streams.items():
        command = re.sub(f"%{re.escape(stream)}(?=[ \"']|$)", lambda _: ",".join(names) + " ", command)
        if stream in listed:
            (WORK / listed[stream]).write_text(json.dumps(names))
    point_of_job()
    script = JOB / "__run_main_exec.sh"
    script.write_text(f"cd workDir\nexport PATH=$PATH:.\n{options.j} {command}\n")
    script.chmod(0o755)
    (JOB / "__payload_in_sync_file__").touch()


def point_of_job():
    """Without a server there is one point at a time: the first that stands in the file."""
    try:
        ranges = json.loads((JOB / "JobsEventRanges.json").read_text())[PANDA_ID]
        events = ranges[0]["eventRanges"] if ranges else []
        if not events:
            leave(NO_MORE_POINTS, "there is no point for this job")
        event, point = events[0], events[0]["hp_point"]
        number = event["eventRangeID"].split("-")[3]
        SAMPLE.write_text(f"{event['eventRangeID']},{number}")
        (WORK / options.inSampleFile).write_text(json.dumps(point["parameters"]))
    except (ValueError, LookupError, TypeError) as error:
        leave(NO_POINT, f"the point cannot be had: {error!r}")
    if options.checkPointToSave and event.get("checkpoint"):
        if options.checkPointToLoad:
            shutil.move(event["checkpoint"], WORK / options.checkPointToLoad)
        else:
            unpacked(event["checkpoint"])


def coprocess():
    """Packs the checkpoints whenever one of their files is as new as the last look at them, until it is killed."""
    os.chdir(WORK)
    event, number = SAMPLE.read_text().split(",")
    paths = options.checkPointToSave.split(",")
    packed = Path(f"{event.split('-')[0]}_{number}")
    looked = time.time()
    while True:
        files = [file for path in map(Path, paths) for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
        fresh = any(changed(file) >= looked for file in files)
        looked = time.time()
        if fresh and subprocess.run(["tar", "czf", f"{packed}.tmp", *paths], capture_output=True).returncode == 0:
            if Path(f"{packed}.tmp").stat().st_size >> 20 <= LARGEST_CHECKPOINT:
                os.replace(f"{packed}.tmp", packed)
                if not STATUS.exists():
                    content = packed.read_bytes()
                    entry = {"guid": str(uuid.uuid4()), "path": str(packed.resolve()), "fsize": len(content), "type": "checkpoint",
                             "chksum": f"{zlib.adler32(content):08x}"}
                    STATUS.write_text(json.dumps({PANDA_ID: [entry]}))
        time.sleep(60 * options.checkPointInterval)


def changed(file):
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0


def postprocess():
    for name in ("__payload_in_sync_file__", "__payload_out_sync_file__"):
        (JOB / name).unlink(missing_ok=True)
    event, number = SAMPLE.read_text().split(",")
    output = WORK / options.o
    missing = not output.exists()
    if not missing:
        try:
            document = json.loads(output.read_text())
            if document.get("status", 0) == 0:
                STATUS.write_text(json.dumps({PANDA_ID: [{"eventRangeID": event, "eventStatus": "finished", "loss": document["loss"]}]}))
            else:
                print("ERROR: evaluation failed:", document["status"], document.get("message"))
        except (ValueError, LookupError, AttributeError) as error:
            print("ERROR: there is no loss:", repr(error))
        shutil.move(output, JOB / options.o)
    report = JOB / "jobReport.json"
    content = json.loads(report.read_text()) if ITERATION is not None and report.exists() else {}
    metadata = WORK / options.outMetaFile
    if options.outMetaFile and metadata.is_file() and metadata.stat().st_size <= LARGEST_METADATA:
        try:
            content.setdefault("user_job_metadata", {}).update(json.loads(metadata.read_text()))
            content.setdefault("reportVersion", "1.0.0")
        except (ValueError, TypeError) as error:
            print("WARNING: the metadata cannot be read:", error)
    if options.outMetricsFile:
        target, source = options.outMetricsFile.split("^")
        target = f"{target}_{ITERATION}" if ITERATION is not None else target
        if (WORK / source).exists():
            with tarfile.open(JOB / target, "w:gz") as archive:
                archive.add(WORK / source, f"{source}_{number}")
            entry = {"file_guid": str(uuid.uuid4()), "file_size": (JOB / target).stat().st_size, "name": target, "nentries": 1}
            content.setdefault("files", {}).setdefault("output", []).append({"subFiles": [entry]})
    if content:
        report.write_text(json.dumps(content))
    if not options.debug:
        shutil.rmtree(WORK)
    if missing:
        leave(NO_OUTPUT, f"`{options.o}` does not exist")


if options.preprocess:
    preprocess()
elif options.coprocess:
    coprocess()
elif options.postprocess:
    postprocess()
else:
    sys.exit("only --preprocess, --coprocess and --postprocess are stood in for")
