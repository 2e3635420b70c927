"""The work class of the real iDDS runs `steering`, from the first point to the end of the search.

    idds_drives_steering.py STEERING

What stands in for the rest of the service: the batch system (the script that iDDS writes is run at once), the catalogue of points
(a dictionary), the evaluations (losses made up here), and docker (a script that runs the command of the "image" on this machine).
"""

import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path

# `idds.core` is part of the server; the work class asks it for the points so far, and nothing else.
CONTENTS = {}
core = types.ModuleType("idds.core")
core.catalog = types.SimpleNamespace(
    get_contents_by_coll_id_status=lambda coll_id: [maps["outputs"][0] for _, maps in sorted(CONTENTS.items())]
)
sys.modules["idds.core"] = core

from idds.atlas.workflowv2.atlashpowork import ATLASHPOWork  # noqa: E402
from idds.common.constants import ContentStatus, ProcessingStatus, WorkStatus  # noqa: E402
from idds.common.utils import replace_parameters_with_values  # noqa: E402

logging.disable(logging.CRITICAL)
STEERING = Path(sys.argv.pop(1)).resolve()

SPACE = {
    "rate": {"method": "loguniform", "dimension": {"low": 1e-4, "high": 0.1}},
    "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 5}},
    "optimizer": {"method": "categorical", "dimension": {"categories": ["sgd", "adam"]}},
}
FAILED = 100000.0


