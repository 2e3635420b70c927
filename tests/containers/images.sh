#!/usr/bin/env bash
# The images of `containers/` are built and a search runs in them, without registry or daemon: on a base that is put together from
# packages of the distribution, under the name of the base that they are written for.
#
#     tests/containers/images.sh PROGRAMS      the directory of `hpo`, `steering` and `evaluation`
#
# Needs root on Debian with buildah, podman and runc; elsewhere it says so and ends without having checked anything.
set -euo pipefail
programs=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
repository=$here/../..
for program in buildah podman runc dpkg-deb apt-get; do
  command -v "$program" >/dev/null || { echo "skipped: \`$program\` is not installed"; exit 0; }
done

room=$(mktemp -d)
cd "$room"
. "$here/sandbox.sh"
. "$here/base.sh"
export BUILDER=buildah BUILD_OPTIONS=--pull-never
base=localhost/hpo-base-$$ steering=localhost/hpo-steering-$$ evaluation=localhost/hpo-evaluation-$$
trap 'podman rmi -f "$steering" "$evaluation" "$base" >/dev/null 2>&1 || true; rm -rf "$room"' EXIT

base_tree tree || { echo "skipped: packages of the distribution cannot be had"; exit 0; }
container=$(buildah from scratch)
buildah add -q "$container" tree / >/dev/null
buildah commit -q "$container" "$base" >/dev/null
buildah rm "$container" >/dev/null
if ! podman run --rm --network none "$base" /bin/bash -c true; then
  echo "skipped: podman cannot run containers here"
  exit 0
fi

for kind in steering evaluation; do
  "$repository/containers/build" "$kind" "$programs" --base "$base" --tag "localhost/hpo-$kind-$$" >/dev/null
done

inside() { podman run --rm --network none --read-only "$@"; }
seconds() { local begin=$EPOCHREALTIME; "$@" >/dev/null; awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $begin }"; }

# Nobody is root, nothing can be written but the work directory, and the names are those that task files know.
[ "$(inside "$steering" /bin/bash -c 'id -u')" = 1000 ]
if inside "$steering" /bin/bash -c 'echo > /usr/local/made' 2>/dev/null; then echo "the image can be written to"; exit 1; fi
inside "$steering" /bin/bash -c 'hpogrid --version && pwd' | grep -qx /srv/workDir
inside "$evaluation" evaluation library | grep -q /opt/cache
echo "the images run, without privileges and read-only"
for kind in base steering evaluation; do
  image=${!kind}
  bytes=$(podman image inspect -f '{{.Size}}' "$image")
  echo "$kind: $((bytes / 1000000)) MB, starts in $(seconds inside "$image" /bin/bash -c true) s"
done

# A command line written for hpogrid and docker.
mkdir steer && chmod 777 steer
echo '{"points": [], "opt_space": {"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}}' >steer/in.json
inside -v "$room/steer:/workDir" "$steering" /bin/bash -c \
  "hpogrid generate --n_point 2 --max_point 4 --infile /workDir/in.json --outfile /workDir/out.json --lib nevergrad" >/dev/null
grep -q '"x"' steer/out.json
echo "a command line of hpogrid runs in the image"

# A search of which both halves run in the images.
cp "$repository"/examples/digits/{model.json,search_space.json,digits.csv.gz} .
"$programs/hpo" run --taskDir search --searchSpaceFile search_space.json --maxPoints 2 --nPointsPerIteration 2 --nParallelEvaluation 1 \
  --containerRuntime podman --steeringContainer "docker://$steering" \
  --steeringExec '/bin/bash -c "steering ask -n %NUM_POINTS -m %MAX_POINTS -i %IN -o %OUT"' \
  --evaluationContainer "docker://$evaluation" --evaluationExec 'evaluation run --model model.json' \
  --trainingDS digits.csv.gz --alrbArgs '--network none' --quiet
"$programs/hpo" show search | grep -q "2 points: 2 done"
echo "a search runs with steering and evaluation in their images"
