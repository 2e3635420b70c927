"""Makes the oracle of whole training steps: PyTorch trains small networks for 20 steps on fixed data.

Needs torch, numpy, onnx and onnxscript. Writes `torch_steps.json` (data, losses, final weights) and the forward models
`<case>_{script,dynamo}.onnx` with the initial weights, exported by both of PyTorch's exporters. Run it in this
directory: `python make_torch_steps.py`. Random numbers are seeded; PyTorch 2.15.0 made the committed files.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "evaluation" / "export"))

import numpy
import onnx
import onnx.numpy_helper
import torch
from torch import nn

from pytorch import forget_origins

STEPS = 20
BATCH = 16


def mlp(*widths, activation=nn.ReLU, norm=None):
    layers = []
    for index, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        layers.append(nn.Linear(inputs, outputs))
        if index < len(widths) - 2:
            if norm is not None:
                layers.append(norm(outputs))
            layers.append(activation())
    return nn.Sequential(*layers)


class Shapes(nn.Module):
    """Uses the shape of its input, and operators that move numbers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.second = nn.Linear(8, 4, bias=False)
        self.scale = nn.Parameter(torch.ones(1, 2, 4))

    def forward(self, x):
        rows = x.size(0)
        y = self.first(x)
        left, right = y.chunk(2, dim=-1)
        y = torch.cat([left * torch.sigmoid(right), y[:, :, 1:5] * self.scale], dim=-1)
        y = y.transpose(1, 2).reshape(rows, 8, -1).mean(dim=2)
        return self.second(y.view(rows, -1)) + (x * x).sum(dim=(1, 2)).unsqueeze(1).sqrt()


def cases():
    torch.manual_seed(3)
    yield "classification_sgd", mlp(6, 12, 8, 4), "cross_entropy", dict(
        optimizer={"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.001},
        schedule={"name": "constant"},
    )
    yield "regression_adam", mlp(6, 12, 8, 2, activation=nn.Tanh), "mse", dict(
        optimizer={"name": "adam", "learning_rate": 0.01, "betas": [0.9, 0.99], "epsilon": 1e-7},
        schedule={"name": "exponential", "gamma": 0.9},
    )
    yield "classification_adamw", mlp(6, 12, 8, 4, activation=nn.GELU, norm=nn.LayerNorm), "cross_entropy", dict(
        optimizer={"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
        schedule={"name": "cosine"},
    )
    yield "shapes_sgd", Shapes(), "cross_entropy", dict(
        optimizer={"name": "sgd", "learning_rate": 0.1, "momentum": 0.5},
        schedule={"name": "constant"},
    )
    yield "regression_rmsprop", mlp(6, 12, 2, activation=nn.SiLU), "huber", dict(
        optimizer={"name": "rmsprop", "learning_rate": 0.003, "momentum": 0.5, "weight_decay": 0.001},
        schedule={"name": "one_cycle"},
    )
    yield "classification_nesterov", mlp(6, 12, 4, activation=nn.ELU), "binary_cross_entropy", dict(
        optimizer={"name": "sgd", "learning_rate": 0.1, "momentum": 0.8, "nesterov": True},
        schedule={"name": "multistep", "milestones": [1, 3], "gamma": 0.3},
    )
    # The gradient of a bias before a batch normalisation is nothing but rounding, which Adam would blow up.
    yield "batch_norm_sgd", mlp(6, 12, 8, 4, norm=nn.BatchNorm1d), "cross_entropy", dict(
        optimizer={"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        schedule={"name": "step", "step_size": 2, "gamma": 0.5},
    )


def make_optimizer(model, options):
    options = dict(options)
    name = options.pop("name")
    options["lr"] = options.pop("learning_rate")
    if "epsilon" in options:
        options["eps"] = options.pop("epsilon")
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    return kind[name](model.parameters(), **options)


def make_schedule(optimizer, options, epochs, steps):
    """Returns the schedule and whether it moves after every step."""
    options = dict(options)
    name = options.pop("name")
    schedule = torch.optim.lr_scheduler
    if name == "constant":
        return schedule.ConstantLR(optimizer, factor=1.0), False
    if name == "exponential":
        return schedule.ExponentialLR(optimizer, **options), False
    if name == "step":
        return schedule.StepLR(optimizer, **options), False
    if name == "multistep":
        return schedule.MultiStepLR(optimizer, **options), False
    if name == "cosine":
        return schedule.CosineAnnealingLR(optimizer, T_max=epochs), False
    peak = optimizer.param_groups[0]["lr"]
    return schedule.OneCycleLR(optimizer, max_lr=peak, total_steps=epochs * steps, cycle_momentum=False), True


def set_weights(path, values):
    file = onnx.load(path)
    forget_origins(file)
    for tensor in file.graph.initializer:
        if tensor.name in values and "num_batches" not in tensor.name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name].numpy(), tensor.name))
    onnx.save(file, path)


