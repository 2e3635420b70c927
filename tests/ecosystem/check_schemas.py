"""The schemas for editors say of documents what the programs say of them.

    PYTHONPATH=target/ecosystem python3 tests/ecosystem/check_schemas.py target/debug

Needs jsonschema.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema

programs = pathlib.Path(sys.argv[1]).resolve()
repository = pathlib.Path(__file__).resolve().parents[2]
scratch = pathlib.Path(tempfile.mkdtemp())


def schema(program):
    text = subprocess.run([programs / program, "schema"], check=True, capture_output=True).stdout
    document = json.loads(text)
    validator = jsonschema.validators.validator_for(document)
    validator.check_schema(document)
    return validator(document)


spaces, tasks = schema("steering"), schema("hpo")


def is_space(document):
    """The word of `steering validate`."""
    path = scratch / "space.json"
    path.write_text(json.dumps(document))
    done = subprocess.run([programs / "steering", "validate", "-s", path], capture_output=True, text=True)
    assert done.returncode in (0, 2), done.stderr
    return done.returncode == 0


good = [json.loads(path.read_text()) for path in sorted((repository / "search_spaces").glob("*.json"))]
page = (repository / "search_spaces/README.md").read_text()
good += [json.loads(example) for example in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
good += [json.loads(path.read_text()) for path in sorted((repository / "examples").glob("*/search_space.json"))]
good.append({"$schema": "search_space.schema.json", "x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}})
assert len(good) > 25
for document in good:
    assert is_space(document), document
    spaces.validate(document)

uniform = {"low": 0, "high": 1}
bad = [
    [],
    {},
    7,
    {"$schema": "x"},
    {"": {"method": "uniform", "dimension": uniform}},
    {"hpo.n": {"method": "uniform", "dimension": uniform}},
    {"x": 7},
    {"x": [1]},
    {"x": [1, 2, 3]},
    {"x": ["a", "b"]},
    {"x": {}},
    {"x": {"method": "uniform"}},
    {"x": {"method": "unifrom", "dimension": uniform}},
    {"x": {"method": "uniform", "dimension": uniform, "note": "none"}},
    {"x": {"method": "uniform", "dimension": {"low": 0}}},
    {"x": {"method": "uniform", "dimension": {"low": 0, "hihg": 1}}},
    {"x": {"method": "uniform", "dimension": {"low": "0", "high": 1}}},
    {"x": {"method": "uniform", "dimension": uniform, "if": []}},
    {"x": {"method": "uniform", "dimension": uniform, "if": {"y": []}}},
    {"x": {"method": "uniform", "dimension": {"low": 0, "high": 1, "levels": 0}}},
    {"x": {"method": "uniform", "dimension": {"low": 0, "high": 1, "base": 10}}},
    {"x": {"method": "uniformint", "dimension": {"low": 0.5, "high": 3}}},
    {"x": {"method": "loguniform", "dimension": {"low": 0, "high": 1}}},
    {"x": {"method": "loguniform", "dimension": {"low": 0.1, "high": 1, "base": 1}}},
    {"x": {"method": "quniform", "dimension": {"low": 0, "high": 1, "q": 0}}},
    {"x": {"method": "normal", "dimension": {"mu": 0, "sigma": 0}}},
    {"x": {"method": "normal", "dimension": {"mu": 0}}},
    {"x": {"method": "categorical", "dimension": {"categories": []}}},
    {"x": {"method": "categorical", "dimension": {"categories": "ab"}}},
    {"x": {"method": "categorical", "dimension": {"categories": [1], "grid_search": 2}}},
    {"x": {"method": "fixed", "dimension": {}}},
    {"x": {"type": "Array", "params": {"shape": [2]}}},
    {"x": {"type": "Choice", "params": {"choices": []}}},
    {"x": {"type": "Log", "params": {"lower": 0, "upper": 1}}},
    {"x": {"type": "Scalar", "bounds": [1]}},
    [{"model_id": 0}],
    [{"model_id": -1, "search_space": {"x": [0, 1]}}],
    [{"model_id": 0, "search_space": {"x": [0]}}],
]
for document in bad:
    assert not is_space(document), document
    assert not spaces.is_valid(document), document

for path in sorted((repository / "examples").glob("*/task.json")):
    # Comments are for people.
    tasks.validate(json.loads(re.sub(r"^\s*//.*$", "", path.read_text(), flags=re.MULTILINE)))
for document in [[], {"maxPoints": -1}, {"maxPoints": "many"}, {"maxPoint": 3}, {"noEmail": "no"}, {"backend": "pbs"}, {"outDS": []}]:
    assert not tasks.is_valid(document), document

print(f"schemas: {len(good)} search spaces accepted, {len(bad)} refused, as the program does; task files of all examples accepted")
