"""Checks what of manifests/variants is not for Kubernetes: the compose file as podman-compose reads it, the Quadlet
as podman's generator does (podman 4.4 and later; else as an INI file), the Nomad job's syntax and order of tasks.

usage: variants.py
"""

import configparser
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import hcl2
import yaml

VARIANTS = Path("manifests/variants")
GENERATOR = os.environ.get("QUADLET", "/usr/libexec/podman/quadlet")
OPTIONS = Path("README.md").read_text()


def text_of(value):
    """A string of HCL, which some versions of the library leave in its quotes."""
    return str(value).strip('"')


class Variants(unittest.TestCase):
    def are_options(self, arguments):
        for argument in arguments:
            self.assertRegex(OPTIONS, rf"\n\| `{argument.partition('=')[0]}[ `]")

    def test_the_compose_file(self):
        command = [sys.executable, "-m", "podman_compose", "-f", VARIANTS / "compose.yaml", "config"]
        services = yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["services"]
        self.assertEqual(set(services), {"svid-init", "svid-refresh", "app"})
        for name, service in services.items():
            self.are_options(service.get("command", []))
            wanted = {} if name == "svid-init" else {"svid-init": {"condition": "service_completed_successfully"}}
            self.assertEqual(service.get("depends_on", {}), wanted)
            self.assertEqual(service["user"], "65532:65532")

    def test_the_quadlet(self):
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str
        parser.read(VARIANTS / "pod-svid-helper.container")
        self.are_options(parser["Container"]["Exec"].split())

    @unittest.skipUnless(os.path.exists(GENERATOR), "this podman has no Quadlet")
    def test_the_quadlet_as_podman_reads_it(self):
        with tempfile.TemporaryDirectory() as directory:
            environment = os.environ | {"QUADLET_UNIT_DIRS": str(VARIANTS.absolute())}
            run = [GENERATOR, "-dryrun", directory]
            unit = subprocess.run(run, check=True, capture_output=True, text=True, env=environment).stdout
        self.assertIn("Type=notify", unit)
        self.assertIn("--mode=refresh", unit)

    def test_the_nomad_job(self):
        with open(VARIANTS / "nomad.hcl") as file:
            (jobs,) = hcl2.load(file)["job"]
        (job,) = [found for name, found in jobs.items() if text_of(name) == "app"]
        (groups,) = job["group"]
        (group,) = [found for name, found in groups.items() if text_of(name) == "app"]
        tasks = {text_of(name): found for block in group["task"] for name, found in block.items()}
        hooks = {name: text_of(task["lifecycle"][0]["hook"]) for name, task in tasks.items() if "lifecycle" in task}
        self.assertEqual(hooks, {"svid-init": "prestart", "svid-refresh": "poststart"})
        self.assertIn("app", tasks)
        for task in tasks.values():
            self.are_options([text_of(argument) for argument in task["config"][0].get("args", [])])


if __name__ == "__main__":
    unittest.main(verbosity=2)
