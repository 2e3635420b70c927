#!/usr/bin/env bash
# Evaluations in real containers: podman runs an image that buildah makes of one static program, without registry or daemon.
#
#     tests/containers/check.sh HPO      the directory of `hpo` and `steering`
#
# Needs buildah, podman, runc and a static busybox, which are installed where this runs as root on Debian; elsewhere, where
# something is missing, it says so and ends without having checked anything.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH=$(realpath "$1"):$PATH
for program in buildah podman runc busybox; do
  if ! command -v "$program" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends buildah podman runc busybox-static >/dev/null
  fi
  command -v "$program" >/dev/null || { echo "skipped: \`$program\` is not installed"; exit 0; }
done

room=$(mktemp -d)
cd "$room"
mkdir image
cp "$(command -v busybox)" image/busybox
cat >image/Dockerfile <<'END'
FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
END
. "$here/sandbox.sh"
image=localhost/hpo-check-$$
buildah bud -q -t "$image" image >/dev/null
if ! podman run --rm --network none "$image" /bin/busybox true; then
  echo "skipped: podman cannot run containers here"
  exit 0
fi
trap 'podman rmi -f "$image" >/dev/null 2>&1; rm -rf "$room"' EXIT
echo '{"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}' >space.json

search() { # directory, command, further options
  local directory=$1 command=$2
  shift 2
  hpo run --taskDir "$directory" --searchSpaceFile space.json --maxPoints 3 --nParallelEvaluation 3 --nPointsPerIteration 3 \
    --minUnevaluatedPoints 0 --containerRuntime podman --evaluationContainer "docker://$image" --alrbArgs '--network none' \
    --evaluationExec "$command" "$@"
}
nothing_left() {
  [ -z "$(podman ps -aq)" ] || { echo "containers are left:"; podman ps -a; exit 1; }
  if pgrep -f "sleep 4242"; then echo "processes are left"; exit 1; fi
}

# The input is there, the loss is read, the variables are set, the image is read-only.
search plain 'test -n "$HPO_POINT_ID" && ! busybox touch /made 2>/dev/null || exit 9
busybox sed "s/.*\"x\": *\([0-9.e-]*\).*/{\"status\": 0, \"loss\": \1}/" input.json > output.json'
hpo show plain | grep -q "3 points: 3 done" || { hpo show plain; exit 1; }
nothing_left
echo "evaluations run in a read-only image"

# A time limit ends the container, and so does the death of the processes that watch over it.
if search late 'busybox sleep 4242' --evaluationTimeout 2s --killGrace 1s --maxAttempts 1 2>late.log; then echo "a search without any point succeeds"; exit 1; fi
grep -q "not finished after 2 s" late.log
nothing_left
echo "a time limit leaves no container"

search lost 'busybox sleep 4242' --maxLostAttempts 1 --maxAttempts 1 2>lost.log &
until [ "$(podman ps -q | wc -l)" = 3 ]; do kill -0 $! || { cat lost.log; exit 1; }; done
pkill -9 -f "hpo runner $room" || pkill -9 -f "runner .*$room"
for _ in $(seq 2000); do podman ps -q | grep -q . || break; done
hpo kill lost >/dev/null 2>&1 || true
wait $! || true
nothing_left
echo "killed runners leave no container"
