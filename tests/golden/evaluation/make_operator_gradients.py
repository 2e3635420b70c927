"""Makes the oracle of gradient rules: PyTorch's gradients of single operators, in double precision.

Needs torch. Writes `operator_gradients.json`: per case the ONNX node, its inputs, the weights of the scalar `sum(R y)`
for each output, and the gradients of the floating-point inputs. Run it in this directory:
`python make_operator_gradients.py`. Random numbers are seeded; PyTorch 2.15.0 made the committed file.
"""

import json

import torch
from torch.nn import functional

torch.set_default_dtype(torch.float64)
CASES = []


def numbers(*shape):
    # Five digits are exact enough as data, and short.
    return (torch.rand(*shape) * 2 - 1).mul(1e4).round().div(1e4).requires_grad_()


def case(operator, function, inputs, opset=20, **attributes):
    """`inputs` are tensors, or None where one is absent; those with gradients are variables."""
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    weights = [(torch.rand(*y.shape) * 2 - 1).mul(1e4).round().div(1e4) for y in outputs]
    total = sum((weight * y).sum() for weight, y in zip(weights, outputs))
    variables = [x for x in inputs if x is not None and x.requires_grad]
    gradients = torch.autograd.grad(total, variables)

    def tensor(x):
        if x is None:
            return None
        kind = "f64" if x.dtype == torch.float64 else str(x.dtype).replace("torch.", "")
        return {"shape": list(x.shape), "type": kind, "variable": x.requires_grad, "values": flat(x)}

    def flat(x):
        if x.dtype == torch.float64:
            return [float(f"{value:.12g}") for value in x.detach().flatten().tolist()]
        return [int(value) for value in x.flatten().tolist()]

    CASES.append(
        {
            "operator": operator,
            "opset": opset,
            "attributes": attributes,
            "inputs": [tensor(x) for x in inputs],
            "weights": [flat(weight) for weight in weights],
            "gradients": [flat(gradient) for gradient in gradients],
        }
    )


def ints(*values):
    return torch.tensor(values, dtype=torch.int64)


