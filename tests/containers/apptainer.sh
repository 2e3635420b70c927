#!/usr/bin/env bash
# The Apptainer definitions of `containers/` are built and run, with the Apptainer of Debian's unstable branch (Debian 12 has none), which
# gets a file system of its own, on a base that is put together from packages of the distribution.
#
#     tests/containers/apptainer.sh PROGRAMS      the directory of `steering` and `evaluation`
#
# Needs root on Debian and user namespaces; elsewhere it says so and ends without having checked anything.
set -euo pipefail
programs=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
repository=$(realpath "$here/../..")
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "skipped: not root on Debian"; exit 0; }
unshare -Urm true 2>/dev/null || { echo "skipped: there are no user namespaces here"; exit 0; }

room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
. "$here/base.sh"
base_tree base || { echo "skipped: packages of the distribution cannot be had"; exit 0; }

# Packages of another release from where this machine has its own, away from these.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | sed -n 1p)
[ -n "$mirror" ] || { echo "skipped: this machine has no packages of Debian"; exit 0; }
mkdir -p unstable/{lists/partial,cache/archives/partial} system
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >unstable/sources.list
touch unstable/status
unstable() {
  apt-get -qq -o "Dir::Etc::sourcelist=$room/unstable/sources.list" -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root \
    -o "Dir::State::lists=$room/unstable/lists" -o "Dir::Cache=$room/unstable/cache" -o "Dir::State::status=$room/unstable/status" "$@"
}
unstable update && unstable install --no-install-recommends -y --download-only apptainer squashfuse bash coreutils tar gzip >/dev/null \
  || { echo "skipped: Apptainer cannot be had"; exit 0; }
mkdir -p system/usr/{bin,sbin,lib,lib64}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "system/$folder"; done
for package in unstable/cache/archives/*.deb; do dpkg-deb -x "$package" system; done
ln -sf bash system/usr/bin/sh
mkdir -p system/{proc,sys,dev,tmp,root,old,etc} system/"$room" system/"$repository"
touch system/etc/localtime
cp /etc/passwd /etc/group /etc/hosts /etc/resolv.conf system/etc/
head -1 /etc/passwd >base/etc/passwd
head -1 /etc/group >base/etc/group
# Nobody but root is known in the namespace.
chown -R 0:0 base

# The program, as `containers/build` calls it.
mkdir bin
cat >bin/apptainer <<END
#!/bin/bash
exec unshare -Urm /bin/bash "$room/enter" "\$PWD" /usr/bin/apptainer "\$@"
END
cat >enter <<END
set -e
where=\$1
shift
mount --make-rprivate /
mount --bind "$room/system" "$room/system"
mount -t tmpfs tmpfs "$room/system/tmp"
# Either of the last two may lie in /tmp.
mkdir -p "$room/system$room" "$room/system$repository"
for folder in /dev /proc /sys "$room" "$repository"; do mount --rbind "\$folder" "$room/system\$folder"; done
cd "$room/system"
pivot_root . old
cd "\$where"
exec "\$@"
END
chmod +x bin/apptainer
PATH=$room/bin:$PATH
export TMPDIR=$room APPTAINER_TMPDIR=$room
apptainer --version || { echo "skipped: Apptainer does not start here"; exit 0; }

seconds() { local begin=$EPOCHREALTIME; "$@" >/dev/null 2>&1; awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $begin }"; }
for kind in steering evaluation; do
  "$repository/containers/build" "$kind" "$programs" --apptainer "$room/$kind.sif" --base "$room/base" >build.log 2>&1 || { cat build.log; exit 1; }
  apptainer test "$kind.sif" >/dev/null 2>test.log || { cat test.log; exit 1; }
  apptainer inspect "$kind.sif" | grep -q "org.opencontainers.image.title: $kind"
  echo "$kind.sif: $(($(stat -c %s "$kind.sif") / 1000000)) MB, starts in $(seconds apptainer exec "$kind.sif" /bin/bash -c true) s"
done
[ "$(apptainer run steering.sif --version 2>/dev/null)" = "$("$programs/steering" --version)" ]
apptainer exec evaluation.sif evaluation library 2>/dev/null | grep -q /opt/cache
if apptainer exec steering.sif /bin/bash -c 'echo > /usr/local/made' 2>/dev/null; then echo "the image can be written to"; exit 1; fi
mkdir steer
echo '{"points": [], "opt_space": {"x": {"method": "uniform", "dimension": {"low": 0, "high": 1}}}}' >steer/in.json
apptainer exec --bind "$room/steer:/srv/workDir" --pwd /srv/workDir steering.sif /bin/bash -c \
  "hpogrid generate --n_point 2 --max_point 4 --infile in.json --outfile out.json --lib nevergrad" >/dev/null 2>&1
grep -q '"x"' steer/out.json
echo "the Apptainer definitions are built, tested and run, read-only"
