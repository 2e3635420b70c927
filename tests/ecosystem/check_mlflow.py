"""Unpacks the metrics archives of a task as a user would, shows them to a real MLflow server, and asserts what it sees.

    python3 check_mlflow.py TASK_DIR POINTS

Needs the package mlflow. The server listens on a free port of 127.0.0.1 and ends with the check.
"""
import glob
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request


def call(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def unpack(task_dir, target):
    """The metrics of a point lie in an archive within an archive, as PanDA leaves them."""
    count = 0
    for name in sorted(glob.glob(os.path.join(task_dir, "metrics", "*"))):
        with tarfile.open(name) as outer:
            for member in outer.getmembers():
                with tarfile.open(fileobj=io.BytesIO(outer.extractfile(member).read())) as inner:
                    inner.extractall(target)
                count += 1
    return count


def serve(root):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", os.path.join(root, "mlruns"), "--default-artifact-root", root]
    environment = dict(os.environ, MLFLOW_ALLOW_FILE_STORE="true", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    server = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if server.poll() is not None:
            sys.exit(f"mlflow server ended with code {server.returncode}")
        try:
            urllib.request.urlopen(base + "/health", timeout=5).close()
            return server, base + "/api/2.0/mlflow"
        except OSError:
            time.sleep(0.2)
    server.kill()
    sys.exit("mlflow server did not answer")


def main(task_dir, expected):
    with tempfile.TemporaryDirectory() as root:
        archives = unpack(task_dir, root)
        assert archives >= expected, f"{archives} metrics archives, expected {expected}"
        server, api = serve(root)
        try:
            experiments = call(api + "/experiments/search", {"max_results": 100})["experiments"]
            ids = [experiment["experiment_id"] for experiment in experiments if experiment["name"] != "Default"]
            assert len(ids) == 1, f"expected one experiment, found {experiments}"
            runs = call(api + "/runs/search", {"experiment_ids": ids, "max_results": 1000})["runs"]
            assert len(runs) == expected, f"MLflow shows {len(runs)} runs, expected {expected}"
            for run in runs:
                run_id = run["info"]["run_id"]
                one = call(f"{api}/runs/get?run_id={run_id}")["run"]
                assert one["data"]["params"], f"run {run_id} has no parameters"
                for metric in one["data"]["metrics"]:
                    history = call(f"{api}/metrics/get-history?run_id={run_id}&metric_key={metric['key']}")["metrics"]
                    assert history, f"metric {metric['key']} of run {run_id} has no history"
                assert one["data"]["metrics"], f"run {run_id} has no metrics"
                assert one["info"]["status"] == "FINISHED", one["info"]
            print(f"MLflow shows {len(runs)} runs with parameters and metric histories")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
