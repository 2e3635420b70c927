#!/bin/sh
# How good are the samplers, and those of others? Runs them side by side on the problems of a benchmark kit and prints the tables of
# steering/README.md.
#
#     steering/benches/quality.sh KIT [SEEDS [OUT [PEER,PEER…:SEEDS]...]]
#
# KIT    folder with run.py and score.py
# SEEDS  seeds per problem and setting, 20 unless given
# OUT    folder for the result lines, target/benches unless given; runs that are there already are not repeated
# PEER   a sampler that the kit drives, such as random or optuna-tpe, with its own number of seeds: some take minutes for one run
#
# PYTHON names the interpreter that has the requirements of the kit and the peers, SAMPLERS what to run of ours; PROBLEMS and JOBS as
# in run.py. HPO_STEERING names the program to be measured, else it is built.
set -eu

kit=$(cd "${1:?the folder of the benchmark kit is missing}" && pwd)
seeds=${2:-20}
out=${3:-target/benches}
shift "$(($# < 3 ? $# : 3))"
python=${PYTHON:-python3}
problems=${PROBLEMS:-public}

cd "$(dirname "$0")/../.."
if [ -z "${HPO_STEERING:-}" ]; then
    cargo build --release --quiet --package steering
    HPO_STEERING=$(cargo metadata --format-version 1 --no-deps |
        "$python" -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/steering
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)

run() { # name of the result lines, samplers, seeds; in all settings
    for setting in "32 1" "100 1" "96 8"; do
        "$python" "$kit/run.py" --problems "$problems" --seeds "$3" --budget "${setting% *}" --batch "${setting#* }" \
            --jobs "${JOBS:-1}" --out "$out/$1.jsonl" --samplers "$2" >&2
    done
}

score() { # budget, batch
    "$python" "$kit/score.py" "$out"/*.jsonl --problems "$problems" --budget "$1" --batch "$2"
}

export PYTHONDONTWRITEBYTECODE=1
for sampler in ${SAMPLERS:-auto gp tpe}; do
    run "$sampler" "$sampler=cmd:$HPO_STEERING ask --lib $sampler -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT" "$seeds"
done
for peers in "$@"; do
    run "peers" "${peers%:*}" "${peers#*:}"
done
score 32 1
score 100 1
score 96 8
