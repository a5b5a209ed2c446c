apache_follows() {
    set_up apache "$APPLICATION" apache.conf 18446
    echo hello >"$work/apache/hello"
    keep_fresh apache "$APPLICATION" apache.conf
    background "$work/apache/server.log" $(as "$APPLICATION") apache2 -D FOREGROUND -f "$work/apache/apache.conf"
    follows_rotations apache connect_with_https 127.0.0.1:18446
    turns_strangers_away 127.0.0.1:18446
    # Another SPIFFE ID than that of the recipe.
    recipe apache apache.conf 18446 | sed 's#workload/nginx#workload/other#' >"$work/apache/apache.conf"
    kill -USR1 "$(cat "$work/apache/run/httpd.pid")"
    admitted() { connect_with_https 127.0.0.1:18446; }
    refused() { ! admitted; }
    wait_until "Apache refuses another SPIFFE ID" refused
}
check "Apache follows its rotations, and admits one SPIFFE ID alone" apache_follows