def convolutions():
    def conv(x_shape, w_shape, stride, pad, dilation, group, bias=True):
        rank = len(x_shape) - 2
        function = [functional.conv1d, functional.conv2d, functional.conv3d][rank - 1]
        inputs = [numbers(*x_shape), numbers(*w_shape)] + ([numbers(w_shape[0])] if bias else [])
        case(
            "Conv",
            lambda x, w, b=None: function(x, w, b, stride, pad, dilation, group),
            inputs,
            strides=list(stride),
            pads=list(pad) * 2,
            dilations=list(dilation),
            group=group,
        )

    conv((2, 3, 6, 7), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    conv((2, 2, 7, 8), (4, 2, 3, 3), (2, 2), (1, 1), (1, 1), 1, bias=False)
    conv((1, 2, 8, 8), (2, 2, 3, 2), (2, 1), (2, 0), (2, 3), 1)
    conv((2, 4, 5, 5), (6, 2, 3, 3), (1, 1), (0, 1), (1, 1), 2)
    conv((2, 3, 6, 6), (6, 1, 3, 3), (2, 2), (1, 1), (1, 1), 3)
    conv((2, 4, 6, 6), (4, 1, 5, 5), (1, 1), (2, 2), (1, 1), 4)
    conv((2, 9, 4, 4), (10, 9, 3, 3), (1, 1), (1, 1), (1, 1), 1)
    conv((2, 9, 4, 4), (9, 9, 1, 1), (2, 2), (0, 0), (1, 1), 1)
    conv((2, 3, 9), (4, 3, 3), (2,), (1,), (1,), 1)
    conv((1, 4, 9), (4, 1, 4), (1,), (3,), (2,), 4)
    conv((1, 2, 4, 4, 4), (3, 2, 2, 3, 2), (1, 2, 1), (0, 1, 1), (1, 1, 1), 1)

    # Same padding of an even kernel, as exporters of TensorFlow write it.
    case(
        "Conv",
        lambda x, w: functional.conv2d(functional.pad(x, (0, 1, 0, 1)), w, stride=2),
        [numbers(1, 2, 6, 6), numbers(2, 2, 3, 3)],
        auto_pad="SAME_UPPER",
        strides=[2, 2],
    )

    def back(x_shape, w_shape, stride, pad, extra, dilation, group):
        function = [functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d]
        function = function[len(x_shape) - 3]
        case(
            "ConvTranspose",
            lambda x, w, b: function(x, w, b, stride, pad, extra, group, dilation),
            [numbers(*x_shape), numbers(*w_shape), numbers(w_shape[1] * group)],
            strides=list(stride),
            pads=list(pad) * 2,
            output_padding=list(extra),
            dilations=list(dilation),
            group=group,
        )

    back((2, 3, 4, 4), (3, 2, 3, 3), (2, 2), (1, 1), (1, 1), (1, 1), 1)
    back((1, 4, 3, 4), (4, 2, 2, 3), (1, 2), (0, 1), (0, 0), (2, 1), 2)
    back((1, 2, 5), (2, 3, 4), (2,), (1,), (0,), (1,), 1)
    back((1, 2, 2, 3, 2), (2, 1, 2, 2, 2), (1, 2, 1), (0, 0, 0), (0, 1, 0), (1, 1, 1), 1)


def pools():
    def pool(x_shape, kernel, stride, pad, ceil=False, dilation=None):
        rank = len(x_shape) - 2
        maximum = [functional.max_pool1d, functional.max_pool2d, functional.max_pool3d][rank - 1]
        mean = [functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d][rank - 1]
        common = dict(kernel_shape=kernel, strides=stride, pads=pad * 2, ceil_mode=int(ceil))
        case(
            "MaxPool",
            lambda x: maximum(x, kernel, stride, pad, dilation or 1, ceil),
            [numbers(*x_shape)],
            dilations=dilation or [1] * rank,
            **common,
        )
        if dilation is None:
            for counted in (False, True):
                case(
                    "AveragePool",
                    lambda x: mean(x, kernel, stride, pad, ceil, counted),
                    [numbers(*x_shape)],
                    count_include_pad=int(counted),
                    **common,
                )

    pool((2, 2, 6, 6), [2, 2], [2, 2], [0, 0])
    pool((2, 2, 7, 7), [3, 3], [2, 2], [1, 1])
    pool((1, 2, 6, 7), [3, 2], [1, 2], [1, 0])
    pool((1, 2, 6, 6), [3, 3], [2, 2], [0, 0], ceil=True)
    pool((1, 2, 6, 7), [3, 3], [2, 2], [1, 1], ceil=True)
    pool((1, 2, 7, 7), [2, 2], [1, 1], [0, 0], dilation=[2, 3])
    pool((2, 2, 9), [3], [2], [1])
    pool((1, 2, 4, 4, 4), [2, 2, 2], [2, 2, 2], [0, 0, 0])
    case("GlobalAveragePool", lambda x: x.mean((2, 3), keepdim=True), [numbers(2, 3, 4, 4)])
    case("GlobalMaxPool", lambda x: functional.adaptive_max_pool2d(x, 1), [numbers(2, 3, 4, 4)])


def norms():
    case(
        "LayerNormalization",
        lambda x, w, b: functional.layer_norm(x, (5,), w, b, 1e-5),
        [numbers(2, 3, 5), numbers(5), numbers(5)],
        axis=-1,
        epsilon=1e-5,
    )
    case(
        "LayerNormalization",
        lambda x, w: functional.layer_norm(x, (2, 4), w, None, 1e-3),
        [numbers(3, 2, 4), numbers(2, 4)],
        axis=1,
        epsilon=1e-3,
    )
    case(
        "InstanceNormalization",
        lambda x, w, b: functional.instance_norm(x, None, None, w, b, eps=1e-5),
        [numbers(2, 3, 4, 3), numbers(3), numbers(3)],
        epsilon=1e-5,
    )
    case(
        "GroupNormalization",
        lambda x, w, b: functional.group_norm(x, 2, w, b, 1e-5),
        [numbers(2, 4, 3, 3), numbers(4), numbers(4)],
        opset=21,
        num_groups=2,
        epsilon=1e-5,
    )
    case(
        "RMSNormalization",
        lambda x, w: functional.rms_norm(x, (5,), w, 1e-5),
        [numbers(2, 3, 5), numbers(5)],
        opset=23,
        axis=-1,
        epsilon=1e-5,
    )
    mean, variance = numbers(3).detach(), numbers(3).detach().abs() + 0.5
    case(
        "BatchNormalization",
        lambda x, w, b, m, v: functional.batch_norm(x, m, v, w, b, False, 0.1, 1e-5),
        [numbers(4, 3, 2), numbers(3), numbers(3), mean, variance],
        epsilon=1e-5,
    )


def recurrent():
    """The gates stand in another order in ONNX; PyTorch's weights are made of leaves in that order."""

    def layer(operator, gates, order, hidden, bidirectional, states, activation=None):
        steps, batch, inputs = 4, 2, 3
        count = 2 if bidirectional else 1

        def run(x, w, r, b, lengths, *initial):
            flat = []
            rows = torch.cat([torch.arange(hidden) + gate * hidden for gate in order])
            for index in range(count):
                half = gates * hidden
                flat += [w[index][rows], r[index][rows], b[index][:half][rows], b[index][half:][rows]]
            tail = (True, 1, 0.0, False, bidirectional, False)
            initial = initial or tuple(torch.zeros(count, batch, hidden) for _ in range(2))
            if operator == "LSTM":
                y, h, c = torch._VF.lstm(x, initial[:2], flat, *tail)
            else:
                function = {"GRU": torch._VF.gru, "RNN": torch._VF.rnn_tanh}[operator]
                if activation == "Relu":
                    function = torch._VF.rnn_relu
                y, h = function(x, initial[0], flat, *tail)
            y = y.reshape(steps, batch, count, hidden).permute(0, 2, 1, 3)
            return (y, h, c) if operator == "LSTM" else (y, h)

        given = [numbers(count, batch, hidden) for _ in range(2 if operator == "LSTM" else 1)] if states else []
        attributes = {"hidden_size": hidden, "direction": "bidirectional" if bidirectional else "forward"}
        if operator == "GRU":
            attributes["linear_before_reset"] = 1
        if activation:
            attributes["activations"] = [activation] * count
        case(
            operator,
            run,
            [
                numbers(steps, batch, inputs),
                numbers(count, gates * hidden, inputs),
                numbers(count, gates * hidden, hidden),
                numbers(count, 2 * gates * hidden),
                None,
                *given,
            ],
            **attributes,
        )

    for bidirectional in (False, True):
        for states in (False, True):
            # PyTorch: input, forget, cell, output; ONNX: input, output, forget, cell.
            layer("LSTM", 4, [0, 2, 3, 1], 2, bidirectional, states)
            # PyTorch: reset, update, new; ONNX: update, reset, new.
            layer("GRU", 3, [1, 0, 2], 2, bidirectional, states)
            layer("RNN", 1, [0], 3, bidirectional, states)
    layer("RNN", 1, [0], 3, False, True, activation="Relu")


def others():
    case(
        "Attention",
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
        [numbers(2, 2, 4, 3), numbers(2, 2, 4, 3), numbers(2, 2, 4, 3)],
        opset=23,
        is_causal=1,
    )
    case(
        "Attention",
        lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, m, enable_gqa=True),
        [numbers(1, 4, 3, 2), numbers(1, 2, 5, 2), numbers(1, 2, 5, 3), numbers(3, 5)],
        opset=23,
    )
    case("Gather", lambda w, i: functional.embedding(i, w), [numbers(5, 3), ints(0, 4, 2, 4, 4)], axis=0)
    case(
        "Resize",
        lambda x, *_: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
        [numbers(1, 2, 3, 4), None, None, ints(1, 2, 6, 8)],
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    case(
        "Resize",
        lambda x, *_: functional.interpolate(x, size=(5, 7), mode="bicubic", align_corners=True),
        [numbers(1, 2, 4, 4), None, None, ints(1, 2, 5, 7)],
        mode="cubic",
        coordinate_transformation_mode="align_corners",
        cubic_coeff_a=-0.75,
    )
    case(
        "Pad",
        lambda x, _: functional.pad(x, (2, 1, 1, 2), mode="reflect"),
        [numbers(1, 2, 4, 4), ints(0, 0, 1, 2, 0, 0, 2, 1)],
        mode="reflect",
    )
    case(
        "Gelu", lambda x: functional.gelu(x, approximate="tanh"), [numbers(3, 4)], approximate="tanh"
    )
    case("Einsum", lambda a, b: torch.einsum("bqhd,bkhd->bhqk", a, b), [numbers(2, 3, 2, 4), numbers(2, 5, 2, 4)],
         equation="bqhd,bkhd->bhqk")


def main():
    torch.manual_seed(4)
    convolutions()
    pools()
    norms()
    recurrent()
    others()
    with open("operator_gradients.json", "w") as file:
        file.write("[\n")
        file.write(",\n".join(json.dumps(case, separators=(",", ":")) for case in CASES))
        file.write("\n]\n")


main()
