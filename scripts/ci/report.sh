#!/usr/bin/env bash
# Fetches the report of the job that submit.sh submitted into jobs/report: the page, and the log of the step that made it.
#
#   scripts/ci/report.sh PIPELINE
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source-path=SCRIPTDIR source=keep_signed_in.sh
. scripts/ci/keep_signed_in.sh

python="${PYTHON:-.venv/bin/python}"
pipeline="${1:?Say which pipeline: scripts/ci/report.sh PIPELINE}"
if [[ ! -s jobs/submitted ]]; then
  echo "No job was submitted, so there is no report."
  exit 0
fi
job="$(cat jobs/submitted)"
case "$pipeline" in
  recognise) step=compare ;;
  retrain) step=promote ;;
  *) step="$pipeline" ;; # in the others the last step has the pipeline's name
esac

rm -rf jobs/report
mkdir -p jobs/report
cp jobs/submit.log jobs/report/
keep_signed_in
"$python" execute.py fetch "$job" "$step"
if [[ -f "jobs/$job/$step/log.txt" ]]; then cp "jobs/$job/$step/log.txt" jobs/report/; fi
# A model's weights stay behind: what is taken is the folder that holds the page.
find "jobs/$job/$step" -name index.html -not -path '*/mlflow_model/*' -print0 2>/dev/null \
  | while IFS= read -r -d '' page; do cp -R "$(dirname "$page")/." jobs/report/; done
ls jobs/report
