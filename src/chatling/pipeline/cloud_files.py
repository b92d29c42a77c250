"""Files that start a run in a cloud, as data: for SkyPilot, and for Kubernetes."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from chatling.errors import Interrupted, MachineError

SKY_NAMES = {
    "a100": "A100-80GB",
    "h100": "H100",
    "h200": "H200",
    "mi300x": "MI300X",
    "rtx3090": "RTX3090",
    "rtx4090": "RTX4090",
    "rtx5090": "RTX5090",
}
STOPPED = Interrupted.exit_code
IMAGE = "IMAGE"  # what a person fills in
HOME = "/home/chatling"


def sky(name: str, chip: str, gpus: int, nodes: int, command: Sequence[str]) -> str:
    """A task of SkyPilot. Raises MachineError for a chip that it does not rent."""
    if chip not in SKY_NAMES:
        raise MachineError(
            f"SkyPilot rents no {chip}.", f"It has {', '.join(SKY_NAMES)}: --machine 8xh100."
        )
    head = '"$(echo "$SKYPILOT_NODE_IPS" | head -n 1):29400"'
    place = f'--nodes "$SKYPILOT_NUM_NODES" --node-rank "$SKYPILOT_NODE_RANK" --rendezvous {head}'
    return _text(
        {
            "name": _label(name),
            "num_nodes": nodes,
            "resources": {
                "accelerators": f"{SKY_NAMES[chip]}:{gpus}",
                "use_spot": True,
                "job_recovery": {"recover_on_exit_codes": [STOPPED]},
            },
            "workdir": ".",
            "file_mounts": {HOME: {"name": f"{_label(name)}-home", "mode": "MOUNT_CACHED"}},
            "envs": {"CHATLING_HOME": HOME},
            "setup": "pip install .",
            "run": f"{shlex.join(command)} {place}\n",
        }
    )


def kubernetes(
    name: str, chip: str, gpus: int, nodes: int, command: Sequence[str], notice: int
) -> str:
    """A service by which the nodes find each other, and a job of a pod a node. A pod has `notice`
    seconds to stop in.
    """
    label = _label(name)
    key = "amd.com/gpu" if chip.startswith("mi") else "nvidia.com/gpu"
    volumes = {
        HOME: {"name": "home", "persistentVolumeClaim": {"claimName": "chatling"}},
        # through which the processes of a pod hand on tensors
        "/dev/shm": {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    }
    container = {
        "name": "chatling",
        "image": IMAGE,
        "command": ["bash", "-c", 'exec "$@" --node-rank "$JOB_COMPLETION_INDEX"', "node"],
        "args": [*command, "--nodes", str(nodes), "--rendezvous", f"{label}-0.{label}:29400"],
        "env": [{"name": "CHATLING_HOME", "value": HOME}],
        "resources": {"limits": {key: gpus}},
        "volumeMounts": [
            {"name": volume["name"], "mountPath": path} for path, volume in volumes.items()
        ],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": label},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"batch.kubernetes.io/job-name": label},
        },
    }
    ignored: list[dict[str, Any]] = [
        {"onExitCodes": {"operator": "In", "values": [STOPPED]}},
        {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": label},
        "spec": {
            "completions": nodes,
            "parallelism": nodes,
            "completionMode": "Indexed",
            "backoffLimit": 3 * nodes,
            # a pod that was stopped starts again, as often as it may be
            "podFailurePolicy": {"rules": [{"action": "Ignore", **each} for each in ignored]},
            "template": {
                "spec": {
                    "subdomain": label,
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": notice,
                    "containers": [container],
                    "volumes": list(volumes.values()),
                }
            },
        },
    }
    return _text(service, job)


def _label(name: str) -> str:
    """A run's name as hosts may be called."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "run"


def _text(*documents: Any) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, width=1000)
