# Runs Jetty with the recipe's start.d/svid.ini, and a file /hello.
start_jetty() {
    set_up jetty "$APPLICATION" jetty.ini 18464
    install -d -m 0700 -o "$APPLICATION" "$work"/jetty/run/jetty{,/new}
    install -D -m 0644 "$work/jetty/jetty.ini" "$work/jetty/start.d/svid.ini"
    install -D -m 0644 /dev/stdin "$work/jetty/webapps/ROOT/hello" <<<hello
    install -d -o "$APPLICATION" "$work/jetty/temp"
    keep_fresh jetty "$APPLICATION" jetty.ini
    wait_until "Jetty has its keystore" test -e "$work/jetty/run/jetty/svid.p12"
    background "$work/jetty/server.log" $(as "$APPLICATION") java -Djava.io.tmpdir="$work/jetty/temp" \
        -jar /usr/share/jetty9/start.jar jetty.home=/usr/share/jetty9 jetty.base="$work/jetty" --module=deploy
}

jetty_follows() {
    start_jetty
    follows_three_rotations jetty connect_with_https 127.0.0.1:18464
    follows_rotations jetty connect_with_jvm 18464 "$work/jetty/svid"
    turns_strangers_away 127.0.0.1:18464
}
check "Jetty follows its rotations" jetty_follows
