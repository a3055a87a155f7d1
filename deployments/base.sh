#!/usr/bin/env bash
# usage: [PACKAGES=a,b] deployments/base.sh TAG
# Makes a minimal Debian image without a registry of images: a root file system by mmdebstrap, imported.
set -euo pipefail
tag=$1
docker image inspect "$tag" >/dev/null 2>&1 && exit 0
command -v mmdebstrap >/dev/null || { echo "base.sh: needs mmdebstrap (apt-get install mmdebstrap)" >&2; exit 1; }
mmdebstrap --quiet --variant=minbase --include="${PACKAGES:-ca-certificates}" bookworm - | docker import - "$tag" >/dev/null
