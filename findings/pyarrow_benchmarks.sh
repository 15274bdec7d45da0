#!/usr/bin/env bash
# One would guess that `pip install pyarrow` brings one package, pyarrow. The wheel of version 17 brings `benchmarks` too,
# a package of its own at the top. A project's folder `benchmarks` without an __init__.py is a namespace package, which Python
# takes only if no regular one of that name lies anywhere on sys.path: `import benchmarks` is pyarrow's, although the
# project comes first, and its own modules are not found. With an __init__.py the project's is taken.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pyarrow==17.0.0
mkdir -p "$folder/project/benchmarks"
echo 'SPEED = 1' > "$folder/project/benchmarks/mine.py"
cd "$folder/project"

found() {
    "$folder/venv/bin/python" -c '
import importlib.metadata, importlib.util, pathlib
print("pyarrow", importlib.metadata.version("pyarrow"))
print(pathlib.Path(importlib.util.find_spec("benchmarks").origin or "the project").parent.parent.name)'
    "$folder/venv/bin/python" -c 'import benchmarks.mine; print("benchmarks.mine is found")' 2>&1 | tail -1 || true
}

without=$(found)
touch benchmarks/__init__.py
with=$(found)
printf 'without __init__.py:\n%s\nwith it:\n%s\n' "$without" "$with"
[[ $without == *site-packages*"No module named 'benchmarks.mine'"* && $with == *project*"benchmarks.mine is found"* ]]
