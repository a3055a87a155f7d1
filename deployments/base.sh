#!/usr/bin/env bash
# usage: [PACKAGES=a,b] deployments/base.sh TAG
# Makes a minimal Debian image where no registry of images is reachable.
# mmdebstrap makes the root file system, and docker imports it.
set -euo pipefail
tag=$1
docker image inspect "$tag" >/dev/null 2>&1 && exit 0
command -v mmdebstrap >/dev/null || {
  echo "base.sh: make $tag: no mmdebstrap here (apt-get install mmdebstrap)" >&2
  exit 1
}
mmdebstrap --quiet --variant=minbase --include="${PACKAGES:-ca-certificates}" bookworm - |
  docker import - "$tag" >/dev/null
