"""Checks the definitions of images without building them; see `definitions.sh`."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CONTAINERS = REPOSITORY / "containers"


def dockerfile(kind):
    """Instructions and their arguments, in their order, without comments."""
    text = (CONTAINERS / f"{kind}.Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    return [(word, " ".join(rest.split())) for word, _, rest in (line.strip().partition(" ") for line in lines) if word]


def definition(kind):
    """The lines of each section of an Apptainer definition, the header's under ``."""
    sections, name = {"": []}, ""
    for line in (CONTAINERS / f"{kind}.def").read_text().splitlines():
        line = " ".join(line.split())
        if line.startswith("%"):
            name = line[1:]
            sections[name] = []
        elif line and not line.startswith("#"):
            sections[name].append(line)
    return sections


def instructions(kind, wanted):
    return [rest for word, rest in dockerfile(kind) if word == wanted]


def steps(commands):
    """Single commands, in their order."""
    return [step.strip() for command in commands for step in command.split("&&")]


for kind in ("steering", "evaluation"):
    docker, apptainer = dockerfile(kind), definition(kind)
    [base] = [rest.removeprefix("BASE=") for rest in instructions(kind, "ARG")]
    pinned = re.fullmatch(r"docker\.io/library/(debian@sha256:[0-9a-f]{64})", base)
    assert pinned, f"{kind}: the base is not pinned by its digest: {base}"
    assert instructions(kind, "FROM") == ["${BASE}"], docker
    assert apptainer[""] == ["Bootstrap: {{ BOOTSTRAP }}", "From: {{ BASE }}"], apptainer[""]
    assert apptainer["arguments"] == ["BOOTSTRAP=docker", f"BASE={pinned[1]}"], "the two definitions have different bases"
    assert instructions(kind, "COPY") == apptainer["files"], "the two definitions have different files"
    assert steps(instructions(kind, "RUN")) == apptainer["post"], (steps(instructions(kind, "RUN")), apptainer["post"])
    assert instructions(kind, "USER") == ["1000:1000"] and instructions(kind, "WORKDIR") == ["/srv/workDir"], docker
    assert instructions(kind, "CMD") == [f'["{kind}", "--help"]'] and apptainer["runscript"] == [f'exec {kind} "$@"'], docker
    [labels] = instructions(kind, "LABEL")
    for label in apptainer["labels"]:
        name, value = label.split(" ", 1)
        assert f'{name}="{value}"' in labels, f"{kind}: {label} is not in {labels}"
assert any("XDG_CACHE_HOME=/opt/cache" in rest for rest in instructions("evaluation", "ENV"))
assert definition("evaluation")["environment"] == ["export XDG_CACHE_HOME=/opt/cache"]

# A build for GPUs, with a program that fetches nothing and a builder that only looks at what it is given.
with tempfile.TemporaryDirectory() as folder:
    room = Path(folder)
    (room / "evaluation").write_text('#!/bin/sh\nmkdir -p "$XDG_CACHE_HOME/hpo"\necho "$*" > "$XDG_CACHE_HOME/hpo/asked"\n')
    (room / "builder").write_text('#!/bin/sh\necho "$*" > arguments\nfor last; do :; done\nls -R "$last" > context\ncp -r "$last" kept\n')
    for program in ("evaluation", "builder"):
        (room / program).chmod(0o755)
    subprocess.run([CONTAINERS / "build", "evaluation", room, "--cuda", "--tag", "a/b:1"], cwd=room, check=True,
                   env={**os.environ, "BUILDER": str(room / "builder")})
    for source in (rest.split()[0] for rest in instructions("evaluation", "COPY")):
        assert (room / "kept" / source).exists(), f"`{source}` is copied but not in the build's context"
    assert (room / "kept/cache/hpo/asked").read_text() == "setup --gpu\n"
    assert "-t a/b:1 -f" in (room / "arguments").read_text()

# What the build for GPUs would fetch is in the package index, with the checksums that the program expects.
source = (REPOSITORY / "evaluation/src/engine/library/wheels.rs").read_text()
version = re.search(r'PINNED_VERSION: &str = "([^"]+)"', (REPOSITORY / "evaluation/src/engine/library.rs").read_text())[1]
listed = re.search(r"const GPU:.*?= \[(.*?)\n\];", source, re.S)[1]
wanted = {package: (number.strip('"').replace("PINNED_VERSION", version), checksum)
          for package, number, checksum in re.findall(r'"([^"]+)",\s*("[^"]+"|PINNED_VERSION),\s*"([0-9a-f]{64})"', listed)}
assert len(wanted) == 8, wanted
platforms = [f"--platform=manylinux{suffix}_x86_64" for suffix in ("_2_28", "_2_27", "2014")]
with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run", "--no-deps", "--ignore-installed",
               "--only-binary=:all:", "--implementation=cp", "--python-version=3.12", "--target", folder, "--report", f"{folder}/report",
               *platforms, *(f"{package}=={number}" for package, (number, _) in wanted.items())]
    subprocess.run(command, check=True)
    found = {item["metadata"]["name"].lower().replace("_", "-"): (item["metadata"]["version"], item["download_info"]["archive_info"]["hashes"]["sha256"])
             for item in json.loads(Path(folder, "report").read_text())["install"]}
assert found == wanted, f"the package index has\n{found}\nexpected\n{wanted}"

print("the definitions of images agree with each other, and what the one for GPUs fetches is there as expected")
