# shellcheck shell=bash
# Keeps whoever sources this signed in to Azure for as long as it runs; nothing to do where CI has no identity to offer.
#
# CI's proof of identity (an OIDC token) is good for minutes, a job on Azure ML takes hours. Azure's client takes the
# proof from the file AZURE_FEDERATED_TOKEN_FILE whenever it needs a new token, so a fresh one is put there all along.
# It never stands on a command line, where other processes could read it, nor in the log.
#
# Reads: AZURE_CLIENT_ID and AZURE_TENANT_ID, who to be; of GitHub ACTIONS_ID_TOKEN_REQUEST_URL and _TOKEN; of Azure
# DevOps SYSTEM_OIDCREQUESTURI, SYSTEM_ACCESSTOKEN and AZURESUBSCRIPTION_SERVICE_CONNECTION_ID.

_ask_identity() { # prints a fresh proof
  local url key method answer
  if [[ -n "${ACTIONS_ID_TOKEN_REQUEST_URL:-}" ]]; then
    method=GET key=value url="${ACTIONS_ID_TOKEN_REQUEST_URL}&audience=api://AzureADTokenExchange"
  else
    method=POST key=oidcToken
    url="${SYSTEM_OIDCREQUESTURI}?api-version=7.1&serviceConnectionId=${AZURESUBSCRIPTION_SERVICE_CONNECTION_ID}"
  fi
  # `printf` is bash's own, so the header goes through a pipe and into no process's arguments.
  answer="$(printf 'Authorization: Bearer %s\n' "${ACTIONS_ID_TOKEN_REQUEST_TOKEN:-${SYSTEM_ACCESSTOKEN:-}}" \
    | curl --silent --show-error --fail --retry 3 --max-time 30 --request "$method" --header @- \
      --header 'Content-Length: 0' --header 'Content-Type: application/json' "$url")" || return 1
  printf '%s' "$answer" | jq --exit-status --raw-output --join-output ".$key // empty"
}

_renew_identity() { # puts a fresh proof into the file; the file is whole at any time
  (
    umask 077
    _ask_identity >"$AZURE_FEDERATED_TOKEN_FILE.new" && mv "$AZURE_FEDERATED_TOKEN_FILE.new" "$AZURE_FEDERATED_TOKEN_FILE"
  )
}

_stop_renewing() {
  kill "$_renewing" 2>/dev/null || true
  rm -rf "$_identity"
}

keep_signed_in() {
  if [[ -z "${ACTIONS_ID_TOKEN_REQUEST_URL:-}${SYSTEM_OIDCREQUESTURI:-}" ]]; then
    return 0
  fi
  export AZURE_CLIENT_ID="${AZURE_CLIENT_ID:-${AZURESUBSCRIPTION_CLIENT_ID:-}}"
  export AZURE_TENANT_ID="${AZURE_TENANT_ID:-${AZURESUBSCRIPTION_TENANT_ID:-}}"
  if [[ -z "$AZURE_CLIENT_ID" || -z "$AZURE_TENANT_ID" ]]; then
    echo "Who is to sign in isn't said: set AZURE_CLIENT_ID and AZURE_TENANT_ID. docs/ci.md says where." >&2
    return 2
  fi
  _identity="$(mktemp -d)"
  export AZURE_FEDERATED_TOKEN_FILE="$_identity/token"
  if ! _renew_identity; then
    echo "CI gave no proof of identity. On GitHub the job needs 'permissions: id-token: write', on Azure DevOps" >&2
    echo "a service connection with workload identity federation. docs/ci.md says how." >&2
    rm -rf "$_identity"
    return 2
  fi
  (
    trap - EXIT
    # Waits on a pipe that never speaks: a `sleep` would outlive this, and hold CI's log open until it is over.
    exec {idle}<> <(:)
    while true; do
      read -rt "${SIGN_IN_SECONDS:-120}" -u "$idle" || true
      _renew_identity || echo "CI gave no proof of identity; asking again." >&2
    done
  ) &
  _renewing=$!
  trap _stop_renewing EXIT
}
