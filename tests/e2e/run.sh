# `--mode=run` with real applications: one that loads the files on a signal, and drains; one that knows no
# signal and is restarted. Sourced by `run`.

drains() {
    local helper code=0 request
    set_up run-drains root nginx.conf 18461
    background "$work/run-drains/server.log" "$release/pod-svid-helper" --mode=run --log-level=info \
        --svid-path="$work/run-drains/svid" -- nginx -c "$work/run-drains/nginx.conf"
    helper=$!
    wait_until "nginx serves" connect_with_https 127.0.0.1:18461
    mkfifo "$work/run-drains/request"
    exec {request}<>"$work/run-drains/request"
    openssl s_client -connect 127.0.0.1:18461 -ign_eof -CAfile "$work/client/bundle.pem" -cert "$work/client/svid.pem" \
        -key "$work/client/svid-key.pem" <"$work/run-drains/request" >"$work/run-drains/answer" 2>&1 &
    echo $! >>"$work/pids"
    # A request, and half of another one: when the first is answered, nginx has read what has begun of the second.
    printf 'GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hello HTTP/1.1\r\nHost: localhost\r\n' >&$request
    wait_until "the first request is answered" has_answers 1
    kill -QUIT $helper
    # A worker closes its listening socket when it begins to drain.
    wait_until "nginx accepts no more" refuses_connections 18461
    printf 'Connection: close\r\n\r\n' >&$request
    wait_until "the open request is answered" has_answers 2
    wait $helper || code=$?
    cat "$work/run-drains/server.log"
    [ $code = 0 ]
}
has_answers() { [ "$(grep -c '^hello' "$work/run-drains/answer")" = "$1" ]; } # NUMBER
refuses_connections() { ! (exec 4<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }   # PORT
check "SIGQUIT goes through to nginx, which drains an open request" drains

# SIGTERM tells nginx to end at once, and PostgreSQL to wait for its sessions.
drains_on_sigterm() {
    local helper code=0 session directory=$work/run-postgresql programs
    programs=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
    set_up run-postgresql postgres postgresql.conf 18466
    $(as postgres) "$programs/initdb" --no-sync -D "$directory/data" >/dev/null
    cat "$directory/postgresql.conf" >>"$directory/data/postgresql.conf"
    echo "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca" >"$directory/data/pg_hba.conf"
    background "$directory/helper.log" $(as postgres) "$release/pod-svid-helper" --mode=run --log-level=info \
        --svid-path="$directory/svid" -- "$programs/postgres" -D "$directory/data"
    helper=$!
    wait_until "PostgreSQL answers" ask_postgresql 'select 1'
    mkfifo "$directory/queries"
    exec {session}<>"$directory/queries"
    open_postgresql <"$directory/queries" >"$directory/answers" 2>&1 &
    echo $! >>"$work/pids"
    echo "select 'begun';" >&$session
    wait_until "the session has begun" grep -q begun "$directory/answers"
    kill -TERM $helper
    wait_until "PostgreSQL takes no new session" refuses_sessions
    printf '%s\n' "select 'drained';" '\q' >&$session
    wait_until "the open session is answered" grep -q drained "$directory/answers"
    wait $helper || code=$?
    cat "$directory/helper.log"
    [ $code = 0 ]
}
open_postgresql() { # [OPTION OF psql]...
    psql "host=127.0.0.1 port=18466 user=postgres sslmode=verify-ca sslrootcert=$work/client/bundle.pem \
        sslcert=$work/client/svid.pem sslkey=$work/client/svid-key.pem" -At "$@"
}
ask_postgresql() { open_postgresql -c "$1"; } # QUERY
refuses_sessions() { grep -q 'is shutting down' <<<"$(ask_postgresql 'select 1' 2>&1)"; }
check "SIGTERM goes through to PostgreSQL, which waits for an open session" drains_on_sigterm

restarts() {
    local before step directory=$work/run-restarts
    mkdir "$directory"
    background "$directory/server.log" "$release/pod-svid-helper" --mode=run --on-renewal=restart --log-level=info \
        --svid-path="$directory/svid" -- openssl s_server -accept 127.0.0.1:18463 -www -Verify 10 \
        -cert "$directory/svid/svid.pem" -key "$directory/svid/svid-key.pem" -CAfile "$directory/svid/bundle.pem"
    wait_until "the first SVID is there" test -e "$directory/svid/svid.pem"
    connect_without_pause connect 127.0.0.1:18463 '' ''
    for step in {1..20}; do
        wait_until "the newest SVID is served" last_seen "$(serial_in "$directory/svid")"
        before=$(serial_in "$directory/svid")
        tell_agent rotate
        wait_until "there is a new SVID" has_new_serial "$directory/svid" "$before"
    done
    wait_until "the newest SVID is served" last_seen "$(serial_in "$directory/svid")"
    stop_connecting
    cat "$directory/server.log"
    echo >&3 "$(count_connections), between the end of one process and the start of the next"
}
check "an application that knows no signal is restarted at each of 20 rotations" restarts

probes_answer() {
    background "$work/probes-1.log" "$release/pod-svid-helper" --mode=refresh --http-address=127.0.0.1:18464 \
        --workload-api-socket="$work/nowhere.sock" --svid-path="$work/probes-1"
    wait_until "the helper without an agent is live" has_status 18464 /live 200
    has_status 18464 /ready 503
    background "$work/probes-2.log" "$release/pod-svid-helper" --mode=refresh --http-address=127.0.0.1:18465 \
        --svid-path="$work/probes-2"
    wait_until "the helper with an agent is ready" has_status 18465 /ready 200
    has_status 18465 /live 200
}
check "the probes of the manifests tell a helper without an agent from one that is ready" probes_answer
