"""`hpo submit --backend panda` makes the task parameters that `phpo` makes, key by key; phpo's own code is the oracle.

    phpo_parameters.py HPO
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HPO = Path(sys.argv.pop(1)).resolve()
CACHE = "https://cache.invalid:25443/server/panda"
# The client resolves its servers when it is imported.
for key in ("PANDA_URL", "PANDA_URL_SSL", "PANDACACHE_URL"):
    os.environ[key] = CACHE
os.environ["PANDA_BEHIND_REAL_LB"] = "1"
from pandaclient import PhpoScript  # noqa: E402

NEEDED = {
    "outDS": "user.name.search",
    "evaluationContainer": "docker://image:1",
    "evaluationExec": "python train.py",
    "steeringContainer": "docker://steering:2",
    "steeringExec": "hpogrid generate -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT",
}
SPACE = {"rate": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 0.1}}}
SEGMENTS = [{"name": "barrel", "files": ["a.root", "b.root"]}, {"name": "end cap's", "datasets": ["d"]}, {"name": "x"}]

# What is added to, or taken from (None), the needed options. Odd ones included: nothing is checked by the original.
CASES = {
    "the least": {},
    "no steering image": {"steeringContainer": None},
    "all counts": {"nParallelEvaluation": 7, "maxPoints": 33, "maxEvaluationJobs": 50, "nPointsPerIteration": 4,
                   "minUnevaluatedPoints": 3, "maxPointsPerEvaluationJob": 5},
    "zeros": {"nParallelEvaluation": 0, "maxPoints": 0, "minUnevaluatedPoints": 0, "maxPointsPerEvaluationJob": 0},
    "numbers as strings": {"maxPoints": "12", "nPointsPerIteration": "3"},
    "files": {"evaluationInput": "point.json", "evaluationOutput": "loss.json", "evaluationMeta": "meta.json",
              "evaluationMetrics": "metrics.tgz", "trainingDS": "user.name.data/", "evaluationTrainingData": "list.json"},
    "checkpoints": {"checkPointToSave": "a.h5, b", "checkPointToLoad": "old.tgz", "checkPointInterval": 3},
    "a checkpoint to load alone": {"checkPointToLoad": "old.tgz", "checkPointInterval": 3},
    "where": {"site": "ONE", "workingGroup": "group", "architecture": "#x86_64-*-avx2&nvidia", "alrbArgs": "--nv -B /data"},
    "several sites": {"site": "ONE, TWO,,ONE,THREE"},
    "no mail": {"noEmail": True},
    "a trailing slash": {"outDS": "user.name.search/"},
    "a space": {"searchSpaceFile": "space.json"},
    "segments": {"searchSpaceFile": "space.json", "segmentSpecFile": "segments.json", "trainingDS": "user.name.data/",
                 "evaluationMetrics": "metrics.tgz", "maxEvaluationJobs": 9},
    "segments with spaces of their own": {"searchSpaceFile": "spaces.json", "segmentSpecFile": "segments.json"},
    "segments without a space": {"segmentSpecFile": "segments.json"},
    "quotes": {"evaluationExec": "bash -c \"echo 'it''s' & ./run; exit $?\" > log 2>&1"},
    "letters of the world": {"evaluationExec": "python 训练.py --näme=é"},
    "placeholders": {"evaluationExec": "run --data %IN_DATA --name=%SEGMENT_NAME,%SEGMENT_NAMEX (%RNDM:12) %RNDM=3% {%MAXEVENTS;%SKIPEVENTS}"},
    "more placeholders": {"evaluationExec": "%FIRSTEVENT:7 a%DB:current.db b=%DB=x'%RNDM:0'%RNDM %MAXEVENT"},
    "server placeholders": {"evaluationExec": "echo ${SEQNUMBER} pre${MAXEVENTS}post ${SEGMENT_NAME/x} ${OTHER}"},
    "an empty command": {"evaluationExec": ""},
    "odd steering": {"steeringExec": "run --rm -v \"$(pwd)\":/HPOiDDS image /bin/bash -c \"x %IN %OUT\""},
}
WITHOUT = ("outDS", "evaluationContainer", "evaluationExec", "steeringExec")


@contextlib.contextmanager
def work_directory():
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("space.json").write_text(json.dumps(SPACE))
        Path("spaces.json").write_text(json.dumps([{"model_id": 0, "search_space": SPACE}]))
        Path("segments.json").write_text(json.dumps(SEGMENTS))
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def theirs(arguments):
    sys.argv = ["phpo"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return PhpoScript.main(True, list(arguments), dry_mode=True)


def ours(arguments):
    command = [HPO, "submit", "--backend", "panda", "--noSubmit", "--dumpTaskParams", "parameters.json", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    path = Path("parameters.json")
    return ran.returncode, json.loads(path.read_text()) if path.exists() else None, ran.stderr


def comparable(parameters):
    """Without the name that is drawn at random, and the record of the command line, which names the program."""
    text = re.sub(r"jobO\.[0-9a-f-]{36}\.tar", "jobO.tar", json.dumps(parameters))
    found = json.loads(text)
    found.pop("cliParams")
    return found


class PhpoParameters(unittest.TestCase):
    maxDiff = None

    def same(self, arguments):
        expected = theirs(arguments)
        code, found, said = ours(arguments)
        self.assertEqual(code, 0, said)
        self.assertEqual(comparable(found), comparable(expected))

    def test_options_of_the_command_line(self):
        for name, changes in CASES.items():
            options = {key: value for key, value in {**NEEDED, **changes}.items() if value is not None}
            arguments = []
            for key, value in options.items():
                arguments += [f"--{key}"] if value is True else [f"--{key}={value}"]
            with self.subTest(case=name), work_directory():
                self.same(arguments)

    def test_options_of_a_file(self):
        for name, changes in CASES.items():
            options = {key: value for key, value in {**NEEDED, **changes}.items() if value is not None}
            with self.subTest(case=name), work_directory() as folder:
                (folder / "task.json").write_text(json.dumps(options))
                self.same(["--loadJson", "task.json"])

    def test_abbreviated_options(self):
        with work_directory():
            arguments = [f"--{key}={value}" for key, value in NEEDED.items()]
            self.same([*arguments, "--nParallel", "3", "--nPoints", "4"])

    def test_a_missing_option_is_named(self):
        for missing in WITHOUT:
            with self.subTest(missing=missing), work_directory():
                arguments = [f"--{key}={value}" for key, value in NEEDED.items() if key != missing]
                with self.assertRaises(SystemExit):
                    theirs(arguments)
                code, found, said = ours(arguments)
                self.assertNotEqual(code, 0)
                self.assertIsNone(found)
                self.assertIn(missing, said)

    def test_unknown_options_have_the_same_exit_code(self):
        with work_directory():
            for option in (["--nGPU", "1"], ["--maxPoints", "many"]):
                arguments = [*(f"--{key}={value}" for key, value in NEEDED.items()), *option]
                with self.assertRaises(SystemExit) as ended:
                    theirs(arguments)
                self.assertEqual((ended.exception.code, ours(arguments)[0]), (2, 2))


if __name__ == "__main__":
    unittest.main(verbosity=2)
