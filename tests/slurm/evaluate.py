"""A training with checkpoints that is the same wherever and however often it runs.

What runs is written into a ledger: each attempt must be there once. Some attempts wait to be disturbed, and their successors
do not.
"""

import json
import os
import sys
import time

ledger, *waiting = sys.argv[1:]
point, attempt = os.environ["HPO_POINT_ID"], os.environ["HPO_ATTEMPT"]
# A job of an array is named by the array and its number in it; its own id means nothing to `scancel`.
job = "_".join(os.environ.get(name, "-") for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"))
place = [job, *(os.environ.get(name, "-") for name in ("SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES"))]
descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(descriptor, (" ".join([point, attempt, str(os.getpid()), *place]) + "\n").encode())
if point in waiting and attempt == "1":
    time.sleep(600)
document = json.load(open("input.json"))
segment, values = document if isinstance(document, list) else (0, document)
epochs = int(os.environ["HPO_EPOCHS"])
loss = (values["x"] - 0.3 - 0.1 * segment) ** 2 + 1 / epochs
json.dump({"status": 0, "loss": loss}, open("output.json", "w"))
