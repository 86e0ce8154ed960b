"""What no schema knows: that files which are named exist, and that settings which are set are settings."""

import pathlib
import re
import sys

import yaml

problems = []


def must(holds, what):
    if not holds:
        problems.append(what)


names = pathlib.Path("src/config/names.rs").read_text()
known = set(re.findall(r'(?:one|many|secret)\(\s*"([A-Z_]+)"', names)) | {"DATABASE_URL"}
known |= {f"{name}_FILE" for name in known}
must(len(known) > 40, "the settings were not found in src/config/names.rs")
OURS = re.compile(r"(SLUICEGATE_|STRIPE_|DATABASE_URL)\w*$")


def settings(where, given):
    for name in given:
        must(not OURS.match(name) or name in known, f"{where}: {name} is no setting")


compose = yaml.safe_load(pathlib.Path("compose.yaml").read_text())
for name, service in compose["services"].items():
    settings(f"compose.yaml: {name}", service.get("environment", {}))
    for secret in service.get("secrets", []):
        must(secret in compose["secrets"], f"compose.yaml: {name}: no secret {secret}")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        there = pathlib.Path(source).exists() if source.startswith("./") else source in compose["volumes"]
        must(there, f"compose.yaml: {name}: {source} is missing")
    for needed in service.get("depends_on", []):
        must(needed in compose["services"], f"compose.yaml: {name}: no service {needed}")
    must("image" in service, f"compose.yaml: {name} has no image")

unit = pathlib.Path("ops/systemd/sluicegate.service").read_text()
given = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.M))
settings("sluicegate.service", given)
loaded = set(re.findall(r"^LoadCredential=([^:]+):", unit, re.M))
for value in re.findall(r"%d/([\w.]+)", unit):
    must(value in loaded, f"sluicegate.service: no credential {value}")

documents, config = [], {}
for path in sorted(pathlib.Path("ops/kubernetes").glob("*.yaml")):
    documents += [(path, document) for document in yaml.safe_load_all(path.read_text())]
named = {(document["kind"], document["metadata"]["name"]): document for _, document in documents}
must(len(named) == len(documents), "ops/kubernetes: two documents of one kind and name")
for path, document in documents:
    if document["kind"] == "ConfigMap":
        settings(path, document["data"])
    if document["kind"] == "Deployment":
        pod = document["spec"]["template"]
        must(
            document["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(),
            f"{path}: the selector does not select the pods",
        )
        for container in pod["spec"]["containers"]:
            settings(path, [variable["name"] for variable in container["env"]])
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                must(container[probe]["httpGet"]["port"] in ports, f"{path}: {probe} asks a port that is none")
            for source in container["envFrom"]:
                must(("ConfigMap", source["configMapRef"]["name"]) in named, f"{path}: no such ConfigMap")
    if document["kind"] in ("Service", "PodDisruptionBudget"):
        selector = document["spec"]["selector"]
        labels = selector.get("matchLabels", selector)
        pods = [d["spec"]["template"]["metadata"]["labels"] for d in named.values() if d["kind"] == "Deployment"]
        must(any(labels.items() <= pod.items() for pod in pods), f"{path}: selects no pod")
    if document["kind"] == "Ingress":
        for rule in document["spec"]["rules"]:
            for way in rule["http"]["paths"]:
                service = way["backend"]["service"]["name"]
                must(("Service", service) in named, f"{path}: no service {service}")

print("\n".join(problems), file=sys.stderr)
sys.exit(bool(problems))
