"""`hpo` runs steering and evaluations that other people wrote for PanDA, unchanged.

    hpo_drives_python.py HPO HPOGRID BAYESIAN

BAYESIAN is the script `hyperparameteropt_bayesian.py` of iDDS. Its sister `hyperparameteropt_nevergrad.py` stops in the library that
it names ("bool check is not allowed", nevergrad 1.0.12), whoever starts it, so it is not tested.
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BAYESIAN = Path(sys.argv.pop(3)).absolute()
HPOGRID = Path(sys.argv.pop(2)).absolute()
HPO = Path(sys.argv.pop(1)).resolve()

SPACE = {
    "rate": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 0.1}},
    "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 5}},
}
# A payload as people write them: a shell script that reads its point with Python and knows nothing of us.
PAYLOAD = """
import json
point = json.load(open("input.json"))
if isinstance(point, list):
    point = point[1]
loss = float("nan") if point.get("layers") == 5 else (point.get("layers", 0) - 3) ** 2 + sum(v for v in point.values() if isinstance(v, float))
json.dump({"status": 0, "loss": loss, "message": ""}, open("output.json", "w"))
"""


class HpoDrivesPython(unittest.TestCase):
    def search(self, steering, space, points=6, more=()):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "space.json").write_text(json.dumps(space))
            (folder / "payload.py").write_text(PAYLOAD)
            command = [
                HPO, "run", "--taskDir", "task", "--outDS", "user.name.search", "--searchSpaceFile", "space.json",
                "--steeringContainer", "registry.example/steering:1", "--steeringExec", steering,
                "--evaluationContainer", "registry.example/evaluation:1", "--evaluationExec", f"{sys.executable} payload.py",
                "--containerRuntime", "none", "--maxPoints", str(points), "--nPointsPerIteration", "3",
                "--nParallelEvaluation", "2", "--maxAttempts", "1", *more,
            ]
            ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
            results = folder / "task" / "results.json"
            self.assertTrue(results.exists(), ran.stdout + ran.stderr)
            return ran, json.loads(results.read_text())

    def points(self, results):
        return [entry["point"] for entry in results["points"]]

    def test_hpogrid_with_three_libraries(self):
        for library in ("nevergrad", "skopt", "optuna"):
            with self.subTest(library=library):
                line = (
                    f'/bin/bash -c "{HPOGRID} generate --n_point %NUM_POINTS --max_point %MAX_POINTS '
                    f'--infile $PWD/%IN --outfile $PWD/%OUT --space $PWD/%IN -l {library}"'
                )
                ran, results = self.search(line, SPACE)
                points = self.points(results)
                self.assertEqual(len(points), 6, ran.stdout + ran.stderr)
                for point in points:
                    self.assertTrue(1e-4 <= point["rate"] <= 0.1 and point["layers"] in range(1, 6), point)

    def test_hpogrid_with_segments(self):
        with tempfile.TemporaryDirectory() as folder:
            segments = Path(folder, "segments.json")
            files = [Path(folder, f"{name}.npy") for name in "ab"]
            for file in files:
                file.write_bytes(b"")
            segments.write_text(json.dumps([{"name": name, "files": [file.name]} for name, file in zip("ab", files)]))
            line = f"{HPOGRID} generate -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT -s %IN -l nevergrad"
            more = ["--segmentSpecFile", str(segments), "--trainingDS", f"{folder}/*.npy"]
            ran, results = self.search(line, SPACE, 3, more)
            self.assertEqual(len(results["points"]), 6, ran.stdout + ran.stderr)

    def test_the_bayesian_script_of_idds(self):
        python = HPOGRID.parent / "python"
        line = f"{python} {BAYESIAN} --max_points=%MAX_POINTS --num_points=%NUM_POINTS --input=%IN --output=%OUT"
        ran, results = self.search(line, {"rate": [0.0, 1.0], "drop": [0.1, 0.6]}, more=["--steeringTimeout", "2m"])
        points = self.points(results)
        self.assertEqual(len(points), 6, ran.stdout + ran.stderr)
        for point in points:
            self.assertTrue(0 <= point["rate"] <= 1 and 0.1 <= point["drop"] <= 0.6, point)


if __name__ == "__main__":
    unittest.main(verbosity=2)
