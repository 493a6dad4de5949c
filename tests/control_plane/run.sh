#!/usr/bin/env bash
# Installs the chart on a real Kubernetes control plane and looks at what that makes of it: `make helm-install`.
#
# etcd, API server, controllers and scheduler are the real ones. In place of kubelets main.go says of every pod that it is ready:
# nothing runs in it, no image is fetched, no probe asks. Needs Go and apt-get; the first time builds into the cache.
# One line for each thing that was seen; ends with 1 at the first that was not.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."

readonly KUBERNETES=1.36.3 ETCD=etcd-server OPERATOR=v0.85.0 HELM=helm-4.3.1
readonly cache=${LINXO_BRIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/linxo-kafka-bridge}
readonly built=$cache/control-plane-$KUBERNETES
folder=$(mktemp -d)
started=()

end() {
  local code=$?
  ((${#started[@]} == 0)) || kill -9 "${started[@]}" 2>/dev/null || true
  wait
  ((code == 0)) || tail -n 5 "$folder"/*.log >&2 || true
  rm -rf "$folder"
}
trap end EXIT
fail() { echo "helm-install: $*" >&2; exit 1; }

# --- the programs ----------------------------------------------------------------------------------------------------

module() { # PATH@VERSION: its folder, fetched
  (cd / && go mod download -json "$1") | sed -n 's/.*"Dir": "\(.*\)",*/\1/p'
}

# Kubernetes says of its own parts that they are replaced by folders; as modules they have a version each.
build() {
  local new=$built.$$ kubernetes
  mkdir -p "$new/source" "$new/crds"
  kubernetes=$(module "k8s.io/kubernetes@v$KUBERNETES")
  cp tests/control_plane/main.go "$new/source/"
  {
    echo "module control-plane"
    grep '^go ' "$kubernetes/go.mod"
    echo "require k8s.io/kubernetes v$KUBERNETES"
    sed -n "s,^\t\(k8s.io/[a-z-]*\) => ./staging.*,replace \1 => \1 v0.${KUBERNETES#1.},p" "$kubernetes/go.mod"
  } >"$new/source/go.mod"
  (cd "$new/source" && go mod tidy >/dev/null 2>&1 && nice -n 19 go build -trimpath \
    -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=v$KUBERNETES" -o ../control-plane .)
  for kind in servicemonitors prometheusrules; do
    cp "$(module "github.com/prometheus-operator/prometheus-operator@$OPERATOR")"/example/prometheus-operator-crd/*_$kind.yaml "$new/crds/"
  done
  (cd "$new" && apt-get -q download "$ETCD" >/dev/null 2>&1 && dpkg -x "$ETCD"_*.deb .)
  chmod -R u+w "$new"
  mv -T "$new" "$built"
}

scripts/setup.sh
command -v go >/dev/null || fail "Go is missing; a control plane is built with it"
[[ -d $built ]] || { echo "building the control plane of Kubernetes $KUBERNETES into $built" >&2; build; }
PATH=$cache/$HELM:$built:$built/usr/bin:$PATH

# Without what it says of the chart's links.
helm() { command helm "$@" 2> >(grep -v 'found symbolic link' >&2 || true); }

# --- the control plane -----------------------------------------------------------------------------------------------

run() { # NAME PROGRAM ARGUMENT...
  "${@:2}" >"$folder/$1.log" 2>&1 </dev/null &
  started+=($!)
}

wait_for() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    ((SECONDS < until)) || fail "waited $1 s for: ${*:2}"
    sleep 0.2
  done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
etcd_port=$(free_port) peer_port=$(free_port) port=$(free_port)

run etcd etcd --data-dir "$folder/etcd" --unsafe-no-fsync \
  --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
  --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
  --initial-cluster "default=http://127.0.0.1:$peer_port"
openssl genrsa -out "$folder/accounts.key" 2048 2>/dev/null
echo "secret,operator,1,system:masters" >"$folder/tokens"
run apiserver control-plane kube-apiserver --etcd-servers "http://127.0.0.1:$etcd_port" --cert-dir "$folder/certificates" \
  --bind-address 127.0.0.1 --secure-port "$port" --advertise-address 127.0.0.1 --authorization-mode RBAC \
  --token-auth-file "$folder/tokens" --service-cluster-ip-range 10.96.0.0/16 --endpoint-reconciler-type none \
  --service-account-issuer https://kubernetes.default.svc \
  --service-account-signing-key-file "$folder/accounts.key" --service-account-key-file "$folder/accounts.key"
export KUBECONFIG=$folder/kubeconfig
kubectl config set-cluster here --server "https://127.0.0.1:$port" --insecure-skip-tls-verify >/dev/null
kubectl config set-credentials operator --token secret >/dev/null
kubectl config set-context here --cluster here --user operator --namespace bridge >/dev/null
kubectl config use-context here >/dev/null
wait_for 60 kubectl get --raw /readyz
run controllers control-plane kube-controller-manager --kubeconfig "$KUBECONFIG" --leader-elect=false --secure-port 0 \
  --service-account-private-key-file "$folder/accounts.key"
run scheduler control-plane kube-scheduler --kubeconfig "$KUBECONFIG" --leader-elect=false --secure-port 0
run nodes control-plane nodes

for node in one two three; do
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Node
metadata:
  name: $node
  labels: { kubernetes.io/hostname: $node, topology.kubernetes.io/zone: zone-$node, kubernetes.io/os: linux }
status:
  allocatable: { cpu: "8", memory: 32Gi, pods: "110" }
  capacity: { cpu: "8", memory: 32Gi, pods: "110" }
END
done
# Disks that are there already: nobody makes any here.
for number in 1 2 3 4 5; do
  kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: PersistentVolume
metadata: { name: disk-$number }
spec:
  accessModes: [ReadWriteOnce]
  capacity: { storage: 3Gi }
  hostPath: { path: /nowhere }
END
done
kubectl create -f "$built/crds" >/dev/null
kubectl apply -f - >/dev/null <<END
apiVersion: v1
kind: Namespace
metadata:
  name: bridge
  labels: { pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/enforce-version: latest }
END
wait_for 30 kubectl get serviceaccount default
wait_for 30 kubectl wait --for=condition=Ready node --all --timeout=1s
wait_for 30 kubectl wait --for=condition=Established crd --all --timeout=1s

# --- what is seen ----------------------------------------------------------------------------------------------------

readonly chart=deploy/helm
readonly values=(--set minReadySeconds=2 --set monitoring.serviceMonitor.enabled=true --set monitoring.alerts.enabled=true
  --set monitoring.dashboards.enabled=true)
readonly bridges=app.kubernetes.io/component=bridge

seen() { echo "seen: $*"; }

refused() { # WORDS COMMAND...
  local said
  ! said=$("${@:2}" 2>&1) || fail "was taken: ${*:2}"
  [[ $said == *"$1"* ]] || fail "refused, but not for \"$1\": $said"
}

uids() { kubectl get pods -l $bridges -o jsonpath='{.items[*].metadata.uid}'; }
ready() { kubectl get statefulset linxo-bridge -o jsonpath='{.status.readyReplicas}'; }
render() { helm template linxo-bridge $chart --namespace bridge --set fullnameOverride=linxo-bridge "$@"; }
install() { helm upgrade --install linxo-bridge "$@" --namespace bridge --set fullnameOverride=linxo-bridge "${values[@]}" --wait --timeout 90s; }
try() { kubectl apply --dry-run=server --validate=strict -f -; }

render "${values[@]}" | try >"$folder/taken"
helm template linxo $chart --namespace bridge -f $chart/ci/full-values.yaml | try >>"$folder/taken"
seen "all $(grep -c 'server dry run' "$folder/taken") objects, by default and in full, are taken by the server, unknown fields being refused"
mistaken() { render "${values[@]}" | sed "$1" | try; }
refused 'replicas' mistaken 's/replicas: 3/replicas: "three"/'
refused 'unknown field "spec.maxUnavailible"' mistaken 's/maxUnavailable:/maxUnavailible:/'
refused 'unknown field "spec.endpoints[0].intervall"' mistaken 's/ interval: 15s/ intervall: 15s/'
seen "a wrong type, an unknown field, and one in a ServiceMonitor are refused, so taking means something"
refused 'violates PodSecurity "restricted' kubectl run bare --image=any
refused 'violates PodSecurity "restricted' mistaken 's/runAsNonRoot: true/runAsNonRoot: false/'
seen "the namespace enforces PodSecurity restricted: it refuses a bare pod, and ours once it may be root"

begun=$(date +%s%N)
install $chart >/dev/null
[[ $(ready) == 3 ]] || fail "$(ready) of 3 are ready"
seen "helm install --wait: 3 of 3 ready after $((($(date +%s%N) - begun) / 1000000)) ms"
[[ $(kubectl get pods -l $bridges -o jsonpath='{.items[*].spec.nodeName}' | tr ' ' '\n' | sort -u | wc -l) == 3 ]] ||
  fail "hosts are shared: $(kubectl get pods -o wide)"
seen "each on a host and in a zone of its own"
[[ $(kubectl get pvc -o jsonpath='{.items[*].status.phase}') == "Bound Bound Bound" ]] || fail "$(kubectl get pvc)"
# the controller follows the pods, at its own pace
for _ in {1..50}; do
  found=$(kubectl get endpointslices -l kubernetes.io/service-name=linxo-bridge-headless -o jsonpath='{.items[*].endpoints[*].hostname}' |
    tr ' ' '\n' | sort | xargs)
  [[ $found != "linxo-bridge-0 linxo-bridge-1 linxo-bridge-2" ]] || break
  sleep 0.2
done
[[ $found == "linxo-bridge-0 linxo-bridge-1 linxo-bridge-2" ]] || fail "the headless service knows: $found"
seen "each with a disk, and known by its name to the headless service"
[[ $(kubectl get prometheusrule linxo-bridge -o jsonpath='{.spec.groups[*].rules[*].annotations.summary}') == *'{{ $'* ]] ||
  fail "the rules have lost their braces"
seen "the rules are there with Prometheus' own braces"

before=$(uids)
helm package $chart --version 9.9.9 --destination "$folder" >/dev/null
install "$folder/linxo-kafka-bridge-9.9.9.tgz" >/dev/null
[[ $(uids) == "$before" ]] || fail "a new chart alone has restarted somebody"
seen "an upgrade to a package of another version and the same values restarts nobody"

least=3
(install $chart --set config.polling.keep_alive=4m >"$folder/upgrade.out" 2>&1) &
upgrade=$!
while kill -0 $upgrade 2>/dev/null; do
  now=$(ready)
  ((${now:-0} >= least)) || least=${now:-0}
done
wait $upgrade || fail "the upgrade: $(cat "$folder/upgrade.out")"
for uid in $before; do [[ $(uids) != *$uid* ]] || fail "$uid has not been restarted"; done
((least == 2)) || fail "$least of 3 were ready during the upgrade"
seen "a changed setting restarts all, one at a time: never fewer than $least ready"
before=$(uids)
helm rollback linxo-bridge --namespace bridge --wait --timeout 90s >/dev/null
for uid in $before; do [[ $(uids) != *$uid* ]] || fail "$uid has not been rolled back"; done
seen "a rollback brings the setting of before back"

wait_for 20 kubectl wait --for=jsonpath='{.status.disruptionsAllowed}'=1 pdb/linxo-bridge --timeout=1s
evict() {
  kubectl create --raw "/api/v1/namespaces/bridge/pods/$1/eviction" -f - <<END
{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "$1", "namespace": "bridge"}}
END
}
kubectl cordon one two three >/dev/null
evict linxo-bridge-0 >/dev/null
wait_for 20 kubectl get pod linxo-bridge-0 -o jsonpath='{.status.phase}'
refused 'disruption budget' evict linxo-bridge-1
kubectl uncordon one two three >/dev/null
wait_for 30 kubectl wait --for=condition=Ready pod -l $bridges --timeout=1s
seen "one pod is evicted; while it is away the next eviction is refused by the disruption budget"

disk=$(kubectl get pvc journal-linxo-bridge-2 -o jsonpath='{.spec.volumeName}')
install $chart --set replicas=2 >/dev/null
wait_for 30 kubectl wait --for=delete pod/linxo-bridge-2 --timeout=1s
kubectl get pvc journal-linxo-bridge-2 >/dev/null
install $chart >/dev/null
[[ $(kubectl get pvc journal-linxo-bridge-2 -o jsonpath='{.spec.volumeName}') == "$disk" ]] || fail "another disk"
seen "two replicas keep the third's disk, and the third has it again when it comes back"

install $chart --set topicsJob.enabled=true >/dev/null
[[ -z $(kubectl get jobs -o name) ]] || fail "the topics' Job is left behind"
seen "the topics' Job runs before an upgrade and is gone after it"

helm uninstall linxo-bridge --namespace bridge --wait >/dev/null
[[ -z $(kubectl get statefulsets,services,poddisruptionbudgets,networkpolicies,servicemonitors,prometheusrules -o name) ]] ||
  fail "something is left behind"
[[ $(kubectl get pvc -o name | wc -l) == 3 ]] || fail "$(kubectl get pvc)"
seen "helm uninstall leaves the disks and nothing else"
