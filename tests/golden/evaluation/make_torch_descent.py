"""Makes the oracle of losses, optimisers and schedules: numbers that PyTorch computes.

Needs torch, onnx and numpy. Writes `torch_descent.json` and the forward model `descent.onnx` with the initial weights.
Run it in this directory: `python make_torch_descent.py`. Random numbers are seeded; PyTorch 2.15.0 made the committed
files. PyTorch has no Lion; its rule is written out here from the paper.
"""

import copy
import json

import numpy
import onnx
import onnx.numpy_helper
import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

ROWS, BATCH, STEPS = 48, 16, 20

# The examples of the registries of optimisers and schedules; a test compares.
OPTIMIZERS = [
    {"name": "sgd", "learning_rate": 0.1},
    {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.001},
    {"name": "sgd", "learning_rate": 0.05, "momentum": 0.8, "nesterov": True},
    {"name": "adam", "learning_rate": 0.01, "betas": [0.9, 0.99], "epsilon": 1e-7},
    {"name": "adam", "learning_rate": 0.01, "weight_decay": 0.01},
    {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
    {"name": "radam", "learning_rate": 0.01, "betas": [0.9, 0.99], "weight_decay": 0.001},
    {"name": "rmsprop", "learning_rate": 0.003, "alpha": 0.9},
    {"name": "rmsprop", "learning_rate": 0.003, "momentum": 0.5, "weight_decay": 0.001},
    {"name": "adagrad", "learning_rate": 0.05},
    {"name": "adagrad", "learning_rate": 0.05, "learning_rate_decay": 0.1, "initial_accumulator": 0.1,
     "weight_decay": 0.001},
    {"name": "lion", "learning_rate": 0.003, "weight_decay": 0.1},
]

SCHEDULES = [
    {"name": "constant"},
    {"name": "constant", "warmup_epochs": 2, "every": "step"},
    {"name": "step", "step_size": 2, "gamma": 0.5},
    {"name": "multistep", "milestones": [1, 3], "gamma": 0.3},
    {"name": "exponential", "gamma": 0.9},
    {"name": "exponential", "gamma": 0.5, "every": "step"},
    {"name": "cosine", "minimum": 0.001},
    {"name": "cosine", "warmup_epochs": 2, "every": "step"},
    {"name": "linear", "start_factor": 0.5, "end_factor": 0.1, "epochs": 3},
    {"name": "linear", "warmup_epochs": 1, "every": "step"},
    {"name": "linear_warmup", "epochs": 3},
    {"name": "one_cycle"},
    {"name": "plateau", "factor": 0.5, "patience": 0, "threshold": 0.05},
    {"name": "plateau", "factor": 0.5, "patience": 1, "cooldown": 1, "threshold": 0.5, "minimum": 0.02},
    {"name": "table", "factors": [1, 0.5, 0.7]},
    {"name": "table", "epochs": [0, 2], "factors": [1, 0.1]},
]
VALIDATION = [1.0, 0.9, 0.88, 0.5, 0.52, 0.51, 0.4, 0.41, 0.39, 0.395, 0.39, 0.2]


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, algorithm 2."""

    def __init__(self, parameters, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(parameters, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                update = torch.sign(first * momentum + (1 - first) * weight.grad)
                weight.sub_(group["lr"] * (update + group["weight_decay"] * weight))
                momentum.mul_(second).add_(weight.grad, alpha=1 - second)


def make_optimizer(parameters, options):
    options = dict(options)
    names = {"learning_rate": "lr", "epsilon": "eps", "learning_rate_decay": "lr_decay",
             "initial_accumulator": "initial_accumulator_value"}
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "radam": torch.optim.RAdam,
             "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad, "lion": Lion}
    kind = kinds[options.pop("name")]
    return kind(parameters, **{names.get(key, key): value for key, value in options.items()})


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 8), nn.GELU(), nn.Linear(8, 4))


def train(model, optimizer, inputs, labels, clip_value=None, clip_norm=None, average=None):
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(average)) if average else None
    losses = []
    for step in range(STEPS):
        at = slice(step * BATCH % ROWS, step * BATCH % ROWS + BATCH)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs[at]), labels[at])
        loss.backward()
        if clip_value is not None:
            nn.utils.clip_grad_value_(model.parameters(), clip_value)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(model)
        losses.append(loss.item())
    result = averaged.module if averaged is not None else model
    return {"losses": losses, "final": {name: value.ravel().tolist() for name, value in result.state_dict().items()}}


def training_cases(inputs, labels):
    start = network()
    for options in OPTIMIZERS:
        model = copy.deepcopy(start)
        yield {"optimizer": options, **train(model, make_optimizer(model.parameters(), options), inputs, labels)}
    sgd = {"name": "sgd", "learning_rate": 0.3, "momentum": 0.9}
    for training in [{"clip_value": 0.01}, {"clip_norm": 0.05}, {"clip_value": 0.02, "clip_norm": 0.05},
                     {"average": 0.9}]:
        model = copy.deepcopy(start)
        result = train(model, make_optimizer(model.parameters(), sgd), inputs, labels, **training)
        yield {"optimizer": sgd, "training": training, **result}
    # Groups of weights: no decay of vectors, a faster last layer, a first layer with a decay of its own.
    options = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.5, "decay": "matrices", "groups": [
        {"parameters": ["4.*"], "learning_rate_factor": 3},
        {"parameters": ["0.weight"], "weight_decay": 0.2},
    ]}
    model = copy.deepcopy(start)
    groups = [
        {"params": [model[4].weight], "lr": 0.03, "weight_decay": 0.5},
        {"params": [model[4].bias], "lr": 0.03, "weight_decay": 0.0},
        {"params": [model[0].weight], "weight_decay": 0.2},
        {"params": [model[2].weight], "weight_decay": 0.5},
        {"params": [model[0].bias, model[2].bias], "weight_decay": 0.0},
    ]
    yield {"optimizer": options, **train(model, torch.optim.AdamW(groups, lr=0.01), inputs, labels)}


def rates(options, base=0.1, steps=4):
    """The learning rate of each step of as many epochs as there are validation losses."""
    options = dict(options)
    name = options.pop("name")
    per_step = options.pop("every", "epoch") == "step" or name == "one_cycle"
    unit = steps if per_step else 1
    epochs = len(VALIDATION)
    warmup = options.pop("warmup_epochs", 0) * unit
    if name == "linear_warmup":
        name, warmup = "constant", options.pop("epochs") * unit
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    after = epochs * unit - warmup
    shapes = {
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "step": lambda: lr_scheduler.StepLR(optimizer, **options),
        "multistep": lambda: lr_scheduler.MultiStepLR(optimizer, **options),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, options["gamma"] ** (1 / unit)),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, after, eta_min=options.get("minimum", 0.0)),
        "linear": lambda: lr_scheduler.LinearLR(
            optimizer, options.get("start_factor", 1.0), options.get("end_factor", 0.0), options.get("epochs", after)
        ),
        "one_cycle": lambda: lr_scheduler.OneCycleLR(optimizer, base, total_steps=after, cycle_momentum=False),
        "plateau": lambda: lr_scheduler.ReduceLROnPlateau(
            optimizer, min_lr=options.pop("minimum", 0.0), **options
        ),
        "table": lambda: lr_scheduler.LambdaLR(optimizer, lambda epoch: [
            factor for first, factor in zip(options.get("epochs", range(epochs)), options["factors"]) if first <= epoch
        ][-1]),
    }
    if warmup:
        rise = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup)
        schedule = lr_scheduler.SequentialLR(optimizer, [rise, shapes[name]()], [warmup])
    else:
        schedule = shapes[name]()
    result = []
    for epoch in range(epochs):
        for step in range(steps):
            result.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if per_step and len(result) < epochs * steps:
                schedule.step()
        if not per_step:
            schedule.step(*([VALIDATION[epoch]] if name == "plateau" else []))
    return {"schedule": {"name": name, **options}, "rates": result}


def loss_cases(random):
    def numbers(*shape):
        return torch.from_numpy(random.standard_normal(shape)).requires_grad_()

    labels = torch.from_numpy(random.integers(0, 4, 6))
    shares = torch.softmax(numbers(6, 4).detach(), 1)
    values, bits = numbers(6, 2).detach(), torch.from_numpy(random.integers(0, 2, (6, 2)).astype(float))
    counts = torch.from_numpy(random.poisson(2.0, (6, 2)).astype(float))
    classes = torch.tensor([0.5, 2.0, 1.0, 0.0], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.5, 3.0], dtype=torch.float64)

    def row_mean(terms):
        return terms.mean(), (weights[:, None] * terms).sum() / (weights.sum() * terms.shape[1])

    def case(section, z, target, plain, weighted):
        gradients = [torch.autograd.grad(value, z, retain_graph=True)[0].ravel().tolist() for value in (plain, weighted)]
        return {"loss": section, "outputs": z.shape[1], "prediction": z.detach().ravel().tolist(),
                "target": target.ravel().tolist(), "labels": not target.is_floating_point(),
                "value": plain.item(), "gradient": gradients[0],
                "weights": weights.tolist(), "weighted_value": weighted.item(), "weighted_gradient": gradients[1]}

    for smoothing in (0.0, 0.2):
        for factors in (None, classes):
            section = {"name": "cross_entropy", "label_smoothing": smoothing}
            if factors is not None:
                section["class_weights"] = classes.tolist()
            z = numbers(6, 4)
            terms = functional.cross_entropy(z, labels, factors, reduction="none", label_smoothing=smoothing)
            divisor = torch.ones(6, dtype=torch.float64) if factors is None else classes[labels]
            yield case(section, z, labels,
                       functional.cross_entropy(z, labels, factors, label_smoothing=smoothing),
                       (weights * terms).sum() / (weights * divisor).sum())
            z = numbers(6, 4)
            terms = functional.cross_entropy(z, shares, factors, reduction="none", label_smoothing=smoothing)
            yield case(section, z, shares, terms.mean(), (weights * terms).sum() / weights.sum())
    for positive in (1.0, 3.0):
        z = numbers(6, 2)
        terms = functional.binary_cross_entropy_with_logits(
            z, bits, reduction="none", pos_weight=torch.tensor(positive, dtype=torch.float64)
        )
        yield case({"name": "binary_cross_entropy", "positive_weight": positive}, z, bits, *row_mean(terms))
    z = numbers(6, 2)
    yield case({"name": "mse"}, z, values, *row_mean(functional.mse_loss(z, values, reduction="none")))
    yield case({"name": "mae"}, z, values, *row_mean(functional.l1_loss(z, values, reduction="none")))
    terms = functional.huber_loss(z, values, reduction="none", delta=0.7)
    yield case({"name": "huber", "delta": 0.7}, z, values, *row_mean(terms))
    terms = functional.poisson_nll_loss(z, counts, log_input=True, reduction="none")
    yield case({"name": "poisson_nll"}, z, counts, *row_mean(terms))
    z = torch.exp(numbers(6, 2).detach()).requires_grad_()
    terms = functional.poisson_nll_loss(z, counts, log_input=False, reduction="none")
    yield case({"name": "poisson_nll", "log_input": False}, z, counts, *row_mean(terms))
    z = numbers(6, 4)
    terms = functional.gaussian_nll_loss(z[:, :2], values, torch.exp(z[:, 2:]), reduction="none")
    yield case({"name": "gaussian_nll"}, z, values, *row_mean(terms))
    quantiles = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    z = numbers(6, 6)
    above = values[:, :, None] - z.reshape(6, 2, 3)
    terms = torch.maximum(quantiles * above, (quantiles - 1) * above).reshape(6, 6)
    yield case({"name": "quantile", "quantiles": quantiles.tolist()}, z, values, *row_mean(terms))


def main():
    random = numpy.random.default_rng(11)
    inputs = torch.from_numpy(random.standard_normal((ROWS, 6)).astype(numpy.float32))
    labels = torch.from_numpy(random.integers(0, 4, ROWS))
    model = network()
    torch.onnx.export(
        model, (inputs[:2],), "descent.onnx", dynamo=False, do_constant_folding=False,
        input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
    )
    file = onnx.load("descent.onnx")
    for item in [file, file.graph, *file.graph.node, *file.graph.initializer]:
        item.doc_string = ""
    onnx.save(file, "descent.onnx")
    document = {
        "inputs": inputs.ravel().tolist(),
        "labels": labels.tolist(),
        "batch": BATCH,
        "steps": STEPS,
        "trainings": list(training_cases(inputs, labels)),
        "validation": VALIDATION,
        "schedules": [{**rates(options), "schedule": options} for options in SCHEDULES],
        "losses": list(loss_cases(random)),
    }
    with open("torch_descent.json", "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.write("\n")


main()
