# With TLS 1.2, a handshake succeeds only after the server has verified the client.
connect_to_coturn() { connect 127.0.0.1:18463 '' '' -tls1_2; }

# A real client, which has its data relayed.
relay_with_coturn() { timeout 30 turnutils_uclient -y -n 1 -m 1 -p 18463 "$@" 127.0.0.1; } # OPTION...
relay_with_svid() { relay_with_coturn -t -S -E "$1/bundle.pem" -i "$1/svid.pem" -k "$1/svid-key.pem"; } # DIRECTORY

coturn_follows() {
    set_up coturn "$APPLICATION" coturn.conf 18463
    # The client's peer is on this machine.
    echo allow-loopback-peers >>"$work/coturn/coturn.conf"
    keep_fresh coturn "$APPLICATION" coturn.conf
    background "$work/coturn/server.log" $(as "$APPLICATION") turnserver -c "$work/coturn/coturn.conf"
    follows_rotations coturn connect_to_coturn
    with_client_files relay_with_svid
    # Without an SVID, without TLS, and over UDP.
    must_fail relay_with_coturn -t -S
    must_fail relay_with_coturn -t
    must_fail relay_with_coturn
}
check "coturn follows its rotations, and asks its clients for their SVIDs" coturn_follows
