# Every manifest is valid. Sourced by `run`.

for manifest in manifests/*.yaml manifests/monitoring/prometheus-operator.yaml \
    manifests/variants/{job,openshift,two-identities}.yaml; do
    check "$manifest is valid" target/tools/bin/python3 tests/e2e/validate.py "$manifest"
done
# The tools themselves read what is theirs; without them, the tests below are fewer.
tools=$PWD/target/tools/of-sid
check "Kustomize, kubectl and podman's Quadlet are here" unpack_of_sid "$tools" kustomize kubectl podman
check "the compose file, the Quadlet and the Nomad job of manifests/variants are valid" \
    env QUADLET="$tools/usr/libexec/podman/quadlet" target/tools/bin/python3 tests/e2e/variants.py
check "manifests/component/kustomization.yaml is valid" \
    target/tools/bin/python3 tests/e2e/validate.py manifests/component/kustomization.yaml
check "manifests/component adds the sidecar of manifests/inject.yaml to workloads" \
    env PATH="$PATH:$tools/usr/bin" target/tools/bin/python3 tests/e2e/component.py
check "the README's pod is valid" target/tools/bin/python3 tests/e2e/validate.py README.md
check "the pod with Pod Certificates is valid" \
    target/tools/bin/python3 tests/e2e/validate.py manifests/recipes/pod-certificates.md
check "manifests/inject.yaml gives a pod that asks the sidecar of manifests/nginx-native-sidecar.yaml" \
    target/tools/bin/python3 tests/e2e/inject.py
