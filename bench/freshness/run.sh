#!/bin/sh
# Starts `vigie dev` in a directory of its own, measures event to queryable at three loads, appends them to bench/results/runs.jsonl, and
# ends what it started. Arguments go to bench/freshness. `make bench-fresh` runs it.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
dir=$(mktemp -d)
CGO_ENABLED=0 go build -o "$dir/freshness" ./bench/freshness
cd "$dir"
"$root/bin/vigie" dev >dev.log 2>&1 &
dev=$!
trap 'kill -INT $dev 2>/dev/null || true; wait $dev || true; rm -rf "$dir"' EXIT
for _ in $(seq 120); do
	[ -f .vigie/keys.env ] && curl -sf http://127.0.0.1:7070/-/ready >/dev/null && break
	kill -0 $dev || { cat dev.log >&2; exit 1; }
	sleep 0.5
done
. ./.vigie/keys.env
export VIGIE_KEY_ACME
./freshness -loads 30,60,90 -runs "$root/bench/results/runs.jsonl" "$@"
