# Runs Tomcat with the recipe's server.xml, and a file /hello.
start_tomcat() { # NAME PORT
    local home=/usr/share/tomcat10
    set_up "$1" "$APPLICATION" tomcat.xml "$2"
    install -D -m 0644 /etc/tomcat10/web.xml "$work/$1/conf/web.xml"
    install -D -m 0644 /dev/stdin "$work/$1/webapps/ROOT/hello" <<<hello
    install -d -o "$APPLICATION" "$work/$1"/{work,temp}
    keep_fresh "$1" "$APPLICATION" jvm.md
    background "$work/$1/server.log" $(as "$APPLICATION") java -Dcatalina.home=$home -Dcatalina.base="$work/$1" \
        -Djava.io.tmpdir="$work/$1/temp" -cp $home/bin/bootstrap.jar:$home/bin/tomcat-juli.jar \
        org.apache.catalina.startup.Bootstrap -config "$work/$1/tomcat.xml" start
}

tomcat_follows() {
    start_tomcat tomcat 18447
    follows_three_rotations tomcat connect_with_https 127.0.0.1:18447
    follows_rotations tomcat connect_with_jvm 18447 "$work/tomcat/svid"
    turns_strangers_away 127.0.0.1:18447
}
check "Tomcat follows its rotations" tomcat_follows
