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

# Under a name of its own: this machine may run another nginx, and an older one.
cp "$(command -v nginx)" "$work/nginx-e2e"
check "nginx follows its rotations, found by its name" \
    nginx_follows nginx-by-name 18444 "$work/nginx-e2e" --signal-process=nginx-e2e
