# Every manifest is valid. Sourced by `run`.

for manifest in manifests/*.yaml manifests/monitoring/prometheus-operator.yaml \
    manifests/variants/{job,openshift,two-identities}.yaml; do
    check "$manifest is valid" target/tools/bin/python3 tests/e2e/validate.py "$manifest"
done
check "the compose file, the Quadlet and the Nomad job of manifests/variants are valid" \
    target/tools/bin/python3 tests/e2e/variants.py
check "manifests/component/kustomization.yaml is valid" \
    target/tools/bin/python3 tests/e2e/validate.py manifests/component/kustomization.yaml
check "manifests/component adds the sidecar of manifests/inject.yaml to workloads" \
    target/tools/bin/python3 tests/e2e/component.py
check "the README's pod is valid" target/tools/bin/python3 tests/e2e/validate.py README.md
check "the pod with Pod Certificates is valid" \
    target/tools/bin/python3 tests/e2e/validate.py manifests/recipes/pod-certificates.md
check "manifests/inject.yaml gives a pod that asks the sidecar of manifests/nginx-native-sidecar.yaml" \
    target/tools/bin/python3 tests/e2e/inject.py
