#!/usr/bin/env bash
# On Azure DevOps: cancels the older runs of this pipeline on this branch or tag that still go on. Each cancels its own
# job then (cancel.sh). GitHub needs no such thing: a workflow says `concurrency`.
#
# Reads what Azure DevOps sets: SYSTEM_COLLECTIONURI, SYSTEM_TEAMPROJECTID, SYSTEM_DEFINITIONID, BUILD_BUILDID,
# BUILD_SOURCEBRANCH, and SYSTEM_ACCESSTOKEN, which has to be handed on.
set -euo pipefail

builds="${SYSTEM_COLLECTIONURI%/}/$SYSTEM_TEAMPROJECTID/_apis/build/builds"

ask() { # METHOD URL [CURL'S OPTIONS ...]: the token goes through a pipe, not onto a command line
  printf 'Authorization: Bearer %s\n' "$SYSTEM_ACCESSTOKEN" \
    | curl --silent --show-error --fail --retry 3 --max-time 30 --request "$1" --header @- "${@:3}" "$2"
}

answer="$(ask GET "$builds?definitions=$SYSTEM_DEFINITIONID&statusFilter=inProgress,notStarted&api-version=7.1")"
older="$(printf '%s' "$answer" | jq --raw-output --argjson this "$BUILD_BUILDID" --arg branch "$BUILD_SOURCEBRANCH" \
  '.value[] | select(.id < $this and .sourceBranch == $branch) | .id')"
for build in $older; do
  echo "Cancelling run $build, which this one supersedes"
  ask PATCH "$builds/$build?api-version=7.1" --header 'Content-Type: application/json' \
    --data '{"status": "cancelling"}' --output /dev/null
done
