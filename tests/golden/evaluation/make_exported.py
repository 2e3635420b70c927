"""Makes the oracle of whole trainings: networks written by the export scripts, and their curves in their own framework.

Needs torch, keras, onnx, onnxscript and numpy. Writes `exported.json` and `exported_<name>.onnx`. Run it in this directory
with KERAS_BACKEND=torch: `python make_exported.py`. The inputs are a sawtooth that every language computes alike. Made
with torch 2.15.0, keras 3.15.1, onnx 1.23.2 and onnxscript 0.7.2.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "evaluation" / "export"))

import keras
import numpy
import torch
from torch import nn
from torch.nn import functional

import keras_model
import pytorch

ROWS, BATCH, STEPS = 80, 16, 100
CLASSES = 3
RATE, MOMENTUM = 0.01, 0.9


class Residual(nn.Module):
    """A ResNet in small: a stem, a block that keeps the shape, one that halves it, and global pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.first = self.block(4, 4, 1)
        self.second = self.block(4, 6, 2)
        self.shortcut = nn.Conv2d(4, 6, 1, 2, bias=False)
        self.head = nn.Linear(6, CLASSES)

    def block(self, inputs, outputs, stride):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        x = functional.relu(self.norm(self.stem(x)))
        x = functional.relu(self.first(x) + x)
        x = functional.relu(self.second(x) + self.shortcut(x))
        return self.head(x.mean(dim=(2, 3)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.layer(self.embed(x)).mean(dim=1))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.GELU(),
        nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(6, CLASSES),
    )


def keras_network():
    layers = keras.layers
    return keras.Sequential([
        layers.Input((8, 8, 2)), layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(),
        layers.Activation("relu"), layers.MaxPooling2D(), layers.Conv2D(6, 3, strides=2, activation="tanh"),
        layers.Flatten(), layers.Dense(8, activation="elu"), layers.Dense(CLASSES),
    ])


def data(shape):
    size = int(numpy.prod(shape))
    sawtooth = numpy.modf(numpy.arange(ROWS * size) * 0.618033988749895)[0] * 2 - 1
    inputs = sawtooth.astype(numpy.float32).reshape(ROWS, *shape)
    return inputs, numpy.arange(ROWS) * 7 % CLASSES


def train_pytorch(model, shape):
    inputs, labels = (torch.from_numpy(values) for values in data(shape))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    model.train()
    losses = []
    for step in range(STEPS):
        at = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs[at]), labels[at])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_keras(model, shape):
    inputs, labels = data(shape)
    model.compile(
        optimizer=keras.optimizers.SGD(RATE, MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = []
    for step in range(STEPS):
        at = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
        losses.append(float(model.train_on_batch(inputs[at], labels[at])))
        model.reset_metrics()
    return losses


def main():
    cases = []
    for name, make, shape, dynamo in [
        ("convolutional", convolutional, (2, 8, 8), False),
        ("convolutional_dynamo", convolutional, (2, 8, 8), True),
        ("residual", Residual, (2, 8, 8), False),
        ("residual_dynamo", Residual, (2, 8, 8), True),
        ("recurrent", Recurrent, (6, 3), False),
        ("attention", Attention, (6, 3), False),
        ("attention_dynamo", Attention, (6, 3), True),
    ]:
        torch.manual_seed(4)
        model = make()
        pytorch.export(model, shape, f"exported_{name}.onnx", dynamo)
        cases.append({"name": name, "shape": shape, "losses": train_pytorch(model, shape)})
    keras.utils.set_random_seed(4)
    model, shape = keras_network(), (8, 8, 2)
    keras_model.export(model, shape, "exported_keras.onnx")
    cases.append({"name": "keras", "shape": shape, "losses": train_keras(model, shape)})
    document = {"rows": ROWS, "batch": BATCH, "classes": CLASSES, "learning_rate": RATE, "momentum": MOMENTUM,
                "cases": cases}
    with open("exported.json", "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.write("\n")


main()