def loss_function(name):
    return {
        "cross_entropy": nn.CrossEntropyLoss(),
        "mse": nn.MSELoss(),
        "huber": nn.HuberLoss(delta=1.0),
        "binary_cross_entropy": nn.BCEWithLogitsLoss(),
    }[name]


def main():
    random = numpy.random.default_rng(7)
    rows, epochs = 5 * BATCH, STEPS // 5
    inputs = random.standard_normal((rows, 6)).astype(numpy.float32)
    labels = random.integers(0, 4, rows)
    values = random.standard_normal((rows, 2)).astype(numpy.float32)
    bits = random.integers(0, 2, (rows, 4)).astype(numpy.float32)
    document = {
        "inputs": inputs.ravel().tolist(),
        "labels": labels.tolist(),
        "values": values.ravel().tolist(),
        "bits": bits.ravel().tolist(),
        "batch": BATCH,
        "epochs": epochs,
        "cases": [],
    }
    for name, model, loss, options in cases():
        rows_in = torch.from_numpy(inputs)
        if isinstance(model, Shapes):
            rows_in = rows_in.reshape(rows, 2, 3)
        example = rows_in[:2]
        has_norm = any(isinstance(layer, nn.BatchNorm1d) for layer in model.modules())
        training = torch.onnx.TrainingMode.TRAINING if has_norm else torch.onnx.TrainingMode.EVAL
        model.train(has_norm)
        torch.onnx.export(
            model, (example,), f"{name}_script.onnx", dynamo=False, training=training, do_constant_folding=False,
            input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )
        torch.onnx.export(
            model, (example,), f"{name}_dynamo.onnx", dynamo=True, optimize=not has_norm, external_data=False,
            input_names=["x"], output_names=["y"], dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
        )
        if has_norm:
            # The exports in training mode moved the running statistics, in the model and in the files.
            for layer in model:
                if isinstance(layer, nn.BatchNorm1d):
                    layer.reset_running_stats()
        start = {key: value.detach().clone() for key, value in model.state_dict().items()}
        for path in (f"{name}_script.onnx", f"{name}_dynamo.onnx"):
            set_weights(path, start)
        model.train()
        optimizer = make_optimizer(model, options["optimizer"])
        schedule, every_step = make_schedule(optimizer, options["schedule"], epochs, rows // BATCH)
        function = loss_function(loss)
        target = torch.from_numpy(
            {"cross_entropy": labels, "mse": values, "huber": values, "binary_cross_entropy": bits}[loss]
        )
        losses = []
        for step in range(STEPS):
            at = slice(step * BATCH % rows, step * BATCH % rows + BATCH)
            optimizer.zero_grad()
            value = function(model(rows_in[at]), target[at])
            value.backward()
            optimizer.step()
            if every_step or (step + 1) % (rows // BATCH) == 0:
                schedule.step()
            losses.append(value.item())
        final = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
        document["cases"].append(
            {
                "name": name,
                "loss": loss,
                **options,
                "losses": losses,
                "start": {key: start[key].ravel().tolist() for key in final},
                "final": {key: value.ravel().tolist() for key, value in final.items()},
            }
        )
    with open("torch_steps.json", "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.write("\n")


main()
