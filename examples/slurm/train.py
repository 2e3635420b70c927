"""Softmax regression on the handwritten digits, in plain Python, that survives the end of its job.

Slurm ends jobs: at their time limit, for jobs of higher priority, with their node. So each epoch is saved in HPO_CHECKPOINT_DIR, and
whoever comes next, on whichever node, goes on from there. HPO_EPOCHS says up to which epoch to train in total.
"""
import csv
import gzip
import json
import math
import os
import random

point = json.load(open("input.json"))
[data] = json.load(open("input_ds.json"))
rows = [[int(value) for value in row] for row in csv.reader(gzip.open(data, "rt"))]
images = [([value / 16 for value in row[:64]] + [1.0], row[64]) for row in rows]
train, test = images[:900], images[900:]

saved = os.path.join(os.environ["HPO_CHECKPOINT_DIR"], "weights.json")
state = json.load(open(saved)) if os.path.exists(saved) else {"epoch": 0, "weights": [[0.0] * 65 for _ in range(10)]}
weights = state["weights"]


def probabilities(image):
    scores = [sum(w * value for w, value in zip(row, image)) for row in weights]
    highest = max(scores)
    exponentials = [math.exp(score - highest) for score in scores]
    return [exponential / sum(exponentials) for exponential in exponentials]


while state["epoch"] < int(os.environ["HPO_EPOCHS"]):
    rate = point["rate"] * point["decay"] ** state["epoch"]
    for image, label in random.Random(state["epoch"]).sample(train, len(train)):
        for digit, probability in enumerate(probabilities(image)):
            slope = rate * (probability - (digit == label))
            row = weights[digit]
            weights[digit] = [w - slope * value for w, value in zip(row, image)]
    state = {"epoch": state["epoch"] + 1, "weights": weights}
    # Whole or not at all: the job may end at any moment.
    json.dump(state, open(saved + ".new", "w"))
    os.replace(saved + ".new", saved)

wrong = sum(max(range(10), key=probabilities(image).__getitem__) != label for image, label in test)
json.dump({"status": 0, "loss": wrong / len(test)}, open("output.json", "w"))
