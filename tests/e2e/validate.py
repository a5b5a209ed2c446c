"""Checks a manifest: Kubernetes kinds by their schemas, strictly; others for what all have.

usage: validate.py MANIFEST
"""

import sys

import kubernetes_validate
import yaml

# Kinds of other projects, which Kubernetes' schemas do not know.
OTHERS = {"kind.x-k8s.io/v1alpha4", "spire.spiffe.io/v1alpha1"}


def main(manifest):
    with open(manifest) as file:
        documents = list(yaml.safe_load_all(file))
    for document in documents:
        if document["apiVersion"] in OTHERS:
            assert document["kind"], "a kind"
        else:
            version = kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
            print(document["kind"], "is valid in Kubernetes", version)


if __name__ == "__main__":
    main(*sys.argv[1:])
