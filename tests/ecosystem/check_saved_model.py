"""Trains on raw columns and images, and asserts that onnxruntime in Python, given raw rows, predicts to the reported loss.

    python3 check_saved_model.py EVALUATION_BINARY

Needs numpy and onnxruntime.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnxruntime

ROWS, HELD = 300, 60


def train(binary, folder, model, files):
    """The saved model's predictions for the raw rows, and the loss that was reported."""
    (folder / "model.json").write_text(json.dumps(model))
    command = [binary, "--device", "cpu", "--quiet", "--save-model", "saved.onnx", "--data", *files]
    subprocess.run(command, cwd=folder, check=True)
    loss = json.loads((folder / "output.json").read_text())["loss"]
    session = onnxruntime.InferenceSession(folder / "saved.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda rows: session.run(None, {name: rows.astype(numpy.float32)})[0], loss


def section(inputs, targets, **more):
    return {"inputs": inputs, "targets": targets, "split": {"validation": HELD, "kind": "last"}, **more}


def columns(binary, folder):
    """Columns of very different size, some numbers missing."""
    random = numpy.random.default_rng(1)
    raw = random.normal([1e4, -3, 0.002], [50, 2, 0.001], (ROWS, 3))
    target = (raw[:, 0] - 1e4) / 50 + raw[:, 1]
    raw[random.random((ROWS, 3)) < 0.05] = numpy.nan
    numpy.savez(folder / "table.npz", x=raw, y=target)
    model = {
        "data": section("x", "y", normalize="standard", missing="mean"),
        "model": {"blocks": [{"dense": {"units": 8, "activation": "tanh"}}]},
        "loss": "mse",
        "training": {"epochs": 5},
    }
    predict, loss = train(binary, folder, model, ["table.npz"])
    found = numpy.mean((predict(raw[-HELD:])[:, 0] - target[-HELD:]) ** 2)
    # Single precision of the raw rows leaves five digits of columns near 10,000.
    assert abs(found - loss) < 1e-3 * loss, (found, loss)


def images(binary, folder):
    """Bytes with channels last for a model that takes them first."""
    random = numpy.random.default_rng(2)
    raw = random.integers(0, 256, (ROWS, 6, 6, 3), numpy.uint8)
    labels = (raw[..., 0].mean((1, 2)) > raw[..., 2].mean((1, 2))).astype(numpy.int64)
    numpy.savez(folder / "images.npz", x=raw, y=labels)
    model = {
        "data": section("x", "y", scale=1 / 255, normalize="standard", layout="hwc to chw"),
        "model": {"blocks": [{"conv": {"filters": 4, "activation": "relu"}}, {"global_pool": {}}]},
        "loss": "cross_entropy",
        "objective": "loss",
        "training": {"epochs": 3},
    }
    predict, loss = train(binary, folder, model, ["images.npz"])
    scores = predict(raw[-HELD:]).astype(numpy.float64)
    scores -= scores.max(1, keepdims=True)
    likelihood = scores - numpy.log(numpy.exp(scores).sum(1, keepdims=True))
    found = -likelihood[numpy.arange(HELD), labels[-HELD:]].mean()
    assert abs(found - loss) < 1e-5, (found, loss)


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    for check in (columns, images):
        with tempfile.TemporaryDirectory() as folder:
            check(binary, pathlib.Path(folder))
    print("raw rows give the reported losses")


main()
