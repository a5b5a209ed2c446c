# What all suites use. Sourced by `run`.

install_tools() {
    local missing=() python=target/tools/bin/python3
    command -v podman >/dev/null || missing+=(podman)
    command -v runc >/dev/null || missing+=(runc)
    command -v catatonit >/dev/null || missing+=(catatonit)
    command -v nginx >/dev/null || missing+=(nginx-light)
    command -v openssl >/dev/null || missing+=(openssl)
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing+=(postgresql)
    if [ ${#missing[@]} -gt 0 ]; then
        echo "installing ${missing[*]} with apt-get"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
    fi
    if ! $python -c 'import kubernetes_validate, yaml' 2>/dev/null; then
        echo "installing kubernetes-validate from PyPI into target/tools"
        python3 -m venv target/tools
        target/tools/bin/pip install --quiet kubernetes-validate pyyaml
    fi
}

make_images() {
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
    printf 'FROM scratch\nCOPY rootfs /\nENV PATH=/bin\n' >"$work/Containerfile"
    podman build -q -f "$work/Containerfile" -t localhost/nginx-for-e2e:latest "$work" >/dev/null
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
}

tell_agent() { echo "$1" >&"$commands"; }

# A volume in memory that every user may write to, as an emptyDir is.
new_volume() {
    mkdir "$work/$1"
    mount -t tmpfs -o size=1m,mode=0777 tmpfs "$work/$1"
}

serial_in() { openssl x509 -noout -serial -in "$1/svid.pem" 2>/dev/null; }
has_new_serial() { [ -e "$1/svid.pem" ] && [ "$(serial_in "$1")" != "$2" ]; }

# Waits, generously, until a command succeeds.
wait_until() {
    local what=$1 deadline=$((SECONDS + 120))
    shift
    until "$@"; do
        if [ $SECONDS -ge $deadline ]; then echo "waited in vain until $what" >&2; return 1; fi
        sleep 0.05
    done
}

# check NAME COMMAND...: one test, passed if every step of the command succeeds.
check() {
    local name=$1 status
    shift
    set +e # A condition would turn `set -e` off for all that it calls.
    (set -e; "$@") >"$work/output" 2>&1
    status=$?
    set -e
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        echo "ok: $name"
    else
        failed=$((failed + 1))
        echo "FAILED: $name"
        sed 's/^/    /' "$work/output"
    fi
}

clean_up() {
    set +e
    podman play kube --down "$work/pod.yaml" >/dev/null 2>&1
    podman rm -f -t 1 e2e-refresh >/dev/null 2>&1
    jobs -p | xargs -r kill 2>/dev/null
    wait 2>/dev/null
    mount | awk -v work="$work/" 'index($3, work) == 1 { print $3 }' | xargs -r umount -l
    rm -rf "$work"
}
