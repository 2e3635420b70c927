"""Exports a Keras 3 model so that `evaluation` can train it.

    KERAS_BACKEND=torch python keras_model.py nets.py:make_model model.onnx --shape 32,32,3 --set depth=18

calls `make_model(depth=18)` of the file `nets.py` and writes the model with its initial weights. `--shape` is the shape of
one row of the data, channels where the model has them. Or from Python: `export(model, (32, 32, 3), "model.onnx")`.

Works with the torch backend of Keras, whose layers PyTorch's exporter understands. Dropout and batch normalisation stay
in the model; a Keras model file serves too: write a function that returns `keras.saving.load_model(…)`. In training,
`evaluation` keeps the unbiased running variance, as PyTorch does, where Keras keeps the biased one; the curve of the
training loss is the same.

Needs keras, torch and onnx. Tested with keras 3.15.1, torch 2.15.0 and onnx 1.23.2.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import onnx
import torch

from pytorch import arguments, forget_origins, keywords, load


class Forward(torch.nn.Module):
    """The model as a module of PyTorch."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x, training=False)


def layers(model):
    """All layers, those of models inside included."""
    for layer in model._flatten_layers(include_self=False):
        yield layer


def dropout(rate):
    return lambda inputs, training=False: torch.nn.functional.dropout(inputs, rate, True)


def batch_normalization(layer):
    def call(inputs, training=False, mask=None):
        axis = layer.axis % inputs.ndim
        moved = inputs.movedim(axis, 1) if axis != 1 else inputs
        scale = layer.gamma.value if layer.scale else torch.ones_like(layer.moving_mean.value)
        offset = layer.beta.value if layer.center else torch.zeros_like(layer.moving_mean.value)
        # PyTorch counts the share of the new batch, Keras that of the old value.
        result = torch.nn.functional.batch_norm(
            moved, layer.moving_mean.value, layer.moving_variance.value, scale, offset, False, 1 - layer.momentum,
            layer.epsilon,
        )
        return result.movedim(1, axis) if axis != 1 else result

    return call


def export(model, shape, path, opset=20):
    """Writes `model`, which takes rows of `shape`, to the ONNX file `path`."""
    if keras.backend.backend() != "torch":
        raise SystemExit("set the environment variable KERAS_BACKEND to torch before keras is imported")
    example = torch.zeros((2, *shape), device="cpu")
    model(example, training=False)  # A model without a declared input makes its weights at the first call.
    # Where Keras would write out arithmetic, the exporter shall see one operator that is different in training.
    changed = []
    for layer in layers(model):
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            layer.call = dropout(layer.rate)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.call = batch_normalization(layer)
        else:
            continue
        changed.append(layer)
    torch.onnx.export(
        Forward(model), (example,), str(path), dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False, input_names=["input"], output_names=["prediction"], opset_version=opset,
        dynamic_axes={"input": {0: "batch"}, "prediction": {0: "batch"}},
    )
    for layer in changed:
        del layer.call
    file = onnx.load(str(path))
    forget_origins(file)
    onnx.save(file, str(path))


def main():
    options = arguments(__doc__).parse_args()
    keras.utils.set_random_seed(options.seed)
    model = load(options.function)(**keywords(options.set))
    export(model, tuple(int(size) for size in options.shape.split(",")), options.output)


if __name__ == "__main__":
    main()
