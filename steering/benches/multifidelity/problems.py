"""Learning curves to be replayed: what a configuration loses after so many epochs.

LCBench (published surrogates of real curves, 52 epochs), an MLP on digits (surrogate of real curves, 27 epochs) and
ClimSim (7,983 real curves of 12 epochs, a table) of the benchmark kit.

    python problems.py KIT

describes all problems in one line, and then answers each line `{"problem", "seed", "point", "epochs", "share"}`, share being that
of the training data, with `{"loss", "truth"}`: `loss` is null where a training diverged, `truth` is the noiseless loss where it is
full training.
"""

import gzip
import hashlib
import json
import os
import sys

import numpy as np


BUDGET = 100


class Curves:
    """`loss(point, epochs, seed)` is what the search sees, `truth(point)` the noiseless loss after full training."""

    def __init__(self, name, space, full, noise=0.0, goal=None):
        self.name, self.space, self.full, self.noise, self.goal = name, space, full, noise, goal
        self.cache = {}

    def key(self, point):
        return json.dumps({k: point[k] for k in sorted(point) if not k.startswith("hpo.")})

    def at(self, point, epochs, share=1.0):
        key = self.key(point), epochs, share
        if key not in self.cache:
            point = {k: v for k, v in point.items() if not k.startswith("hpo.")}
            self.cache[key] = float(self._at(point, epochs) if share == 1.0 else self._at(point, epochs, share))
        return self.cache[key]

    def truth(self, point):
        return self.at(point, self.full)

    def loss(self, point, epochs, seed, share=1.0):
        value = self.at(point, epochs, share)
        if not self.noise:
            return value
        digest = hashlib.sha256(f"{seed} {self.key(point)} {epochs} {share}".encode()).digest()
        normal = np.random.default_rng(int.from_bytes(digest[:8], "little")).standard_normal()
        return value * float(np.exp(self.noise * normal))

    def target(self, seeds=100):
        """What random search finds in BUDGET full trainings, in the median; the kit knows it for its own problems."""
        if self.goal is None:
            from hpokit.space import Space

            space = Space(self.space)
            best = []
            for seed in range(seeds):
                rng = np.random.default_rng(1_000 + seed)
                seen = [(self.loss(p, self.full, seed), self.truth(p)) for p in (space.sample(rng) for _ in range(BUDGET))]
                # Some of the real trainings diverged.
                best.append(min(pair for pair in seen if pair[0] == pair[0])[1])
            self.goal = float(np.median(best))
        return self.goal


class LCBench(Curves):
    def __init__(self, problem):
        super().__init__(problem.name, problem.space.spec, 52, goal=problem.meta["random"][str(BUDGET)])
        self.problem = problem

    def _at(self, point, epochs):
        p = self.problem
        q = dict(p.meta["fixed"], **point, epoch=epochs)
        xc = np.array([[q[c] for c in p.cont]], np.float32)
        xk = np.array([[q[k] if isinstance(q[k], int) else p.meta["codes"][k][q[k]] for k in p.cat]], np.int32)
        y = p.net.run(None, {"x_cont": xc, "x_cat": xk})[0][0, p.meta["column"]]
        return p.meta["sign"] * float(y) + p.meta["shift"]


class Digits(Curves):
    def __init__(self, problem):
        super().__init__(
            problem.name, problem.space.spec, 27, noise=problem.noise, goal=problem.meta["random"][str(BUDGET)]
        )
        self.problem = problem

    def _at(self, point, epochs, share=1.0):
        return self.problem.true(point, epoch=epochs, fraction=share)


class ClimSim(Curves):
    def __init__(self, path):
        with gzip.open(path, "rt") as lines:
            self.curves = [json.loads(line)["curve"] for line in lines]
        space = {"trial": {"method": "uniformint", "dimension": {"low": 0, "high": len(self.curves) - 1}}}
        super().__init__("climsim", space, 12)

    def _at(self, point, epochs):
        value = self.curves[point["trial"]][epochs - 1]
        return float("nan") if value is None else value


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


def serve(kit):
    known = load(kit)
    describe = [{"name": p.name, "space": p.space, "full": p.full, "goal": p.target()} for p in known.values()]
    print(json.dumps(describe), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        problem = known[asked["problem"]]
        loss = problem.loss(asked["point"], asked["epochs"], asked["seed"], asked["share"])
        truth = problem.truth(asked["point"]) if asked["epochs"] == problem.full and asked["share"] == 1.0 else None
        answer = {"loss": loss if loss == loss else None, "truth": truth if truth == truth else None}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
