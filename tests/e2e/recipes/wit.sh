# An agent of its own: the profile is on.
a_client_proves_its_identity() {
    local socket=$work/wit/agent.sock python=target/tools/bin/python3 id=spiffe://example.org/workload/wit before
    set_up wit "$APPLICATION" wit.py
    background "$work/wit/agent.log" "$release/examples/workload-api-server" --socket "$socket" --id $id --wit on
    wait_until "the agent with the profile serves" test -S "$socket"
    keep_fresh wit "$APPLICATION" wit.py --workload-api-socket="$socket"
    wait_until "the WIT-SVID is there" test -e "$work/wit/svid/wit.jwt" -a -e "$work/wit/svid/wit-bundle.json"
    wit() { "$python" "$work/wit/wit.py" "$@"; }
    proof=$(wit prove "$work/wit/svid" https://server.example.org)
    # shellcheck disable=SC2086 # two words
    wit check "$work/wit/svid" https://server.example.org $proof | grep -x $id
    # For another server, and with the proof of somebody else's key.
    # shellcheck disable=SC2086
    must_fail wit check "$work/wit/svid" https://other.example.org $proof
    before=$(cat "$work/wit/svid/wit.jwt")
    restart_agent_of_wit
    wait_until "another WIT-SVID is there" has_another_wit "$before"
    # shellcheck disable=SC2086
    must_fail wit check "$work/wit/svid" https://server.example.org "$(cat "$work/wit/svid/wit.jwt")" ${proof#* }
    # shellcheck disable=SC2046
    wit check "$work/wit/svid" https://server.example.org $(wit prove "$work/wit/svid" https://server.example.org) | grep -x $id
}
has_another_wit() { [ "$(cat "$work/wit/svid/wit.jwt")" != "$1" ]; }
# A new agent has another CA, another WIT-SVID and other keys.
restart_agent_of_wit() {
    pkill -f -- "--socket $work/wit/agent.sock"
    background "$work/wit/agent-2.log" "$release/examples/workload-api-server" --socket "$work/wit/agent.sock" \
        --id spiffe://example.org/workload/wit --wit on
}
check "a client proves its identity with its WIT-SVID and its key, through a rotation" a_client_proves_its_identity
