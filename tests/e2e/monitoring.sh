# The alerts, the dashboard, and a scrape by a real Prometheus. Sourced by `run`.

rules=manifests/monitoring
check "the alert rules are valid" promtool check rules "$rules/alerts.yaml"
check "each alert fires when it should" promtool test rules "$rules/alerts-test.yaml"

# Every metric that the alerts and the dashboard name is one that the helper serves.
names_known_metrics() { # FILE SCRAPE
    local name
    for name in $(grep -oh 'pod_svid_helper_[a-z0-9_]*' "$1" | sort -u); do
        grep -q "^# TYPE $name " "$2" || { echo "$1 names $name, which is not served"; return 1; }
    done
}

# A helper on the host, with everything that its metrics show.
serve_metrics() {
    mkdir "$work/monitored"
    "$release/pod-svid-helper" --mode=refresh --workload-api-socket="$work/agent/spire-agent.sock" \
        --svid-path="$work/monitored" --http-address=127.0.0.1:18481 2>"$work/monitored.log" &
    monitored=$!
    wait_until "the helper is ready" curl -sf -o /dev/null http://127.0.0.1:18481/ready
    curl -sf http://127.0.0.1:18481/metrics >"$work/scrape"
}

is_scraped() {
    curl -sf 'http://127.0.0.1:18490/api/v1/query?query=pod_svid_helper_publications_total' |
        grep -q '"value":\[[0-9.]*,"1"\]'
}

scrape_with_prometheus() {
    printf 'scrape_configs: [{ job_name: helper, scrape_interval: 1s, static_configs: [{ targets: ["127.0.0.1:18481"] }] }]\n' \
        >"$work/prometheus.yaml"
    prometheus --config.file="$work/prometheus.yaml" --storage.tsdb.path="$work/tsdb" \
        --web.listen-address=127.0.0.1:18490 >"$work/prometheus.log" 2>&1 &
    local prometheus=$!
    wait_until "Prometheus has scraped the helper" is_scraped || { cat "$work/prometheus.log"; return 1; }
    kill "$prometheus"
    wait "$prometheus" || true
}

serve_metrics
check "promtool finds nothing to say of the metrics" sh -c "curl -sf http://127.0.0.1:18481/metrics | promtool check metrics"
check "the alerts name metrics that are served" names_known_metrics "$rules/alerts.yaml" "$work/scrape"
check "the dashboard is JSON" python3 -m json.tool "$rules/dashboard.json"
check "the dashboard names metrics that are served" names_known_metrics "$rules/dashboard.json" "$work/scrape"
check "Prometheus scrapes the helper" scrape_with_prometheus
kill "$monitored"
wait "$monitored" || true
