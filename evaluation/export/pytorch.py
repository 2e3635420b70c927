"""Exports a PyTorch model so that `evaluation` can train it.

    python pytorch.py nets.py:make_model model.onnx --shape 3,32,32 --set depth=18 --seed 1

calls `make_model(depth=18)` of the file `nets.py` and writes the model with its initial weights. `--shape` is the shape of
one row of the data. Or from Python: `export(model, (3, 32, 32), "model.onnx")`.

What PyTorch's exporter does to a model for inference would take its training away: it folds batch normalisations into
convolutions and leaves dropout out. Both stay here, and the batch size stays open. Inputs that hold numbers of classes
(for embeddings) arrive as 32-bit floating-point numbers: write `x.long()` in the model.

Needs torch and onnx; with `--dynamo` also onnxscript. Tested with torch 2.15.0 and onnx 1.23.2.
"""

import argparse
import copy
import importlib.util
import json
import pathlib

import onnx
import torch


def export(model, shape, path, dynamo=False, opset=20):
    """Writes `model`, which takes rows of `shape`, to the ONNX file `path`."""
    # Exporting in training mode runs the model once, which moves running statistics.
    kept = copy.deepcopy(model.state_dict())
    was_training = model.training
    model.train()
    example = torch.zeros((2, *shape))
    names = {"input_names": ["input"], "output_names": ["prediction"], "opset_version": opset}
    if dynamo:
        torch.onnx.export(
            model, (example,), str(path), dynamo=True, optimize=False, external_data=False, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},), **names,
        )
    else:
        torch.onnx.export(
            model, (example,), str(path), dynamo=False, training=torch.onnx.TrainingMode.TRAINING,
            do_constant_folding=False, dynamic_axes={"input": {0: "batch"}, "prediction": {0: "batch"}}, **names,
        )
    model.load_state_dict(kept)
    model.train(was_training)
    file = onnx.load(str(path))
    for tensor in file.graph.initializer:
        if tensor.name in kept:
            value = kept[tensor.name].detach().cpu().numpy()
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    forget_origins(file)
    onnx.save(file, str(path))


def forget_origins(file):
    """Removes what the exporter noted about source files: it differs from machine to machine."""
    graph = file.graph
    items = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *file.functions]
    items += [node for function in file.functions for node in function.node]
    for item in [file, *items]:
        item.doc_string = ""
        del item.metadata_props[:]


def load(name):
    """The function `name`, such as `nets.py:make_model`."""
    path, _, function = name.rpartition(":")
    if not path:
        raise SystemExit(f"expected FILE:FUNCTION, found `{name}`")
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function)


def arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("function", help="FILE:FUNCTION that returns the model")
    parser.add_argument("output", help="the ONNX file; a name such as cnn_18.onnx serves \"onnx\": \"cnn_{depth}.onnx\"")
    parser.add_argument("--shape", required=True, help="shape of one row, such as 3,32,32")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="argument of the function")
    parser.add_argument("--seed", type=int, default=1, help="seed of the initial weights (1)")
    return parser


def keywords(items):
    """Arguments given as NAME=VALUE; values are JSON where they can be."""
    result = {}
    for item in items:
        name, _, value = item.partition("=")
        try:
            result[name] = json.loads(value)
        except json.JSONDecodeError:
            result[name] = value
    return result


def main():
    parser = arguments(__doc__)
    parser.add_argument("--dynamo", action="store_true", help="use PyTorch's newer exporter")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = load(options.function)(**keywords(options.set))
    shape = tuple(int(size) for size in options.shape.split(","))
    export(model, shape, options.output, options.dynamo)


if __name__ == "__main__":
    main()
