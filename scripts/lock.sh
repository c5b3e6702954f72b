#!/usr/bin/env bash
# Write requirements.lock anew from the wishes in pyproject.toml: a fresh venv, the newest allowed
# versions, frozen. Run it when a dependency changes, run `make test`, commit both files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-/usr/bin/python3.11}"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

"$python" -m venv "$scratch/venv"
pip=("$scratch/venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install --quiet --upgrade pip 'setuptools>=77,<81'
"${pip[@]}" install --no-build-isolation -e '.[flink,local,gateway,local-gateways,local-kubernetes,controller,agent,etcd,dns,grpc,examples,dev]'
{
  echo "# Every Python package of a working .venv, pinned: what scripts/setup.sh installs (Python 3.11, Linux)."
  echo "# Made by \`scripts/lock.sh\`; change the wishes in pyproject.toml, run it again, commit both."
  "${pip[@]}" freeze --all --exclude-editable | grep -v '^-e ' | LC_ALL=C sort -f
} > "$scratch/requirements.lock"
mv "$scratch/requirements.lock" requirements.lock
echo "requirements.lock: $(grep -c '==' requirements.lock) packages"
