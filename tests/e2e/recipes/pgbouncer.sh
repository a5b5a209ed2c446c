# PgBouncer's console answers without a PostgreSQL behind it.
ask_pgbouncer() { # DIRECTORY OF THE CLIENT'S FILES
    psql "host=127.0.0.1 port=18462 dbname=pgbouncer user=console sslmode=verify-ca sslrootcert=$1/bundle.pem \
sslcert=$1/svid.pem sslkey=$1/svid-key.pem" -Atc 'show version' | grep '^PgBouncer'
}

# One connection to see the certificate, and one of a real client.
connect_to_pgbouncer() { connect 127.0.0.1:18462 '' '' -starttls postgres && with_client_files ask_pgbouncer; }

pgbouncer_follows() {
    set_up pgbouncer "$APPLICATION" pgbouncer.ini 18462
    # As the recipe, but for the password.
    sed -i 's/scram-sha-256/any/; /^auth_file/d' "$work/pgbouncer/pgbouncer.ini"
    keep_fresh pgbouncer "$APPLICATION" pgbouncer.ini
    background "$work/pgbouncer/server.log" $(as "$APPLICATION") pgbouncer "$work/pgbouncer/pgbouncer.ini"
    follows_rotations pgbouncer connect_to_pgbouncer
    # With an SVID, without one, and without TLS.
    connect_to_pgbouncer
    local url="host=127.0.0.1 port=18462 dbname=pgbouncer user=console"
    must_fail psql "$url sslmode=verify-ca sslrootcert=$work/client/bundle.pem sslcert=$work/nowhere" \
        -Atc 'show version'
    must_fail psql "$url sslmode=disable" -Atc 'show version'
}
check "PgBouncer follows its rotations, and asks its clients for their SVIDs" pgbouncer_follows
