#!/usr/bin/env bash
# Cancels the job that submit.sh submitted, where a newer run has superseded this one, or somebody cancelled it.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source-path=SCRIPTDIR source=keep_signed_in.sh
. scripts/ci/keep_signed_in.sh

python="${PYTHON:-.venv/bin/python}"
if [[ ! -s jobs/submitted ]]; then
  echo "No job was submitted, so there is none to cancel."
  exit 0
fi
keep_signed_in
"$python" execute.py jobs "$(cat jobs/submitted)" --cancel
