#!/bin/sh
# How good are the samplers? Runs them on the problems of a benchmark kit and prints the tables of steering/README.md.
#
#     steering/benches/quality.sh KIT [SEEDS [OUT]]
#
# KIT    folder with run.py, score.py and results/peers.jsonl.gz, the runs of the peers
# SEEDS  seeds per problem and setting, 20 unless given
# OUT    folder for the result lines; runs that are there already are not repeated
#
# PYTHON names the interpreter that has the requirements of the kit, SAMPLERS what to run; PROBLEMS and JOBS as in run.py.
# PEERS may name further files of result lines.
set -eu

kit=$(cd "${1:?the folder of the benchmark kit is missing}" && pwd)
seeds=${2:-20}
out=${3:-target/benches}
python=${PYTHON:-python3}
problems=${PROBLEMS:-public}
here=$(cd "$(dirname "$0")/../.." && pwd)

cd "$here"
cargo build --release --quiet --package steering
steering=$(cargo metadata --format-version 1 --no-deps |
    "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/steering
mkdir -p "$out"
out=$(cd "$out" && pwd)

run() { # budget, batch
    for sampler in ${SAMPLERS:-auto gp tpe}; do
        "$python" "$kit/run.py" --problems "$problems" --seeds "$seeds" --budget "$1" --batch "$2" --jobs "${JOBS:-1}" \
            --out "$out/$sampler.jsonl" \
            --samplers "$sampler=cmd:$steering ask --lib $sampler -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT" >&2
    done
}

score() { # budget, batch
    # shellcheck disable=SC2086 # PEERS is a list
    "$python" "$kit/score.py" "$out"/*.jsonl "$kit/results/peers.jsonl.gz" ${PEERS:-} --problems "$problems" \
        --budget "$1" --batch "$2"
}

export PYTHONDONTWRITEBYTECODE=1
run 100 1
run 96 8
score 32 1
score 100 1
score 96 8
