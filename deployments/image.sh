#!/usr/bin/env bash
# usage: deployments/image.sh TAG BASE
# Builds the image from bin/nowcast. The build context holds that binary, LICENSE and NOTICE.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=$1 base=$2
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir "$context/data"
cp bin/nowcast LICENSE NOTICE "$context"
docker build --quiet --build-arg "BASE=$base" -t "$tag" -f deployments/Dockerfile "$context"
