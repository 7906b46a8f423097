#!/usr/bin/env bash
# Run a server and three nodes on this machine, each as a separate process, over mutual TLS, and use what they trained:
#   simulations/three_nodes.sh FOLDER [RECIPE [--set KEY=VALUE]...]
# Makes FOLDER; the nodes' rows are those of the recipe's clients. A recipe of a language model, such as docs-lm.toml,
# also writes. Short form: docs/deployment.md.
set -euo pipefail
here=$(dirname "$(realpath "$0")") port=${PORT:-8443} rounds=${ROUNDS:-3}
recipe=$(realpath "${2:-$here/recipes/docs.toml}")
nodes="client-00 client-01 client-02" away=client-02
mkdir "$1" && cd "$1"
trap 'jobs -pr | xargs -r kill || true' EXIT

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
rounds = $rounds
listen = "localhost:$port"
quorum = 2
keep_days = 1
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
for name in $nodes; do fedlora client shards/nodes/$name.toml & node=$!; done
committed() { [ "$(cat runs/first/metrics.jsonl 2> /dev/null | wc -l)" -gt "$1" ]; }  # round 0 is the first line
until committed 1; do kill -0 $server; sleep 0.1; done
kill $node                                        # the last node goes away after round 1, and the others go on,
until committed "$rounds"; do kill -0 $server; sleep 0.1; done
fedlora client shards/nodes/$away.toml            # and gets the final adapter when it comes back
wait

# Each node has the adapter: it measures it on the rows that it held out, makes a model of it, and serves it.
task=$(sed -n 's/^task = "\(.*\)"/\1/p' shards/nodes/$away.toml)
ask() { curl -fsS -w '\n' -H 'Content-Type: application/json' "$@"; }
for name in $nodes; do
    run=shards/nodes/runs/$name/first
    fedlora evaluate $run
    fedlora merge $run merged-$name
    fedlora serve $run --port 0 > serving-$name & server=$!
    until url=$(grep -os 'http://.*' serving-$name); do kill -0 $server; sleep 0.1; done
    ask "$url/models"
    if [ "$task" = classification ]; then
        ask "$url/classify" -d '{"model": "first", "input": "Return the mean of an array."}'
    else
        ask "$url/completions" -d '{"model": "first", "prompt": "Return the", "max_tokens": 8, "temperature": 0}'
        fedlora generate $run --prompt "Return the" --tokens 8
    fi
    kill $server && wait $server
done
