# Each nginx manifest as a pod under podman: the agent's socket on a hostPath, init container, app
# and sidecar on one emptyDir; and an mTLS client that connects without pause through rotations.
# Sourced by `run`.

ROTATIONS=20

# A client's own files, kept fresh by a helper of its own.
start_client() {
    "$release/pod-svid-helper" --mode=refresh --workload-api-socket="$work/agent/spire-agent.sock" \
        --svid-path="$work/client" --log-level=info 2>"$work/client.log" &
    wait_until "the client has its SVID" test -e "$work/client/svid.pem"
}

# Connects once: prints the serial number that nginx served, and fails unless its certificate
# verifies against the bundle of now, and nginx accepts the client's.
connect() {
    local own answer
    own=$work/client/$(readlink "$work/client/..data")
    answer=$(printf 'GET / HTTP/1.0\r\n\r\n' | timeout 20 openssl s_client -connect 127.0.0.1:8443 -ign_eof \
        -verify_return_error -CAfile "$own/bundle.pem" -cert "$own/svid.pem" -key "$own/svid-key.pem" 2>&1) &&
        grep -q '^hello' <<<"$answer" && openssl x509 -noout -serial <<<"$answer" && return
    # The directory is gone: a rotation came between. Take the new one.
    [ -d "$own" ] || { connect; return; }
    echo "failed: $answer"
    return 1
}

# Connects without pause, and writes a line for each connection, until told to stop.
connect_without_pause() {
    until [ -e "$work/enough" ]; do connect; done >"$work/connections" 2>&1
}

serves() { [ "$(tail -n 1 "$work/connections")" = "$1" ]; }

rotate_to_new_serial() {
    local before
    before=$(serial_in "$work/client")
    tell_agent "$1"
    wait_until "the client has a new SVID" has_new_serial "$work/client" "$before"
    wait_until "nginx serves it" serves "$(serial_in "$work/client")"
}

starts() {
    target/tools/bin/python3 tests/e2e/for_podman.py "$manifest" "$work/agent" >"$work/pod.yaml"
    podman play kube --network host "$work/pod.yaml"
    wait_until "nginx serves" connect
}

rotates() {
    local step
    rm -f "$work/enough"
    connect_without_pause &
    for ((step = 1; step <= ROTATIONS; step++)); do
        case $step in
        7) rotate_to_new_serial prepare-ca ;;
        8) rotate_to_new_serial activate-ca ;;
        14) rotate_to_new_serial drop-ca ;;
        *) rotate_to_new_serial rotate ;;
        esac
    done
    # Old workers have ended; nothing but the newest serial is left.
    wait_until "ten connections in a row see the newest SVID" \
        sh -c '[ "$(tail -n 10 "$1" | sort -u)" = "$2" ]' - "$work/connections" "$(serial_in "$work/client")"
    touch "$work/enough"
    wait $!
    echo "$(wc -l <"$work/connections") connections, $(sort -u "$work/connections" | wc -l) serial numbers"
    ! grep -v '^serial=' "$work/connections"
    [ "$(sort -u "$work/connections" | wc -l)" -gt "$ROTATIONS" ]
}

stops_with_success() {
    local pod container
    pod=$(podman ps --filter name=svid-refresh --format '{{.Pod}}')
    podman pod stop -t 20 "$pod"
    container=$(podman ps -aq --filter pod="$pod" --filter name=svid-refresh)
    podman logs "$container"
    [ "$(podman inspect --format '{{.State.ExitCode}}' "$container")" = 0 ]
    podman play kube --down "$work/pod.yaml"
}

start_client
for manifest in manifests/nginx.yaml manifests/nginx-native-sidecar.yaml; do
    check "$manifest: the files are fetched, nginx starts and serves mTLS" starts
    check "$manifest: no handshake fails through $ROTATIONS rotations, the CA's among them" rotates
    check "$manifest: the helper stops with success" stops_with_success
done
