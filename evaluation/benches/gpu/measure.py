"""On the GPU host: checks CUDA against the CPU, and times both.

    python measure.py [--unpacked FOLDER] [--epochs 5] > result.json

Puts the parts beside it together, unpacks them, asks `evaluation doctor --device cuda`, and trains the same models on
both devices: the losses of every epoch must agree within 1e-2, and the seconds of training are told. `--unpacked` takes a
folder with `evaluation` and `libraries/` as they are, such as one that was unpacked before. Needs numpy.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy

CLASSES = 10

MODELS = {
    "perceptron": ((784,), 20_000, [{"dense": {"units": 256, "activation": "relu"}}, {"dense": {"units": 128, "activation": "relu"}}]),
    "convolutional": ((1, 28, 28), 10_000, [
        {"conv": {"filters": 16, "activation": "relu"}}, {"pool": {"kind": "max"}},
        {"conv": {"filters": 32, "activation": "relu"}}, {"global_pool": {}},
    ]),
    "residual": ((3, 32, 32), 5_000, [
        {"conv": {"filters": 64, "batch_norm": True, "activation": "relu"}},
        {"repeat": {"times": 4, "index": "stage", "blocks": [{"residual": {"activation": "relu", "blocks": [
            {"conv": {"filters": "=64 * 2 ^ stage", "stride": "=2 if stage > 0 else 1", "batch_norm": True, "activation": "relu"}},
            {"conv": {"filters": "=64 * 2 ^ stage", "batch_norm": True}},
        ]}}]}},
        {"global_pool": {}},
    ]),
    "transformer": ((32, 64), 5_000, [{"transformer": {"heads": 4, "feed_forward": 128}}, {"transformer": {"heads": 4, "feed_forward": 128}}, {"flatten": {}}]),
}


def unpack(here, folder):
    whole = folder / "all.tar.xz"
    with whole.open("wb") as file:
        for line in (here / "SHA256SUMS").read_text().splitlines():
            expected, name = line.split()
            part = (here / name).read_bytes()
            if hashlib.sha256(part).hexdigest() != expected:
                sys.exit(f"`{name}` is damaged: upload it again")
            file.write(part)
    with tarfile.open(whole) as tar:
        tar.extractall(folder, filter="data")


def train(folder, work, device, epochs, blocks, precision, *more):
    model = {
        "data": {"inputs": "x", "targets": "y", "split": {"validation": 0.1, "kind": "last"}},
        "model": {"blocks": blocks},
        "loss": "cross_entropy",
        "objective": "loss",
        "optimizer": {"name": "sgd", "learning_rate": 0.02, "momentum": 0.9},
        "training": {"epochs": epochs, "batch_size": 64, "seed": 1, "precision": precision},
    }
    (work / "model.json").write_text(json.dumps(model))
    command = [folder / "evaluation", "--onnxruntime", folder / "libraries", "--device", device, "--quiet"]
    command += ["--engine", "onnxruntime", "--data", "data.npz", "--meta", "meta.json", *more]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    meta = json.loads((work / "meta.json").read_text())
    return {"seconds": meta["seconds"]["training"], "loss": meta["loss"], "engine": meta["engine"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unpacked", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        folder = (options.unpacked or scratch).resolve()
        if options.unpacked is None:
            unpack(pathlib.Path(__file__).resolve().parent, folder)
        doctor = [folder / "evaluation", "doctor", "--json", "--device", "cuda", "--onnxruntime", folder / "libraries"]
        answer = subprocess.run(doctor, capture_output=True, text=True)
        report = json.loads(answer.stdout)
        result = {"cuda": report["cuda"], "driver": report["driver"], "models": {}}
        for name, (shape, rows, blocks) in MODELS.items():
            work = scratch / name
            work.mkdir()
            random = numpy.random.default_rng(1)
            inputs = random.normal(size=(rows, *shape)).astype("f4")
            labels = (inputs.reshape(rows, -1)[:, :CLASSES]).argmax(1)
            numpy.savez(work / "data.npz", x=inputs, y=labels)
            case = {"cpu": train(folder, work, "cpu", options.epochs, blocks, "float32")}
            for precision in ("float32", "float16", "bfloat16"):
                case[f"cuda {precision}"] = train(folder, work, "cuda", options.epochs, blocks, precision)
            case["cuda float32 graphs"] = train(folder, work, "cuda", options.epochs, blocks, "float32", "--cuda-graphs")
            first, others = case["cpu"], [case["cuda float32"], case["cuda float32 graphs"]]
            if all("loss" in one for one in (first, *others)):
                case["agrees"] = all(abs(first["loss"] - one["loss"]) < 1e-2 * first["loss"] for one in others)
            result["models"][name] = case
            print(name, case, file=sys.stderr)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
