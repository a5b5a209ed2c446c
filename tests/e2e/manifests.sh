# Every manifest is valid. Sourced by `run`.

for manifest in manifests/*.yaml; do
    check "$manifest is valid" target/tools/bin/python3 tests/e2e/validate.py "$manifest"
done
check "the README's pod is valid" target/tools/bin/python3 tests/e2e/validate.py README.md
check "manifests/inject.yaml gives a pod that asks the sidecar of manifests/nginx-native-sidecar.yaml" \
    target/tools/bin/python3 tests/e2e/inject.py
