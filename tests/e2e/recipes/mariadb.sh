mariadb_query() { # QUERY [OPTION]...
    local own query=$1
    shift
    own=$work/client/$(readlink "$work/client/..data")
    mariadb --no-defaults --host=127.0.0.1 --port=18449 --user=app --password=secret --ssl-ca="$own/bundle.pem" \
        "$@" --execute="$query"
}

connect_to_mariadb() {
    connect 127.0.0.1:18449 '' '' -starttls mysql
}

mariadb_follows() {
    local data=$work/mariadb/data
    set_up mariadb "$APPLICATION" mariadb.cnf 18449
    $(as "$APPLICATION") mariadb-install-db --no-defaults --auth-root-authentication-method=normal --datadir="$data" \
        >"$work/mariadb/install.log"
    keep_fresh mariadb "$APPLICATION" mariadb.cnf
    background "$work/mariadb/server.log" $(as "$APPLICATION") mariadbd --defaults-file="$work/mariadb/mariadb.cnf"
    follows_rotations mariadb connect_to_mariadb
    mariadb --no-defaults --user=root --socket="$work/mariadb/run/mysqld.sock" \
        --execute="CREATE USER app@localhost IDENTIFIED BY 'secret' REQUIRE X509"
    mariadb_query 'SELECT 6 * 7' --ssl-cert="$work/client/svid.pem" --ssl-key="$work/client/svid-key.pem" | grep 42
    must_fail mariadb_query 'SELECT 6 * 7'
}
check "MariaDB follows its rotations, and asks an account for its SVID" mariadb_follows
