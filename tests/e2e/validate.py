"""Checks a manifest: Kubernetes kinds by their schemas, strictly; others for what all have.

Of a Markdown file, it checks the YAML blocks, as pods of which they show the heart.

usage: validate.py FILE
"""

import re
import sys

import kubernetes_validate
import yaml

# Kinds of other projects, which Kubernetes' schemas do not know.
OTHERS = {"kind.x-k8s.io/v1alpha4", "spire.spiffe.io/v1alpha1"}


def main(path):
    with open(path) as file:
        text = file.read()
    documents = pods_in(text) if path.endswith(".md") else list(yaml.safe_load_all(text))
    assert documents, "something to check"
    for document in documents:
        if document["apiVersion"] in OTHERS:
            assert document["kind"], "a kind"
        else:
            version = kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
            print(document["kind"], "is valid in Kubernetes", version)


def pods_in(markdown):
    blocks = re.findall(r"^```yaml\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | yaml.safe_load(block) for block in blocks]


if __name__ == "__main__":
    main(*sys.argv[1:])
