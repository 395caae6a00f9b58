#!/bin/sh
# Generate the stubs in core/figment/v1: generate.sh PYTHON; with --check only compare them with those there.
set -eu
python=$1
cd "$(dirname "$0")/.."
case $python in /*) ;; *) python=$PWD/$python ;; esac
out=core
if [ "${2-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out/figment/v1"
touch "$out/figment/v1/py.typed"
PATH=$(dirname "$python"):$PATH "$python" -m grpc_tools.protoc --proto_path=protos \
    --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
    protos/figment/v1/*.proto
if [ "${2-}" = --check ]; then
    diff --recursive --exclude=__pycache__ "$out/figment/v1" core/figment/v1 || { echo "stubs are out of date: make protos"; exit 1; }
fi
