#!/usr/bin/env bash
# Runs every Go fuzzer for a number of executions and says how many there were in all.
# usage: run.sh EXECUTIONS [NAME]
# NAME is a regular expression; fuzzers run whose "package name" matches it.
#
# The limit is a count and not a time: Go's fuzzing engine sometimes reports its own deadline as a failure
# of the target ("context deadline exceeded", golang/go#75804). Go ends a target that hangs after ten seconds
# an input.
set -euo pipefail
cd "$(dirname "$0")/../../.."
executions=${1:?say how many executions of each fuzzer}
only=${2:-.}
if ! [[ $executions =~ ^[1-9][0-9]*$ ]]; then
  echo "fuzz: EXECUTIONS has to be a number, such as 200000" >&2
  exit 2
fi

out=$(mktemp)
trap 'rm -f "$out"' EXIT
total=0 fuzzers=0 failed=()
while read -r package name; do
  [[ "$package $name" =~ $only ]] || continue
  printf '%-20s %-14s ' "$package" "$name"
  fuzzers=$((fuzzers + 1)) begin=$SECONDS
  if go test -run '^$' -fuzz "^$name\$" -fuzztime "${executions}x" -fuzzminimizetime 1000x -timeout 0 \
    "$package" >"$out" 2>&1; then
    verdict=ok
  else
    verdict=FAILED
    failed+=("$package $name")
  fi
  done=$(sed -n 's/^fuzz: elapsed: .*execs: \([0-9]*\) .*/\1/p' "$out" | tail -n 1)
  total=$((total + ${done:-0}))
  printf '%10d executions in %4d s  %s\n' "${done:-0}" $((SECONDS - begin)) "$verdict"
  if [ "$verdict" = FAILED ]; then
    cat "$out"
  elif [ "${done:-0}" -lt "$executions" ]; then # go test succeeds, too, when a fuzzer ends early
    echo "fuzz: $package $name ended early"
    failed+=("$package $name")
  fi
done < <(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . |
  sed 's|/[^/]*_test\.go:func | |' | sort)

echo "fuzz: $total executions of $fuzzers fuzzers, ${#failed[@]} failed"
if [ "$fuzzers" = 0 ]; then
  echo "fuzz: no fuzzer matches '$only'" >&2
  exit 2
fi
if [ "${#failed[@]}" -gt 0 ]; then
  printf 'fuzz: failed: %s\n' "${failed[@]}"
  exit 1
fi
