#!/usr/bin/env bash
# Run a server and three nodes on this machine, each as a separate process, over mutual TLS:
#   simulations/three_nodes.sh FOLDER [RECIPE [--set KEY=VALUE]...]
# Makes FOLDER; the nodes' rows are those of the recipe's clients. Ends when the run does. Short form: docs/deployment.md.
set -euo pipefail
here=$(dirname "$(realpath "$0")") port=${PORT:-8443}
recipe=$(realpath "${2:-$here/recipes/docs.toml}")
nodes="client-00 client-01 client-02"
mkdir "$1" && cd "$1"

fedlora simulate "$recipe" --prepare --out . --name shards --set clients.count=3 --set "clients.ranks=[4, 8, 16]" "${@:3}"
fedlora keys init --project demo --server localhost
fingerprint=$(fedlora keys show | sed -n 's/^fingerprint of project .*: //p')
for name in $nodes; do
    fedlora keys join --name $name --dir $name
    fedlora keys admit $name/$name.request --max-rank 16 --max-weight 5000
    fedlora keys accept keys/$name.invite --dir $name --fingerprint "$fingerprint"
    sed -i "s|^server = .*|server = \"localhost:$port\"|; s|^keys = .*|keys = \"../../$name\"|" shards/nodes/$name.toml
done

fedlora client --check shards/nodes/client-00.toml --describe base.toml
cat > server.toml <<END
project = "demo"
run = "first"
rounds = ${ROUNDS:-3}
listen = "localhost:$port"
quorum = 3
seed = 7
[base]
file = "base.toml"
[lora]
alpha = 16
[train]
steps = ${STEPS:-12}
lr = 5e-3
[server]
algorithm = "increments"
END
fedlora server server.toml & server=$!
for name in $nodes; do fedlora client shards/nodes/$name.toml & done
wait $server
wait
