# The recipes of README.md with the real servers: each serves mTLS with the files, and follows a
# rotation, told by the helper alone. Sourced by `run`.

# Keeps a volume fresh as the application's own user, who may signal it and owns the key.
keep_fresh() { # USER NAME [OPTION]...
    local user=$1 name=$2
    shift 2
    install -d -o "$user" "$work/$name"
    setpriv --reuid="$user" --regid="$user" --clear-groups "$release/pod-svid-helper" --mode=refresh \
        --workload-api-socket="$work/agent/spire-agent.sock" --svid-path="$work/$name" --log-level=info "$@" \
        2>"$work/$name.log" &
    helper=$!
    wait_until "the files of $name are there" test -e "$work/$name/svid.pem"
}

# The serial number of the certificate that a server shows to a client with an SVID of its own.
served_serial() { # ADDRESS [OPTION OF s_client]...
    openssl s_client -connect "$@" -verify_return_error -CAfile "$work/peer/bundle.pem" \
        -cert "$work/peer/svid.pem" -key "$work/peer/svid-key.pem" </dev/null 2>/dev/null |
        openssl x509 -noout -serial 2>/dev/null
}

serves() { # NAME ADDRESS [OPTION]...
    local name=$1
    shift
    [ "$(served_serial "$@")" = "$(serial_in "$work/$name")" ]
}

# Rotates, and waits until the server shows what is in its volume by then.
follows_a_rotation() { # NAME ADDRESS [OPTION]...
    local before
    wait_until "$1 serves" serves "$@"
    before=$(serial_in "$work/$1")
    tell_agent rotate
    wait_until "$1 has a new SVID" has_new_serial "$work/$1" "$before"
    wait_until "$1 serves it" serves "$@"
    cat "$work/$1.log"
    grep -q "sent SIGHUP to" "$work/$1.log"
}

keep_fresh root peer

start_nginx() { # NAME PORT [PROGRAM]
    cat >"$work/$1.conf" <<END
pid $work/$1.pid;
error_log stderr;
daemon off;
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:$2 ssl;
        ssl_certificate $work/$1/svid.pem;
        ssl_certificate_key $work/$1/svid-key.pem;
        ssl_client_certificate $work/$1/bundle.pem;
        ssl_verify_client on;
        return 200 "hello\n";
    }
}
END
    "${3:-nginx}" -c "$work/$1.conf" >"$work/$1.out" 2>&1 &
}

nginx_by_pid_file() {
    keep_fresh root nginx-by-file --pid-file="$work/nginx-by-file.pid"
    start_nginx nginx-by-file 18443
    follows_a_rotation nginx-by-file 127.0.0.1:18443
    kill "$helper" "$(cat "$work/nginx-by-file.pid")"
}
check "nginx follows a rotation, found by its PID file" nginx_by_pid_file

nginx_by_name() {
    # Under a name of its own: this machine may run another nginx, and an older one.
    cp "$(command -v nginx)" "$work/nginx-e2e"
    keep_fresh root nginx-by-name --signal-process=nginx-e2e
    start_nginx nginx-by-name 18444 "$work/nginx-e2e"
    follows_a_rotation nginx-by-name 127.0.0.1:18444
    kill "$helper" "$(cat "$work/nginx-by-name.pid")"
}
check "nginx follows a rotation, found by its name" nginx_by_name

# `clientcert=verify-ca` asks each client for a certificate of the trust domain; who it may be in the
# database is for another method to say, since PostgreSQL does not look at SPIFFE IDs.
postgresql() {
    local data=$work/pgdata bin
    bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
    keep_fresh postgres postgresql --pid-file="$data/postmaster.pid"
    install -d -o postgres "$data"
    local as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    "${as_postgres[@]}" "$bin/initdb" --no-sync -D "$data" >/dev/null
    echo 'hostssl all all 127.0.0.1/32 trust clientcert=verify-ca' >"$data/pg_hba.conf"
    cat >>"$data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = 15432
unix_socket_directories = ''
ssl = on
ssl_cert_file = '$work/postgresql/svid.pem'
ssl_key_file = '$work/postgresql/svid-key.pem'
ssl_ca_file = '$work/postgresql/bundle.pem'
END
    "${as_postgres[@]}" "$bin/postgres" -D "$data" >"$work/postgresql.out" 2>&1 &
    follows_a_rotation postgresql 127.0.0.1:15432 -starttls postgres
    # A real client, whose certificate is asked for.
    local url="host=127.0.0.1 port=15432 user=postgres sslmode=verify-ca sslrootcert=$work/peer/bundle.pem"
    psql "$url sslcert=$work/peer/svid.pem sslkey=$work/peer/svid-key.pem" -Atc 'select 6 * 7' | grep '^42$'
    ! psql "$url sslcert=$work/nowhere" -Atc 'select 1'
    kill "$helper"
    kill -INT "$(head -n 1 "$data/postmaster.pid")"
}
check "PostgreSQL follows a rotation, and asks its clients for their SVIDs" postgresql

# A JVM reads PKCS#12; the command makes it of the combined file, each time.
pkcs12() {
    local before
    keep_fresh root jvm --combined-file-name=combined.pem -- openssl pkcs12 -export -in "$work/jvm/combined.pem" \
        -out "$work/keystore.p12" -passout pass:changeit
    in_keystore() {
        [ "$(openssl pkcs12 -in "$work/keystore.p12" -passin pass:changeit -nokeys 2>/dev/null |
            openssl x509 -noout -serial)" = "$(serial_in "$work/jvm")" ]
    }
    wait_until "the keystore has the SVID" in_keystore
    before=$(serial_in "$work/jvm")
    tell_agent rotate
    wait_until "there is a new SVID" has_new_serial "$work/jvm" "$before"
    wait_until "the keystore has it" in_keystore
    if command -v keytool >/dev/null; then
        keytool -list -keystore "$work/keystore.p12" -storepass changeit | grep PrivateKeyEntry
    fi
    kill "$helper"
}
check "a command makes a JVM's PKCS#12 keystore of each SVID" pkcs12
