# Every manifest is valid. Sourced by `run`.

for manifest in manifests/*.yaml; do
    check "$manifest is valid" target/tools/bin/python3 tests/e2e/validate.py "$manifest"
done
check "the README's pod is valid" target/tools/bin/python3 tests/e2e/validate.py README.md