class Work(ATLASHPOWork):
    """The work class with a batch system that runs a job where it is submitted."""

    def submit_condor_processing(self, processing):
        script, error = self.generate_processing_script(processing)
        assert error is None, error
        folder = self.get_working_dir(processing)
        environment = dict(os.environ, PATH=f"{folder}/../bin:{os.environ['PATH']}")
        ran = subprocess.run(["bash", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
        self.transcripts.append(ran.stdout + ran.stderr)
        self.inputs.append(json.loads(Path(folder, self.input_json).read_text()))
        return f"job{len(self.transcripts)}", None

    def poll_condor_job_status(self, processing, job_id):
        return ProcessingStatus.Finished, None


def search(arguments, loss, space=SPACE, per_iteration=2, most=5):
    """Drives a search to its end; `loss` makes the loss of a point, or `None` for one that stays unevaluated."""
    CONTENTS.clear()
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            executable="docker",
            arguments=arguments,
            sandbox="registry.example/steering:1",
            container_workdir="/hpo",
            output_json="output.json",
            opt_space=space,
            max_points=most,
            num_points_per_iteration=per_iteration,
        )
        work.transcripts, work.inputs = [], []
        work.set_agent_attributes(
            {"workdir": folder}, {"request_id": 1, "workload_id": 2, "transform_id": 3}
        )
        tools = Path(work.get_workdir(), "bin")
        tools.mkdir(parents=True)
        docker = tools / "docker"
        docker.write_text(FAKE_DOCKER)
        docker.chmod(0o755)
        (tools / "steering").symlink_to(STEERING)
        (tools / "hpogrid").symlink_to(STEERING)
        proc = work.create_processing([])
        processing = {
            "request_id": 1,
            "workload_id": 2,
            "processing_id": 4,
            "processing_metadata": {"processing": proc},
        }
        counts = []
        for _ in range(200):
            status, _, new, _, _ = work.poll_processing_updates(processing, CONTENTS)
            if new:
                counts.append(len(new))
                for number, maps in new.items():
                    output = maps["outputs"][0]
                    point, _ = json.loads(output["path"])
                    value = loss(point)
                    # The service keeps a loss as a Python float, and hands it on as Python writes it.
                    output["path"] = json.dumps((point, None if value is None else float(value)))
                    output["status"] = ContentStatus.Available
                    CONTENTS[number] = maps
            if status in (ProcessingStatus.Finished, ProcessingStatus.Failed) or work.status == WorkStatus.Failed:
                break
        points = [json.loads(maps["outputs"][0]["path"]) for _, maps in sorted(CONTENTS.items())]
        return types.SimpleNamespace(
            status=status, counts=counts, points=points, inputs=work.inputs, transcripts=work.transcripts
        )


# Runs what follows the name of the image, as the image would; a container sees its work directory where it was mounted.
FAKE_DOCKER = """#!/bin/bash
if [ "$1" = image ]; then exit 0; fi
shift
while [ $# -gt 0 ]; do
    case $1 in
        --rm) shift ;;
        -v|-e) shift 2 ;;
        *) break ;;
    esac
done
shift
exec "$@"
"""


def bowl(point):
    return (math.log10(point["rate"]) + 2) ** 2 + 0.1 * abs(point["layers"] - 3) + (point["optimizer"] == "sgd")


ASK = "steering ask -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT"


class IddsDrivesSteering(unittest.TestCase):
    def valid(self, point):
        self.assertEqual(set(key for key in point if not key.startswith("hpo.")), set(SPACE))
        self.assertTrue(1e-4 <= point["rate"] <= 0.1, point)
        self.assertIn(point["layers"], range(1, 6))
        self.assertIn(point["optimizer"], ("sgd", "adam"))

    def test_a_search_has_two_two_and_one_point_and_is_finished(self):
        result = search(ASK, bowl)
        self.assertEqual(result.status, ProcessingStatus.Finished, result.transcripts)
        self.assertEqual(result.counts, [2, 2, 1])
        for point, _ in result.points:
            self.valid(point)
        self.assertEqual(set(result.inputs[-1]), {"points", "opt_space"})

    def test_the_lines_that_people_use_today_run_unchanged(self):
        for line in (
            'hpogrid generate --n_point %NUM_POINTS --max_point %MAX_POINTS --infile %IN --outfile %OUT --lib nevergrad',
            '/bin/bash -c "hpogrid generate --n_point=%NUM_POINTS --max_point=%MAX_POINTS --infile=$PWD/%IN --outfile=$PWD/%OUT -l=nevergrad"',
            '/bin/bash -c "hpogrid generate -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT -l skopt"',
        ):
            with self.subTest(line=line):
                result = search(line, bowl)
                self.assertEqual((result.status, result.counts), (ProcessingStatus.Finished, [2, 2, 1]), result.transcripts)

    def test_nan_infinity_and_failed_points_do_not_stop_a_search(self):
        losses = iter([math.nan, math.inf, -math.inf, FAILED, 0.0, 1e-300, 3.0, FAILED])
        result = search(ASK, lambda point: next(losses), most=8)
        self.assertEqual((result.status, sum(result.counts)), (ProcessingStatus.Finished, 8), result.transcripts)
        for point, _ in result.points:
            self.valid(point)

    def test_segments_get_as_many_points_each(self):
        space = [{"model_id": number, "search_space": SPACE} for number in range(3)]
        result = search(ASK, lambda pair: bowl(pair[1]) + pair[0], space=space, per_iteration=2, most=12)
        self.assertEqual(result.status, ProcessingStatus.Finished, result.transcripts)
        segments = [pair[0] for pair, _ in result.points]
        self.assertEqual([segments.count(number) for number in range(3)], [4, 4, 4], result.counts)
        for pair, _ in result.points:
            self.valid(pair[1])

    def test_asha_trains_the_best_in_full_with_nothing_but_points_and_losses(self):
        line = ASK + " --lib random --scheduler asha --min-epochs 1 --max-epochs 9"
        result = search(line, lambda point: bowl(point) + 1.0 / point["hpo.epochs"], per_iteration=4, most=40)
        self.assertEqual(result.status, ProcessingStatus.Finished, result.transcripts)
        epochs = [point["hpo.epochs"] for point, _ in result.points]
        self.assertEqual(set(epochs), {1, 3, 9})
        self.assertGreater(epochs.count(1), 2 * epochs.count(9))
        # Whoever was trained in full is among the best third of those that were begun.
        full = [point for point, _ in result.points if point["hpo.epochs"] == 9]
        begun = sorted(bowl(point) for point, _ in result.points if point["hpo.epochs"] == 1)
        for point in full:
            self.assertLessEqual(bowl(point), begun[len(begun) // 3])

    def test_the_placeholders_are_those_of_the_service(self):
        values = {"MAX_POINTS": 7, "NUM_POINTS": 3, "IN": "a.json", "OUT": "b.json"}
        text = "%NUM_POINTS/%MAX_POINTS %INPUT %%IN %OUTDIR %in %NUM_POINT"
        self.assertEqual(replace_parameters_with_values(text, values), "3/7 a.jsonPUT %a.json b.jsonDIR %in %NUM_POINT")


if __name__ == "__main__":
    unittest.main(verbosity=2)
