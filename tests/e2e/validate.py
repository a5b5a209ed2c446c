"""Checks a manifest: Kubernetes kinds by their schemas, strictly; others for what all have. The pods of
a Deployment, a Job and a CronJob pass Pod Security's "restricted", too, and have what a real kubelet needs.

Of a Markdown file, it checks the YAML blocks, as pods of which they show the heart. A manifest that says
"Kubernetes 1.36 or later" is valid in that version and in the newest one.

usage: validate.py FILE
"""

import glob
import re
import sys

import kubernetes_validate
import yaml

from kubelet import complaints
from restricted import violations

# Kinds of other projects, which Kubernetes' schemas do not know.
OTHERS = {
    "kind.x-k8s.io/v1alpha4", "kustomize.config.k8s.io/v1alpha1", "monitoring.coreos.com/v1", "spire.spiffe.io/v1alpha1",
}


def main(path):
    with open(path) as file:
        text = file.read()
    documents = pods_in(text) if path.endswith(".md") else list(yaml.safe_load_all(text))
    assert documents, "something to check"
    oldest = re.findall(r"Kubernetes (1\.\d+) (?:or|and) later", text) if path.endswith(".yaml") else []
    for document in documents:
        if document["apiVersion"] in OTHERS:
            assert document["kind"], "a kind"
            of_monitoring(document)
        else:
            for version in [*oldest, kubernetes_validate.latest_version()]:
                used = kubernetes_validate.validate(document, version, strict=True)
                print(document["kind"], "is valid in Kubernetes", used)
        spec = pod_of(document)
        if spec:
            lasts, fixed = document["kind"] == "Deployment", "restricted-v2" not in text
            found = violations(spec) + complaints(spec, lasts, fixed)
            assert not found, found


def pod_of(document):
    """The spec of the pod that a workload makes; None for what is no workload."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec["template"]["spec"] if document["kind"] in ("Deployment", "Job", "CronJob") else None


def of_monitoring(document):
    """The alerts for the operator are those for Prometheus, and its monitor finds the port of the manifests' pods."""
    if document["kind"] == "PrometheusRule":
        with open("manifests/monitoring/alerts.yaml") as file:
            assert document["spec"] == yaml.safe_load(file), "the groups of alerts.yaml"
    if document["kind"] == "PodMonitor":
        endpoints = document["spec"]["podMetricsEndpoints"]
        for path in glob.glob("manifests/nginx*.yaml"):
            with open(path) as file:
                text = file.read()
            assert all(f"name: {endpoint['port']}, containerPort" in text for endpoint in endpoints), path


def pods_in(markdown):
    blocks = re.findall(r"^```yaml\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}} | yaml.safe_load(block) for block in blocks]


if __name__ == "__main__":
    main(*sys.argv[1:])
