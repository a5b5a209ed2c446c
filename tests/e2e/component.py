"""Tests manifests/component: its sidecar is that of manifests/inject.yaml, and Kustomize, if it is here (`kustomize`
or `kubectl`), adds it to the workloads that ask, and to no other one.

usage: component.py
"""

import copy
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import kubernetes_validate
import yaml

from inject import asking, container, inject, pod, sidecar_in
from kubelet import complaints
from restricted import violations

COMPONENT = Path("manifests/component")
KINDS = ("Deployment", "StatefulSet", "DaemonSet")
BUILD = next(([program, *verb] for program, verb in (("kustomize", ["build"]), ("kubectl", ["kustomize"]))
              if shutil.which(program)), None)


def workload(kind, name, **labels):
    files = {"name": "svid-dir", "mountPath": "/var/run/secret", "readOnly": True}
    app = container("app", volumeMounts=[files] if labels else [], readinessProbe={"tcpSocket": {"port": 80}})
    spec = {
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [app], "initContainers": [container("migrate")]},
        },
    }
    service = {"serviceName": name} if kind == "StatefulSet" else {}
    metadata = {"name": name, "labels": {name.replace("_", "-"): value for name, value in labels.items()}}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec | service}


class Component(unittest.TestCase):
    def test_the_patch_has_what_the_admission_policy_adds(self):
        patch = yaml.safe_load((COMPONENT / "sidecar.yaml").read_text())["spec"]["template"]["spec"]
        injected = inject(pod(asking()))
        self.assertEqual(patch["initContainers"], [sidecar_in(injected)])
        self.assertEqual(patch["volumes"], injected["spec"]["volumes"])
        self.assertEqual(patch["securityContext"], injected["spec"]["securityContext"])

    @unittest.skipUnless(BUILD, "neither kustomize nor kubectl is here")
    def test_workloads_that_ask_get_the_sidecar(self):
        before = [workload(kind, "asks", pod_svid_helper="sidecar") for kind in KINDS]
        before += [workload(kind, "other") for kind in KINDS]
        with tempfile.TemporaryDirectory() as directory:
            own = Path(directory) / "own"
            own.mkdir()
            shutil.copytree(COMPONENT, Path(directory) / "component")
            (own / "workloads.yaml").write_text(yaml.dump_all(copy.deepcopy(before)))
            (own / "kustomization.yaml").write_text("resources: [workloads.yaml]\ncomponents: [../component]\n")
            built = subprocess.run([*BUILD, own], check=True, capture_output=True, text=True).stdout
        results = list(yaml.safe_load_all(built))
        self.assertEqual(len(results), len(before))
        for result in results:
            kubernetes_validate.validate(result, "1.29", strict=True)
            spec = result["spec"]["template"]["spec"]
            names = [found["name"] for found in spec["initContainers"]]
            if result["metadata"]["name"] == "asks":
                self.assertEqual(names, ["svid-refresh", "migrate"], result["kind"])
                self.assertEqual(violations(spec) + complaints(spec), [])
            else:
                self.assertEqual(names, ["migrate"])
                self.assertNotIn("volumes", spec)


if __name__ == "__main__":
    unittest.main(verbosity=2)
