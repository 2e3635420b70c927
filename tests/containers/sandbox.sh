# shellcheck shell=sh
# For the tests of this folder, which set `room`: what a sandbox without privileges of its own allows podman and buildah, which is no
# overlay, no systemd, and limits below theirs.
cat >"$room/containers.conf" <<'END'
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1000:1000"]
END
export CONTAINERS_CONF="$room/containers.conf" STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
