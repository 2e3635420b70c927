"""`hpogrid generate` and `steering` answer the same question: same counts, points of the same kind, segments paired alike.

    hpogrid_beside_steering.py STEERING HPOGRID
"""

import itertools
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HPOGRID = Path(sys.argv.pop(2)).resolve()
STEERING = Path(sys.argv.pop(1)).resolve()

# What works in all libraries of hpogrid.
SPACE = {
    "rate": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 0.1}},
    "drop": {"method": "uniform", "dimension": {"low": 0.0, "high": 0.6}},
    "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 5}},
    "optimizer": {"method": "categorical", "dimension": {"categories": ["sgd", "adam"]}},
}
DONE = {"rate": 0.01, "drop": 0.1, "layers": 2, "optimizer": "adam"}
PENDING = {"rate": 0.02, "drop": 0.2, "layers": 3, "optimizer": "sgd"}
GRID = {
    "a": {"method": "categorical", "dimension": {"categories": [1, 2, 3]}},
    "b": {"method": "categorical", "dimension": {"categories": ["x", "y"]}},
}


class Folder:
    """A work directory in which both programs are asked the same."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name)
        (self.path / "hpogrid").symlink_to(STEERING)

    def ask(self, program, arguments, points, space=SPACE):
        (self.path / "in.json").write_text(json.dumps({"points": points, "opt_space": space}))
        (self.path / "space.json").write_text(json.dumps(SPACE))
        out = self.path / "out.json"
        out.unlink(missing_ok=True)
        ran = subprocess.run([program, "generate", *arguments], cwd=self.path, capture_output=True, text=True, timeout=300)
        answer = json.loads(out.read_text()) if out.exists() else None
        return ran.returncode, answer, ran.stdout + ran.stderr

    def both(self, arguments, points, space=SPACE):
        theirs = self.ask(HPOGRID, arguments, points, space)
        ours = self.ask(self.path / "hpogrid", arguments, points, space)
        return theirs, ours


ARGUMENTS = ["-s", "space.json", "-i", "in.json", "-o", "out.json"]


class HpogridBesideSteering(unittest.TestCase):
    def setUp(self):
        self.folder = Folder()
        self.addCleanup(self.folder.folder.cleanup)

    def valid(self, point):
        self.assertEqual(set(point), set(SPACE))
        self.assertTrue(1e-4 <= point["rate"] <= 0.1 and 0 <= point["drop"] <= 0.6, point)
        self.assertTrue(type(point["layers"]) is int and 1 <= point["layers"] <= 5, point)
        self.assertIn(point["optimizer"], ("sgd", "adam"))

    def test_every_library_gives_as_many_valid_points(self):
        points = [[DONE, 0.5], [PENDING, None]]
        for library in ("nevergrad", "skopt", "hyperopt", "optuna"):
            with self.subTest(library=library):
                theirs, ours = self.folder.both([*ARGUMENTS, "-n", "3", "-m", "20", "-l", library], points)
                self.assertEqual((theirs[0], ours[0]), (0, 0), theirs[2] + ours[2])
                # One of the three is still being evaluated.
                self.assertEqual((len(theirs[1]), len(ours[1])), (2, 2))
                for point in theirs[1] + ours[1]:
                    self.valid(point)

    def test_enough_pending_points_are_answered_with_none(self):
        points = [[PENDING, None], [DONE, None]]
        theirs, ours = self.folder.both([*ARGUMENTS, "-n", "2", "-l", "nevergrad"], points)
        self.assertEqual((theirs[1], ours[1]), ([], []), theirs[2] + ours[2])

    def test_failed_and_non_finite_losses_are_no_obstacle(self):
        points = [[DONE, float("nan")], [PENDING, float("inf")], [dict(DONE, layers=4), 100000.0], [dict(DONE, layers=5), 0.0]]
        theirs, ours = self.folder.both([*ARGUMENTS, "-n", "2", "-l", "optuna"], points)
        self.assertEqual((len(theirs[1]), len(ours[1])), (2, 2), theirs[2] + ours[2])

    def test_segments_are_paired_alike(self):
        space = [{"model_id": number, "search_space": SPACE} for number in range(2)]
        points = [[[0, DONE], 0.5], [[1, DONE], 0.7], [[1, PENDING], None]]
        theirs, ours = self.folder.both([*ARGUMENTS, "-n", "2", "-l", "nevergrad"], points, space)
        self.assertEqual((theirs[0], ours[0]), (0, 0), theirs[2] + ours[2])
        self.assertEqual([pair[0] for pair in theirs[1]], [0, 0, 1])
        self.assertEqual([pair[0] for pair in ours[1]], [0, 0, 1])
        for _, point in ours[1]:
            self.valid(point)

    def test_a_grid_has_the_same_points_and_ends(self):
        arguments = ["-s", "space.json", "-i", "in.json", "-o", "out.json", "-n", "10", "-l", "grid"]
        done = [[{"a": 1, "b": "x"}, 0.1], [{"a": 3, "b": "y"}, 0.2]]
        theirs, ours = self.folder.both(arguments, done, GRID)
        as_set = lambda points: {(point["a"], point["b"]) for point in points}
        self.assertEqual(as_set(theirs[1]), as_set(ours[1]), theirs[2] + ours[2])
        everything = [[{"a": a, "b": b}, 0.1] for a, b in itertools.product([1, 2, 3], ["x", "y"])]
        theirs, ours = self.folder.both(arguments, everything, GRID)
        self.assertEqual((theirs[1], ours[1]), ([], []))

    def test_a_missing_option_has_the_same_exit_code(self):
        theirs, ours = self.folder.both(["-s", "space.json", "-i", "in.json", "-o", "out.json"], [])
        self.assertEqual((theirs[0], ours[0]), (2, 2))

    def test_every_spelling_of_every_version_is_understood(self):
        for spelling in (
            ["-n", "2", "-l", "nevergrad"],
            ["-n=2", "-l=nevergrad"],
            ["-n2", "-lnevergrad"],
            ["--n_point", "2", "--lib", "skopt", "--max_point", "9"],
            ["--n_point=2", "--lib=hyperopt", "--max_point=9", "--mode=min", "--metric=loss"],
            ["-n", "2", "-m", "9", "-e", "loss", "-d", "min", "-l", "ax"],
            ["-n", "2", "-l", "nevergrad", "--method", "RandomSearch"],
            ["-n", "2", "-l", "bohb", "-s", "space.json"],
        ):
            with self.subTest(spelling=spelling):
                arguments = [*spelling, "-i", "in.json", "-o", "out.json"]
                code, answer, said = self.folder.ask(self.folder.path / "hpogrid", arguments, [[DONE, 0.5]])
                self.assertEqual((code, len(answer or [])), (0, 2), said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
