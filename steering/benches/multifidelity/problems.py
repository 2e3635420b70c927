"""Learning curves to be replayed: what a configuration loses after so many epochs.

LCBench (published surrogates of real curves, 52 epochs), an MLP on digits (surrogate of real curves, 27 epochs) and
ClimSim (7,983 real curves of 12 epochs, a table) of the benchmark kit.
"""

import gzip
import hashlib
import json
import os
import sys

import numpy as np


class Curves:
    """`loss(point, epochs)` is what the search sees, `truth(point)` the noiseless loss after full training."""

    def __init__(self, name, space, full, noise=0.0):
        self.name, self.space, self.full, self.noise = name, space, full, noise
        self.cache = {}

    def key(self, point):
        return json.dumps({k: point[k] for k in sorted(point) if not k.startswith("hpo.")})

    def curve(self, point):
        key = self.key(point)
        if key not in self.cache:
            self.cache[key] = self._curve({k: v for k, v in point.items() if not k.startswith("hpo.")})
        return self.cache[key]

    def truth(self, point):
        return float(self.curve(point)[-1])

    def loss(self, point, epochs, seed):
        value = float(self.curve(point)[epochs - 1])
        if not self.noise:
            return value
        digest = hashlib.sha256(f"{seed} {self.key(point)} {epochs}".encode()).digest()
        normal = np.random.default_rng(int.from_bytes(digest[:8], "little")).standard_normal()
        return value * float(np.exp(self.noise * normal))


class LCBench(Curves):
    def __init__(self, problem):
        super().__init__(problem.name, problem.space.spec, 52)
        self.problem = problem

    def _curve(self, point):
        fixed = dict(self.problem.meta["fixed"])
        p = self.problem
        xc = np.zeros((52, len(p.cont)), np.float32)
        xk = np.zeros((52, len(p.cat)), np.int32)
        q = dict(fixed, **point)
        for epoch in range(52):
            q["epoch"] = epoch + 1
            xc[epoch] = [q[c] for c in p.cont]
        xk[:] = [q[k] if isinstance(q[k], int) else p.meta["codes"][k][q[k]] for k in p.cat]
        y = p.net.run(None, {"x_cont": xc, "x_cat": xk})[0][:, p.meta["column"]]
        return p.meta["sign"] * y.astype(float) + p.meta["shift"]


class Digits(Curves):
    def __init__(self, problem):
        super().__init__(problem.name, problem.space.spec, 27, noise=problem.noise)
        self.problem = problem

    def _curve(self, point):
        p = self.problem
        x = np.repeat(p.space.features(p.space.encode(point)[None]), 27, axis=0)
        epochs = 2 * np.log(np.arange(1, 28)) / np.log(27.0) - 1
        x = np.hstack([x, epochs[:, None], np.ones((27, 1))])
        return p.inverse(p._net(x))


class ClimSim(Curves):
    def __init__(self, path):
        with gzip.open(path, "rt") as lines:
            self.curves = [np.array(json.loads(line)["curve"], float) for line in lines]
        space = {"trial": {"method": "uniformint", "dimension": {"low": 0, "high": len(self.curves) - 1}}}
        super().__init__("climsim", space, 12)

    def _curve(self, point):
        return self.curves[point["trial"]]


def load(kit):
    """All problems by name."""
    sys.path.insert(0, kit)
    from hpokit import problems as kits

    found = kits.available()
    result = {}
    for name in sorted(found):
        if name.startswith("lcbench_"):
            result[name] = LCBench(kits.load(found[name]))
        elif name == "mlp_digits":
            result[name] = Digits(kits.load(found[name]))
    result["climsim"] = ClimSim(os.path.join(kit, "data", "climsim_v1.jsonl.gz"))
    return result
