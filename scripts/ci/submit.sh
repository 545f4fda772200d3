#!/usr/bin/env bash
# Submits a pipeline to Azure ML and waits for its end; ends with the job's status.
#
#   scripts/ci/submit.sh PIPELINE [NAME=VALUE ...]
#
# The job's name is left in jobs/submitted, where report.sh and cancel.sh find it.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source-path=SCRIPTDIR source=keep_signed_in.sh
. scripts/ci/keep_signed_in.sh

python="${PYTHON:-.venv/bin/python}"
pipeline="${1:?Say which pipeline: scripts/ci/submit.sh PIPELINE [NAME=VALUE ...]}"
shift
options=()
for pair in "$@"; do
  if [[ ! "$pair" =~ ^[a-z_0-9]+= ]]; then
    echo "'$pair' sets nothing: write NAME=VALUE." >&2
    exit 2
  fi
  options+=(--set "$pair")
done

mkdir -p jobs
rm -f jobs/submitted
keep_signed_in
"$python" execute.py submit "$pipeline" "${options[@]+"${options[@]}"}" | tee jobs/submit.log
job="$(sed -n 's/^Submitted \([A-Za-z0-9._-]*\) to .*/\1/p' jobs/submit.log)"
if [[ -z "$job" ]]; then
  echo "execute.py submit didn't say which job it made; see above." >&2
  exit 2
fi
echo "$job" >jobs/submitted
if [[ -n "${GITHUB_STEP_SUMMARY:-}" ]]; then
  link="$(sed -n 's|^\(https://ml\.azure\.com/runs/[^ ]*\).*|\1|p' jobs/submit.log)"
  echo "[$job]($link)" >>"$GITHUB_STEP_SUMMARY"
fi

# 2 isn't the job's status, but says that it couldn't be asked for; the job goes on meanwhile.
for attempt in 1 2 3; do
  status=0
  "$python" execute.py jobs "$job" --wait || status=$?
  if [[ "$status" != 2 || "$attempt" == 3 ]]; then exit "$status"; fi
  sleep "${RETRY_SECONDS:-30}"
done
