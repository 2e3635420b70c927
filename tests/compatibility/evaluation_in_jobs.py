"""`evaluation` runs inside of PanDA's jobs: the pilot's own loop, the command lines that phpo makes, and the job wrapper.

    python evaluation_in_jobs.py EVALUATION [--wrapper runHPO-00-00-01]

Stood in for: the wrapper, which is in no package index (`job_wrapper_stand_in.py`, unless `--wrapper` names the real one, which then
passes the same checks), the server that makes jobs of a task, Harvester, which hands out points as files, the image of the
evaluation (its command runs on this machine), and the pilot's patience with processes that it has killed.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import types
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
parser = argparse.ArgumentParser()
parser.add_argument("evaluation", type=Path)
parser.add_argument("--wrapper", type=Path, default=HERE / "job_wrapper_stand_in.py")
arguments = parser.parse_args()
EVALUATION = arguments.evaluation.resolve()
WRAPPER = arguments.wrapper.resolve()
DATA = HERE.parents[1] / "examples/digits/digits.csv.gz"

for variable in ("PANDA_URL", "PANDA_URL_SSL", "PANDACACHE_URL"):
    os.environ[variable] = "https://server.invalid:25443/server/panda"
# Programs of this machine in the place of those of an image.
os.environ["PATH"] = os.pathsep.join([str(EVALUATION.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ |= {"PANDA_BEHIND_REAL_LB": "1", "PILOT_USER": "atlas", "PAYLOAD_OFFLINE_MODE": "1", "PANDAID": "777", "PanDA_TaskID": "100"}
with contextlib.redirect_stdout(io.StringIO()):
    from pandaclient import PhpoScript
    from pilot.control.payloads import generic
    from pilot.info.jobdata import JobData
logging.disable(logging.CRITICAL)
generic.send_state = lambda *_, **__: True
# It looks whether a payload has ended once a second; how long it waits for one that it ends stays as it is.
generic.time = types.SimpleNamespace(time=time.time, gmtime=time.gmtime, sleep=lambda seconds: time.sleep(seconds if seconds > 1 else 0.03))
generic.kill_processes = lambda process, **_: os.killpg(process, signal.SIGKILL)

# Exit codes of the wrapper, of today and of before June 2025.
NO_MORE_POINTS, NO_OUTPUT, ENOUGH_POINTS = {12, 160}, {13, 150}, {14, 162}

MODEL = {
    "data": {"inputs": "all others", "targets": -1, "header": False, "scale": 0.0625, "split": {"validation": 0.2, "seed": 1}},
    "model": {"blocks": [{"dense": {"units": "$units", "activation": "relu"}}]},
    "loss": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": "$rate"},
    "training": {"epochs": 2, "batch_size": 128, "seed": 1},
}
COMMAND = "evaluation --model model.json --offline --meta meta.json --metrics metrics.tgz"
TASK = {
    "outDS": "user.me.search", "evaluationContainer": "docker://image:1", "evaluationExec": COMMAND, "steeringExec": "none",
    "trainingDS": "user.me.digits", "evaluationMeta": "meta.json", "evaluationMetrics": "metrics.tgz",
}


def job_of(options):
    """What a job of the task is told: the steps that phpo writes, with what the server puts in the place of names."""
    sys.argv = ["phpo"]
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        os.chdir(folder)
        Path("segments.json").write_text(json.dumps([{"name": "barrel", "files": ["a"]}, {"name": "end cap", "files": ["b"]}]))
        given = [f"--{name}={value}" for name, value in options.items()]
        task = PhpoScript.main(True, given, dry_mode=True)
        os.chdir(before)
    text, archive = "", None
    for part in task["jobParameters"]:
        if part.get("hidden"):
            result = part["value"]
        elif "value" in part:
            text += str(part["value"]) + ("" if part.get("padding") is False else " ")
    archive = re.search(r"-a (\S+)", text)[1]
    names = {"${IN_DATA/T}": "['digits.csv.gz']", "${OUTPUT0}": result, "${SEGMENT_ID}": "12", "${SEGMENT_NAME}": "barrel"}
    names |= {"${MIDDLENAME}": "barrel", "$JEDITASKID": "100", "${SN}": "000001"}
    for name, value in names.items():
        text = text.replace(name, value)
    steps = task["multiStepExec"]
    for step in ("preprocess", "coprocess", "postprocess"):
        if step in steps:
            words = {key: value.replace("${TRF_ARGS}", text).replace("${TRF}", f"./{WRAPPER.name}") for key, value in steps[step].items()}
            steps[step] = words
    return steps, archive


class Job(generic.Executor):
    """A job of the pilot, to which points are handed one by one."""

    def __init__(self, room, points, options=(), model=(), checkpoint=None, stop_at_checkpoint=False):
        self.room = room
        room.mkdir()
        steps, archive = job_of({**TASK, **dict(options)})
        merged = {**MODEL, "training": {**MODEL["training"], **dict(model)}}
        with tarfile.open(room / archive, "w:gz") as sandbox:
            content = json.dumps(merged).encode()
            member = tarfile.TarInfo("./model.json")
            member.size = len(content)
            sandbox.addfile(member, io.BytesIO(content))
        shutil.copy(DATA, room / DATA.name)
        shutil.copy(WRAPPER, room / WRAPPER.name)
        (room / WRAPPER.name).chmod(0o755)
        self.command = steps["containerOptions"]["containerExec"]
        data = {"PandaID": 777, "taskID": 100, "isHPO": True, "transformation": f"http://server.invalid/trf/{WRAPPER.name}",
                "containerOptions": steps["containerOptions"]}
        data |= {name: steps[name] for name in ("preprocess", "coprocess", "postprocess") if name in steps}
        job = JobData(data)
        job.workdir = str(room)
        job.infosys = types.SimpleNamespace(queuedata=types.SimpleNamespace(catchall=""))
        self.graceful_stop = threading.Event()
        pilot = types.SimpleNamespace(timing={}, graceful_stop=self.graceful_stop, debug=False)
        self.log = open(room / "payload.txt", "w")
        super().__init__(pilot, job, self.log, subprocess.STDOUT, types.SimpleNamespace(pilot={}))
        self.waiting = list(enumerate(points, 4))
        self.checkpoint = checkpoint
        self.stop_at_checkpoint = stop_at_checkpoint
        self.codes, self.inputs, self.statuses, self.outputs = {}, [], [], []

    def execute(self):
        """Returns what the pilot says of the payload."""
        watch = threading.Thread(target=self.keep_checkpoint) if self.stop_at_checkpoint else None
        if watch:
            watch.start()
        code = self.run()[0]
        if watch:
            watch.join()
        self.log.close()
        self.said = (self.room / "payload.txt").read_text()
        return code

    def keep_checkpoint(self):
        """As Harvester does: takes the archive away when the wrapper announces it. Then the job is ended from outside."""
        announced = self.room / "event_status.dump"
        while True:
            # It is there before it is whole.
            with contextlib.suppress(FileNotFoundError, ValueError):
                [self.archive] = json.loads(announced.read_text())["777"]
                break
            time.sleep(0.01)
        self.archive["copy"] = self.room.with_suffix(".checkpoint")
        shutil.copy(self.archive["path"], self.archive["copy"])
        announced.unlink()
        self.graceful_stop.set()

    # What the pilot calls.
    def get_payload_command(self, job):
        return self.command

    def should_verify_setup(self):
        return False

    def extract_setup(self, command):
        return ""

    def utility_after_payload_started(self, job):
        """No monitor of memory."""

    def run_preprocess(self, job):
        events = []
        if self.waiting:
            number, point = self.waiting.pop(0)
            events = [{"eventRangeID": f"100-777-0-{number}-5", "hp_point": {"id": str(number), "parameters": point, "loss": None}}]
            if self.checkpoint:
                events[0]["checkpoint"] = str(self.checkpoint)
        (self.room / "JobsEventRanges.json").write_text(json.dumps({"777": [{"eventRanges": events}]}))
        code = super().run_preprocess(job)
        if code == 0:
            self.inputs.append(json.loads((self.room / "workDir/input.json").read_text()))
        return code

    def execute_utility_command(self, command, job, label):
        code = super().execute_utility_command(command, job, label)
        self.codes.setdefault(label, []).append(code)
        if label == "postprocess":
            status, output = self.room / "event_status.dump", self.room / "output.json"
            self.statuses.append(json.loads(status.read_text())["777"] if status.exists() else None)
            self.outputs.append(json.loads(output.read_text()) if output.exists() else None)
            status.unlink(missing_ok=True)
        return code


class EvaluationInJobs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.room = Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def alone(self, point, training=()):
        """The loss that the point has without a job."""
        folder = self.room / "alone"
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps({**MODEL, "training": {**MODEL["training"], **dict(training)}}))
        (folder / "input.json").write_text(json.dumps(point))
        subprocess.run([EVALUATION, "--model", "model.json", "--data", DATA, "--offline", "--quiet"], cwd=folder, check=True,
                       capture_output=True)
        return json.loads((folder / "output.json").read_text())["loss"]

    def test_a_job_evaluates_point_after_point(self):
        points = [{"units": 8, "rate": 0.01}, {"units": 12, "rate": 0.003}]
        job = Job(self.room / "job", points)
        job.execute()
        self.assertEqual(job.inputs, points, job.said)
        self.assertEqual(job.codes["preprocess"][:2] + job.codes["postprocess"], [0] * 4)
        self.assertIn(job.codes["preprocess"][2], NO_MORE_POINTS)
        for number, status, output in zip((4, 5), job.statuses, job.outputs, strict=True):
            expected = {"eventRangeID": f"100-777-0-{number}-5", "eventStatus": "finished", "loss": output["loss"]}
            self.assertEqual(status, [expected])
            self.assertEqual(output["status"], 0)
        self.assertEqual(job.outputs[1]["loss"], self.alone(points[1]))
        report = json.loads((job.room / "jobReport.json").read_text())
        metadata = report["user_job_metadata"]
        self.assertEqual((report["reportVersion"], metadata["hyperparameters"], metadata["loss"]),
                         ("1.0.0", points[1], job.outputs[1]["loss"]))
        self.assertEqual(metadata["data"]["files"], ["digits.csv.gz"], "the list that the wrapper writes is read")
        for turn, (number, entry) in enumerate(zip((4, 5), report["files"]["output"], strict=True)):
            [file] = entry["subFiles"]
            self.assertEqual(file["name"], f"100.metrics.000001.tgz_{turn}")
            self.assertEqual(file["file_size"], (job.room / file["name"]).stat().st_size)
            with tarfile.open(job.room / file["name"]) as outer:
                self.assertEqual(outer.getnames(), [f"metrics.tgz_{number}"])
                with tarfile.open(fileobj=outer.extractfile(f"metrics.tgz_{number}")) as inner:
                    self.assertTrue(any(name.endswith("learning_curve.csv") for name in inner.getnames()))

    def test_a_job_ends_after_the_points_that_it_may_have(self):
        job = Job(self.room / "job", [{"units": 8, "rate": 0.01}] * 3, {"maxPointsPerEvaluationJob": 1})
        job.execute()
        self.assertEqual((len(job.inputs), job.codes["preprocess"][0], len(job.statuses)), (1, 0, 1))
        self.assertIn(job.codes["preprocess"][1], ENOUGH_POINTS)

    def test_a_point_that_fails_reports_no_loss_and_says_why(self):
        job = Job(self.room / "job", [{"units": 8, "rate": "fast"}, {"units": 8, "rate": 0.01}])
        code = job.execute()
        self.assertEqual((code, job.codes["postprocess"], job.statuses), (2, [0], [None]))
        self.assertEqual(job.outputs[0]["status"], 1)
        self.assertIn("rate", job.outputs[0]["message"])
        self.assertEqual(len(job.inputs), 1, "a job whose evaluation fails has no further point")

    def test_a_loss_that_is_not_finite_is_a_failure(self):
        job = Job(self.room / "job", [{"units": 8, "rate": 1e30}])
        self.assertEqual((job.execute(), job.statuses), (1, [None]))
        self.assertEqual(job.outputs[0]["status"], 1)

    def test_an_evaluation_that_leaves_nothing_fails_the_job(self):
        job = Job(self.room / "job", [{"units": 8, "rate": 0.01}], {"evaluationExec": "evaluation run --output elsewhere/output.json"})
        self.assertEqual(job.execute(), 3)
        self.assertIn(job.codes["postprocess"][0], NO_OUTPUT)
        self.assertEqual(job.statuses, [None])

    def test_a_point_of_a_segment_and_names_in_the_command(self):
        options = {"segmentSpecFile": "segments.json", "evaluationExec": f"{COMMAND} --data %IN_DATA && echo trained %SEGMENT_NAME"}
        job = Job(self.room / "job", [[0, {"units": 8, "rate": 0.01}]], options)
        job.execute()
        self.assertEqual(job.inputs, [[0, {"units": 8, "rate": 0.01}]])
        self.assertEqual([status[0]["eventStatus"] for status in job.statuses], ["finished"], job.said)
        self.assertIn("\ntrained barrel\n", job.said)
        self.assertTrue((job.room / "barrel.100.metrics.000001.tgz_0").exists())

    def test_a_job_that_is_ended_leaves_a_checkpoint_from_which_the_next_goes_on(self):
        point, long = {"units": 8, "rate": 0.01}, {"epochs": 80}
        # An interval of no minutes: whatever is new is packed at once.
        options = {"checkPointToSave": "checkpoint", "checkPointInterval": "0",
                   "evaluationExec": f"{COMMAND} --checkpoint checkpoint --checkpoint-interval 0"}
        first = Job(self.room / "first", [point], options, long, stop_at_checkpoint=True)
        self.assertNotEqual(first.execute(), 0)
        self.assertEqual(first.outputs[0]["status"], 1)
        self.assertIn("ended by SIGTERM", first.outputs[0]["message"])
        self.assertNotIn("loss", json.dumps(first.statuses), "no loss is reported")
        self.assertEqual((first.archive["type"], Path(first.archive["path"]).name), ("checkpoint", "100_4"))
        loading = {"checkPointToLoad": "left.tgz", "evaluationExec": f"tar xzf left.tgz && {options['evaluationExec']}"}
        losses = []
        for name, more in (("unpacked", {}), ("packed", loading)):
            checkpoint = shutil.copy(first.archive["copy"], self.room / "handed.tgz")
            second = Job(self.room / name, [point], {**options, **more}, long, checkpoint=checkpoint)
            second.execute()
            [[status]] = second.statuses
            self.assertEqual(status.get("eventStatus"), "finished", second.said)
            metadata = json.loads((second.room / "jobReport.json").read_text())["user_job_metadata"]
            self.assertTrue(0 < metadata["resumed_from"] < 80, metadata["resumed_from"])
            losses.append(status["loss"])
        self.assertEqual(losses, [self.alone(point, long)] * 2, "resumed is as uninterrupted")


if __name__ == "__main__":
    if WRAPPER.name == "job_wrapper_stand_in.py":
        print("the wrapper is stood in for; `--wrapper runHPO-00-00-01` takes the real one")
    unittest.main(argv=sys.argv[:1])
