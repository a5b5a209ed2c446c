nginx_follows() { # NAME PORT PROGRAM [OPTION OF THE HELPER]...
    local name=$1 port=$2 program=$3
    shift 3
    set_up "$name" root nginx.conf "$port"
    keep_fresh "$name" root nginx.conf "$@"
    background "$work/$name/server.log" "$program" -c "$work/$name/nginx.conf"
    follows_rotations "$name" connect_with_https "127.0.0.1:$port"
    turns_strangers_away "127.0.0.1:$port"
}

check "nginx follows its rotations, found by its PID file" nginx_follows nginx 18443 nginx

# A list of each CA, and OpenSSL's check of the whole chain.
nginx_refuses_the_revoked() {
    local revoked=$work/revoked address=127.0.0.1:18443 refused='The SSL certificate error'
    tell_agent list
    set_up nginx-crl root nginx.conf 18443
    sed -i "s#ssl_verify_client on;#& ssl_crl $work/nginx-crl/svid/crl.pem;#" "$work/nginx-crl/nginx.conf"
    keep_fresh nginx-crl root nginx.conf --crl-file-name=crl.pem
    wait_until "the first list is there" test -e "$work/nginx-crl/svid/crl.pem"
    background "$work/nginx-crl/server.log" nginx -c "$work/nginx-crl/nginx.conf"
    wait_until "nginx serves" connect_with_https $address
    cp -rL "$work/client/..data" "$revoked"
    connect_as "$revoked" $address '^hello'
    tell_agent "revoke $(serial_in "$revoked" | cut -d = -f 2)"
    wait_until "nginx refuses the revoked client" connect_as "$revoked" $address "$refused"
    wait_until "nginx serves the client's new SVID" connect_with_https $address
    # An old worker, with the old list, still accepts for 0.1 s after the first refusal.
    wait_until "nginx refuses the revoked client as before" connect_as "$revoked" $address "$refused"
}
connect_as() { # DIRECTORY ADDRESS EXPECTED
    printf "$HTTP_REQUEST" | timeout 20 openssl s_client -connect "$2" -ign_eof -CAfile "$work/client/bundle.pem" \
        -cert "$1/svid.pem" -key "$1/svid-key.pem" 2>&1 | grep -- "$3"
}
check "nginx refuses a client whose SVID the newest revocation list has" nginx_refuses_the_revoked

# Under a name of its own: this machine may run another nginx, and an older one.
cp "$(command -v nginx)" "$work/nginx-e2e"
check "nginx follows its rotations, found by its name" \
    nginx_follows nginx-by-name 18444 "$work/nginx-e2e" --signal-process=nginx-e2e
