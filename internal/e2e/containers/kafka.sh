#!/usr/bin/env bash
# usage: kafka.sh TAG LIBS
# Builds an image of Apache Kafka from the jars in LIBS on a minimal Debian with a Java runtime.
set -euo pipefail
cd "$(dirname "$0")"
tag=$1 libs=$2
docker image inspect "$tag" >/dev/null 2>&1 && exit 0
[ -n "$(ls "$libs"/kafka_*.jar 2>/dev/null)" ] || {
  echo "kafka.sh: no jars in $libs: make kafka fetches them" >&2
  exit 1
}
PACKAGES=openjdk-17-jre-headless ../../../deployments/base.sh nowcast-java:bookworm
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp -r "$libs" "$context/libs"
cp start.sh "$context/"
docker build --quiet --build-arg BASE=nowcast-java:bookworm -t "$tag" -f Dockerfile "$context"
