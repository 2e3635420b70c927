# shellcheck shell=sh
# For the tests of this folder: `base_tree DIRECTORY` puts together the parts of a slim Debian that our programs and the command lines
# of iDDS need, from the packages of the distribution.
base_tree() {
  tree=$1
  mkdir -p packages "$tree"
  (cd packages && apt-get download -qq base-files bash coreutils dash libc6 libgcc-s1 libstdc++6 gcc-12-base libtinfo6 libselinux1 \
    libpcre2-8-0 libacl1 libattr1 libgmp10 liblzma5 zlib1g libbz2-1.0 2>/dev/null) || return 1
  for package in packages/*.deb; do dpkg-deb -x "$package" "$tree"; done
  # The two halves of the file system are one, as Debian has them.
  for folder in bin sbin lib lib64; do
    if [ -d "$tree/$folder" ] && [ ! -L "$tree/$folder" ]; then
      mkdir -p "$tree/usr/$folder" && cp -a "$tree/$folder/." "$tree/usr/$folder/" && rm -r "$tree/${folder:?}"
    fi
    mkdir -p "$tree/usr/$folder" && ln -sfn "usr/$folder" "$tree/$folder"
  done
  ln -sfn dash "$tree/usr/bin/sh"
  for folder in tmp proc sys dev root srv; do mkdir -p "$tree/$folder"; done
  chmod 1777 "$tree/tmp"
}
