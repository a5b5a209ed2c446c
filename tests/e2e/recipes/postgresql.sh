# PostgreSQL accepts no other user's key, except root's. The helper is that user, or gives it the files.
postgresql_follows() { # NAME PORT USER OF THE HELPER [OPTION OF THE HELPER]...
    local name=$1 port=$2 user=$3 data=$work/$1/data programs
    shift 3
    programs=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
    set_up "$name" postgres postgresql.conf "$port"
    keep_fresh "$name" "$user" postgresql.conf "$@"
    $(as postgres) "$programs/initdb" --no-sync -D "$data" >/dev/null
    cat "$work/$name/postgresql.conf" >>"$data/postgresql.conf"
    # As the recipe, but for the password.
    recipe "$name" pg_hba.conf | sed 's/scram-sha-256/trust/' >"$data/pg_hba.conf"
    background "$work/$name/server.log" $(as postgres) "$programs/postgres" -D "$data"
    follows_rotations "$name" connect "127.0.0.1:$port" '' '' -starttls postgres
    # A real client, with its SVID and without.
    local url="host=127.0.0.1 port=$port user=postgres sslmode=verify-ca sslrootcert=$work/client/bundle.pem"
    psql "$url sslcert=$work/client/svid.pem sslkey=$work/client/svid-key.pem" -Atc 'select 6 * 7' | grep '^42$'
    must_fail psql "$url sslcert=$work/nowhere" -Atc 'select 1'
    jdbc_asks_with_the_alias_user "$port"
}

# PostgreSQL's driver for JVMs looks for the alias `user`.
jdbc_asks_with_the_alias_user() { # PORT
    local stores=$work/jdbc said
    for alias in svid user; do
        "$release/pod-svid-helper" --mode=init --svid-path="$stores-$alias" --keystore-file-name=svid.p12 \
            --keystore-alias=$alias
    done
    ask_with_jdbc "$1" "$stores-user" | grep '^42$'
    said=$(ask_with_jdbc "$1" "$stores-svid" 2>&1) && return 1
    grep 'connection requires a valid client certificate' <<<"$said"
}
ask_with_jdbc() { # PORT DIRECTORY
    java -cp /usr/share/java/postgresql.jar "$here/Query.java" "jdbc:postgresql://127.0.0.1:$1/postgres?user=postgres\
&sslmode=verify-ca&sslrootcert=$2/bundle.pem&sslkey=$2/svid.p12&sslpassword=changeit" 'select 6 * 7'
}
check "PostgreSQL follows its rotations, and asks its clients for their SVIDs" \
    postgresql_follows postgresql 18448 postgres
check "PostgreSQL follows the rotations of a helper that is root" \
    postgresql_follows postgresql-of-root 18452 root "--file-owner=$(id -u postgres):$(id -g postgres)"
