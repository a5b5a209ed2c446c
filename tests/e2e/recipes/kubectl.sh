# kubectl gets its token from the helper, as the recipe's kubeconfig says; a server that speaks TLS and writes down
# what it is asked stands for the API server.
serve_the_api() {
    cat >"$work/kubectl/api.py" <<'PYTHON'
import http.server, ssl, sys

class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[2], "a") as asked:
            print(self.headers.get("Authorization", "nobody"), file=asked)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"gitVersion": "v1.36.0"}')

server = http.server.HTTPServer(("127.0.0.1", 18465), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[1]}/svid.pem", f"{sys.argv[1]}/svid-key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
    background "$work/kubectl/server.log" python3 "$work/kubectl/api.py" "$work/kubectl/files" "$work/kubectl/asked"
}

asks_with_kubectl() { # VERSION OF THE CREDENTIAL
    # The server's certificate names no host.
    awk '/^```yaml/ { on = 1; next } /^```/ { on = 0 } on' manifests/recipes/kubectl.md |
        sed -e "s#https://api.example.org:6443#https://127.0.0.1:18465#" \
            -e "s#certificate-authority: .*#insecure-skip-tls-verify: true#" \
            -e "s#/usr/local/bin/pod-svid-helper#$release/pod-svid-helper#" -e "s#/run/spire/agent.sock#$work/agent/spire-agent.sock#" \
            -e "s#spiffe://example.org/ci/deployer#spiffe://example.org/workload/nginx#" \
            -e "s#client.authentication.k8s.io/v1#client.authentication.k8s.io/$1#" >"$work/kubectl/config"
    "$tools/usr/bin/kubectl" --kubeconfig "$work/kubectl/config" --cache-dir "$work/kubectl/cache" get --raw /version |
        grep 'v1.36.0'
}

kubectl_asks_with_a_token() {
    tools=$PWD/target/tools/of-sid
    unpack_of_sid "$tools" kustomize kubectl podman
    mkdir -p "$work/kubectl"
    "$release/pod-svid-helper" --mode=init --svid-path="$work/kubectl/files"
    : >"$work/kubectl/asked"
    serve_the_api
    wait_until "the server serves" curl -ksf -o /dev/null https://127.0.0.1:18465/
    : >"$work/kubectl/asked"
    asks_with_kubectl v1
    asks_with_kubectl v1beta1
    cat "$work/kubectl/asked"
    [ "$(grep -c '^Bearer [^.]*[.][^.]*[.][^.]*$' "$work/kubectl/asked")" = 2 ]
    # Too much padding is an error, after the text.
    claims=$(tail -n 1 "$work/kubectl/asked" | cut -d . -f 2 | tr -- -_ +/ | sed 's/$/==/' | base64 -d 2>/dev/null || true)
    grep '"sub":"spiffe://example.org/workload/nginx"' <<<"$claims"
}
check "kubectl asks the Kubernetes API with a token of the helper" kubectl_asks_with_a_token
