"""The bill of materials of the image that it runs in, as CycloneDX 1.5 JSON: every Debian and Python package.

Run by the Containerfiles with the image's own Python; only the standard library is used. The same packages give the
same bytes: no time and no serial number.
"""

import json
import subprocess
import sys
from importlib.metadata import distributions
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]
_FIELDS = ("binary:Package", "Version", "Architecture")


def bill(image: str, version: str) -> dict[str, Any]:
    """The bill of this file system."""
    components = [*debian_packages(), *python_packages()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": image, "version": version}},
        "components": sorted(components, key=lambda component: component["purl"]),
    }


def python_packages() -> list[Component]:
    """Every distribution that this Python sees."""
    found = {}
    for item in distributions():
        name, version = item.metadata["Name"].lower().replace("_", "-"), item.version
        component: Component = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{quote(name)}@{quote(version)}",
        }
        licence = item.metadata.get("License-Expression")
        if licence:
            component["licenses"] = [{"expression": licence}]
        found[component["purl"]] = component
    return list(found.values())


def debian_packages() -> list[Component]:
    """Every package that dpkg has installed."""
    form = "\\t".join(f"${{{field}}}" for field in _FIELDS) + "\\n"
    listed = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
    found = []
    for line in listed.splitlines():
        package, version, architecture = line.split("\t")
        name = package.split(":")[0]
        place = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
        found.append({"type": "library", "name": name, "version": version, "purl": place})
    return found


if __name__ == "__main__":
    json.dump(bill(*sys.argv[1:3]), sys.stdout, indent=1)
    print()
