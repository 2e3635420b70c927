#!/usr/bin/env bash
# What can be said of the definitions of images without building them, that for GPUs among them, which takes gigabytes: a linter, the
# agreement of Dockerfiles and Apptainer definitions, the files that a build is given, and the packages that it would fetch.
#
#     tests/containers/definitions.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=$here/../../target/containers
if ! cmp -s "$here/definitions.txt" "$tools/installed.txt"; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check -r "$here/definitions.txt"
  cp "$here/definitions.txt" "$tools/installed.txt"
fi
"$tools/bin/hadolint" "$here"/../../containers/*.Dockerfile
"$tools/bin/python" "$here/definitions.py"
