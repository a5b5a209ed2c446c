# A gRPC client that trusts what the SPIFFE bundle map says: grpc-go reads the file and verifies the server's
# certificate. Sourced by `run`; the agents are its own.
#
# grpc-go reads bundle maps since a version that is only in Debian's unstable distribution. Its packages, and those
# of the Go compiler for it, are unpacked in a directory; nothing is installed.

go_tree=target/tools/go
GO_PACKAGES=(golang-google-grpc-dev golang-google-protobuf-dev golang-google-genproto-dev
    golang-github-golang-protobuf-1-5-dev golang-github-spiffe-go-spiffe-dev golang-github-go-jose-go-jose-dev
    golang-golang-x-net-dev golang-golang-x-oauth2-dev golang-golang-x-oauth2-google-dev golang-golang-x-sync-dev
    golang-golang-x-sys-dev golang-golang-x-text-dev golang-google-cloud-compute-metadata-dev)

unpack_go() {
    local go
    if [ -e $go_tree ]; then return; fi
    reach_sid || return 1
    go=$(of_sid apt-cache depends golang-go | sed -n 's/^ *Depends: \(golang-[0-9.]*\)-go$/\1/p')
    unpack_of_sid $go_tree "$go-go" "$go-src" "${GO_PACKAGES[@]}"
}

go_build() { # ARGUMENT...
    local root=$PWD/$go_tree
    env GO111MODULE=off GOPATH="$root/usr/share/gocode" GOROOT="$(ls -d "$root"/usr/lib/go-*)" GOCACHE="$root/cache" \
        GOENV=off GOFLAGS= GOTOOLCHAIN=local GOTELEMETRY=off CGO_ENABLED=0 "$root"/usr/lib/go-*/bin/go build "$@"
}

# grpc-go alone: that it does not compile is no fault of what is tested here.
prepare_grpc_go() {
    unpack_go && { go_build google.golang.org/grpc/{health,xds/bootstrap} ||
        { echo >&3 "grpc-go does not compile: $go_tree lacks what it needs"; return 1; }; }
}

# The helper of an agent, and a server with its SVID.
start_peer() { # NAME [OPTION OF THE HELPER]...
    local name=$1
    shift
    background "$work/bundle-map/$name.log" "$release/pod-svid-helper" --mode=refresh --log-level=info \
        --workload-api-socket="$work/bundle-map/$name.sock" --svid-path="$work/bundle-map/$name" "$@"
    wait_until "the files of $name are there" test -e "$work/bundle-map/$name/svid.pem"
    serve_grpc "$name"
}
start_agent_of() { # NAME OPTION...
    local name=$1
    shift
    mkfifo "$work/bundle-map/$name.commands"
    # Open for writing too: the agent's input does not end.
    "$release/examples/workload-api-server" --socket "$work/bundle-map/$name.sock" "$@" \
        <>"$work/bundle-map/$name.commands" >"$work/bundle-map/$name-agent.log" 2>&1 &
    echo $! >>"$work/pids"
    wait_until "the agent of $name serves" test -S "$work/bundle-map/$name.sock"
}
serve_grpc() { # DIRECTORY
    background "$work/bundle-map/$1-server.log" "$work/grpc-go" serve "$work/bundle-map/$1.grpc" "$work/bundle-map/$1"
    wait_until "a server has the SVID of $1" test -S "$work/bundle-map/$1.grpc"
}

start_peers() {
    if [ ! -e "$work/grpc-go" ]; then go_build -o "$work/grpc-go" "$here/BundleMap.go"; fi
    rm -rf "$work/bundle-map"
    mkdir "$work/bundle-map"
    start_agent_of own --id spiffe://example.org/workload/nginx --federate partner.test
    start_peer own --bundle-map-file-name=bundle-map.json
    map=$work/bundle-map/own/bundle-map.json
}

# Connects to a server once, with the map of now.
call() { "$work/grpc-go" call "$work/bundle-map/$1.grpc" "$map"; } # NAME
own_line() { echo "$(serial_in "$work/bundle-map/own") spiffe://example.org/workload/nginx SERVING"; }
refuses() { # NAME REASON
    local said
    if said=$(call "$1" 2>&1); then echo "$1 is accepted: $said"; return 1; fi
    echo "$said"
    grep -q "authentication handshake failed: .*$2" <<<"$said"
}

knows_whom_the_map_trusts() {
    start_peers
    [ "$(call own)" = "$(own_line)" ]
    start_agent_of stranger --id spiffe://example.org/workload/nginx
    start_peer stranger
    refuses stranger "signed by unknown authority"
    # The map has this trust domain, with another CA.
    start_agent_of partner --id spiffe://partner.test/workload
    start_peer partner
    refuses partner "signed by unknown authority"
    start_agent_of unknown --id spiffe://unknown.test/workload
    start_peer unknown
    refuses unknown "no bundle found .*unknown.test"
}

trusts() { [ "$(grep -o '"x5c"' "$map" | wc -l)" = "$1" ]; } # NUMBER OF CAs
tell_own() { echo "$1" >"$work/bundle-map/own.commands"; }   # COMMAND
follows() { last_seen "$(own_line)"; }
old_is() { tail -n 1 "$work/old-connections" | grep -q "$1"; } # PATTERN

reads_the_map_again() {
    local before
    start_peers
    # A server whose SVID stays the first one.
    cp -a "$work/bundle-map/own" "$work/bundle-map/old"
    serve_grpc old
    # Two clients that stay.
    background "$work/connections" "$work/grpc-go" follow "$work/bundle-map/own.grpc" "$map"
    background "$work/old-connections" "$work/grpc-go" follow "$work/bundle-map/old.grpc" "$map"
    wait_until "grpc-go connects" follows
    wait_until "grpc-go connects to the server that stays" old_is "^$(own_line)$"
    tell_own prepare-ca
    wait_until "the map has the new CA too" trusts 3
    before=$(serial_in "$work/bundle-map/own")
    tell_own activate-ca
    wait_until "the new CA has signed an SVID" has_new_serial "$work/bundle-map/own" "$before"
    wait_until "grpc-go trusts the new CA" follows
    old_is "^serial="
    tell_own drop-ca
    wait_until "the map has the new CA alone" trusts 2
    wait_until "grpc-go trusts the old CA no longer" old_is "^failed: .*signed by unknown authority"
    before=$(serial_in "$work/bundle-map/own")
    tell_own rotate
    wait_until "there is one more SVID" has_new_serial "$work/bundle-map/own" "$before"
    wait_until "grpc-go connects to the server that has it" follows
    count_connections >&3
}

if prepare_grpc_go >"$work/output" 2>&1 3>"$work/result"; then
    export GRPC_EXPERIMENTAL_XDS_MTLS_SPIFFE=true # Without it, grpc-go leaves the bundle map unread.
    check "grpc-go connects to whom the SPIFFE bundle map trusts, and to nobody else" knows_whom_the_map_trusts
    check "grpc-go follows a rotation of the CA by the SPIFFE bundle map" reads_the_map_again
else
    echo "SKIPPED: grpc-go with the SPIFFE bundle map: $(cat "$work/result")"
    tail -n 20 "$work/output" | sed 's/^/    /'
fi
