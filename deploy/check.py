"""What is deployed is what there is: manifests keep to the schemas of Kubernetes, what they name is there, and every process
that they or docker-compose start knows the arguments and the settings that it is given.

    python deploy/check.py

The command is the program in the variable HANDOVER_BIN; PyYAML and kubernetes-validate have to be installed.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import yaml

HANDOVER = os.environ["HANDOVER_BIN"]
ROOT = pathlib.Path(__file__).parents[1]
MANIFESTS = ROOT / "deploy" / "kubernetes"
KUBERNETES = "1.37"
# These are no processes that have settings.
COMMANDS = {"certs", None}


def main() -> None:
    manifests = list(kubernetes())
    with tempfile.TemporaryDirectory() as tls:
        processes = [*pods(manifests), *services()]
        for source, name, arguments, settings in processes:
            accepted(f"{source}: {name}", arguments, settings, pathlib.Path(tls))
    print(f"{len(processes)} processes know their settings")


def kubernetes() -> Iterator[dict[str, Any]]:
    """All manifests of the kustomization, each of which has to be what Kubernetes takes."""
    kustomization = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
    files = {it.name for it in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml"}
    demand(set(kustomization["resources"]) == files, f"kustomization.yaml names other files than there are: {files}")
    for file in sorted(files):
        for manifest in yaml.safe_load_all((MANIFESTS / file).read_text()):
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
            yield manifest


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, str, list[str], dict[str, str]]]:
    """The processes of all pods. What they refer to has to be there."""
    def of_kind(kind: str) -> list[dict[str, Any]]:
        return [it for it in manifests if it["kind"] == kind]

    maps = {it["metadata"]["name"]: it["data"] for it in of_kind("ConfigMap")}
    sets = of_kind("StatefulSet")
    labels = [it["spec"]["template"]["metadata"]["labels"].items() for it in sets]
    for service in of_kind("Service"):
        demand(any(service["spec"]["selector"].items() <= it for it in labels), f"nobody is {service['metadata']}")
    for budget in of_kind("PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"].items()
        demand(any(selector <= it for it in labels), f"nobody is {budget['metadata']}")
    for it in sets:
        name, spec = it["metadata"]["name"], it["spec"]["template"]["spec"]
        demand(it["spec"]["selector"]["matchLabels"].items() <= it["spec"]["template"]["metadata"]["labels"].items(), name)
        claimed = [claim["metadata"]["name"] for claim in it["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"] for volume in spec["volumes"]} | set(claimed)
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            ports = {port["name"] for port in container["ports"]}
            probed = {probe["httpGet"]["port"] for key, probe in container.items() if key.endswith("Probe")}
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            demand(probed <= ports and mounted <= volumes, f"{name}: {container['name']}")
            yield name, container["name"], container["args"], environment(container, f"{name}-0", maps)


def environment(container: dict[str, Any], pod: str, maps: dict[str, dict[str, str]]) -> dict[str, str]:
    """The variables of a container in `pod`, as Kubernetes makes them."""
    variables = {key: value for it in container["envFrom"] for key, value in maps[it["configMapRef"]["name"]].items()}
    fields = {"metadata.name": pod, "metadata.labels['apps.kubernetes.io/pod-index']": pod.rpartition("-")[2]}
    for it in container["env"]:
        given = it.get("valueFrom", {})
        if "secretKeyRef" in given:
            continue
        value = fields[given["fieldRef"]["fieldPath"]] if given else it["value"]
        variables[it["name"]] = re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], value)
    return variables


def services() -> Iterator[tuple[str, str, list[str], dict[str, str]]]:
    """The processes that docker-compose starts, without TLS and with it."""
    compose = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    profiles = [f"--profile={it}" for it in ["fifth", "command", "observability"]]
    for files in [["docker-compose.yml"], ["docker-compose.yml", "docker-compose.tls.yml"]]:
        named = [f"--file={ROOT / file}" for file in files]
        described = subprocess.run([*compose, *named, *profiles, "config"], check=True, stdout=subprocess.PIPE)
        for name, service in yaml.safe_load(described.stdout)["services"].items():
            command = service.get("command") or [None]
            if service["image"] == "handover" and command[0] not in COMMANDS:
                yield files[-1], name, command, service["environment"]


def accepted(who: str, arguments: list[str], settings: dict[str, str], tls: pathlib.Path) -> None:
    """Asks the program itself, with a certificate for this process if it is to have one."""
    issued = f"{settings['HANDOVER_NAME']}.pem"
    if settings.get("HANDOVER_TLS__CERT", f"/tls/{issued}") != f"/tls/{issued}":
        raise SystemExit(f"{who}: its certificate is another's")
    certs = [HANDOVER, "certs", tls, settings["HANDOVER_NAME"]]
    subprocess.run(certs, check=True, stdout=subprocess.DEVNULL)
    variables = {key: value.replace("/tls/", f"{tls}/") for key, value in settings.items()}
    # Not those of whoever runs this.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HANDOVER_")}
    asked = subprocess.run([HANDOVER, *arguments, "--check-config"], env={**inherited, **variables})
    demand(asked.returncode == 0, f"{who}: exit status {asked.returncode}")


def demand(holds: bool, complaint: str) -> None:
    if not holds:
        raise SystemExit(complaint)


if __name__ == "__main__":
    main()
