"""Scripts that `chatling launch --print` writes, run where srun, sudo and the like only tell how
they were called.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from chatling.cli import COMMANDS
from chatling.commands import launch
from chatling.commands.common import UsageError
from chatling.errors import MachineError
from chatling.pipeline.launch_files import MARGIN

TELL = """#!/bin/bash
printf "%s" "$(basename "$0")" >> "$CALLS"
printf "|%s" "$@" >> "$CALLS"
echo >> "$CALLS"
"""


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    launch.run(COMMANDS["launch"], list(words))
    return capsys.readouterr().out


def calls(script: str, tmp_path: Path, *words: str, **environment: str) -> list[list[str]]:
    """What the script calls, each as its words; srun does what it is told for node 1."""
    tools, log = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    bodies = dict.fromkeys(("chatling", "sudo", "ping"), TELL)
    bodies["scontrol"] = TELL + 'if [ "$1" = show ]; then echo first; echo second; fi\n'
    bodies["srun"] = TELL + 'shift\nSLURM_NODEID=1 "$@"\nexit 75\n'
    for name, body in bodies.items():
        (tools / name).write_text(body)
        (tools / name).chmod(0o755)
    (tmp_path / "script").write_text(script)
    path = f"{tools}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", str(tmp_path / "script"), *words],
        env={**os.environ, **environment, "PATH": path, "CALLS": str(log)},
        timeout=60,
    )
    return [line.split("|") for line in log.read_text().splitlines()]


def test_slurm_starts_every_node_and_requeues_what_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "it's mine.toml"
    recipe.write_text('extends = "speedrun"\nname = "mine"\n')
    words = (str(recipe), "--print", "slurm", "--machine", "8xh100", "--nodes", "2")
    script = printed(capsys, *words, "--base.tokens-per-parameter", "12")
    for line in ("--nodes=2", "--gpus-per-node=8", "--requeue", "--job-name=mine"):
        assert f"#SBATCH {line}\n" in script
    hours = int(re.search(r"--time=(\d+):00:00", script)[1])  # type: ignore[index]
    assert 1 <= hours <= 24
    assert int(re.search(r"--signal=TERM@(\d+)", script)[1]) > MARGIN  # type: ignore[index]
    found = calls(script, tmp_path, SLURM_JOB_NODELIST="n", SLURM_NNODES="2", SLURM_JOB_ID="7")
    assert found[-1] == ["scontrol", "requeue", "7"]
    own = next(call for call in found if call[0] == "chatling")
    assert own[1:] == [
        *("launch", str(recipe), "--base.tokens-per-parameter", "12", "--processes", "8"),
        *("--nodes", "2", "--rendezvous", "first:29400", "--node-rank", "1"),
    ]


def test_two_sparks_get_addresses_on_both_halves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = calls(printed(capsys, "spark-pair", "--print", "spark-pair"), tmp_path, "1")
    settings = [call for call in found if call[0] == "sudo"]
    assert [call[4] for call in settings if "address" in call] == ["10.10.0.2/24", "10.11.0.2/24"]
    assert sum("9000" in call for call in settings) == 2
    assert ["ping", "-c", "1", "-W", "5", "10.10.0.1"] in found
    assert found[-1] == [
        *("chatling", "launch", "spark-pair", "--processes", "1"),
        *("--nodes", "2", "--node-rank", "1", "--rendezvous", "10.10.0.1:29400"),
    ]


@pytest.mark.parametrize("words", [("pocket", "--print", "pbs"), ("speedrun", "--print", "slurm")])
def test_what_cannot_be_printed_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        launch.run(COMMANDS["launch"], list(words))


def test_what_is_printed_fits_the_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that SkyPilot and Kubernetes publish: `pip install skypilot kubernetes-validate`."""
    words = ("speedrun", "--machine", "8xh100", "--nodes", "2", "--run", "my_run")
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all(printed(capsys, *words, "--print", "kubernetes")):
        kubernetes_validate.validate(document, "1.34", strict=True)
    jsonschema, schemas = (
        pytest.importorskip(each) for each in ("jsonschema", "sky.utils.schemas")
    )
    task = yaml.safe_load(printed(capsys, *words, "--print", "sky"))
    for part, schema in (
        (task, schemas.get_task_schema()),
        (task["resources"], schemas.get_resources_schema()),
        *((mount, schemas.get_storage_schema()) for mount in task["file_mounts"].values()),
    ):
        jsonschema.validate(part, schema)


def test_sky_and_kubernetes_start_every_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("speedrun", "--machine", "8xh100", "--nodes", "2", "--run", "my_run")
    task = yaml.safe_load(printed(capsys, *words, "--print", "sky"))
    assert task["resources"]["accelerators"] == "H100:8"
    assert task["num_nodes"] == 2
    nodes = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "a\nb"}
    own = ["chatling", "launch", "speedrun", "--run", "my_run", "--processes", "8", "--nodes", "2"]
    assert calls(task["run"], tmp_path, **nodes) == [
        [*own, "--node-rank", "1", "--rendezvous", "a:29400"]
    ]
    service, job = yaml.safe_load_all(printed(capsys, *words, "--print", "kubernetes"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert service["metadata"]["name"] == pod["subdomain"] == job["metadata"]["name"] == "my-run"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    assert container["args"] == [*own, "--rendezvous", "my-run-0.my-run:29400"]
    assert container["command"][2] == 'exec "$@" --node-rank "$JOB_COMPLETION_INDEX"'
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    with pytest.raises(MachineError, match="rents no spark"):
        printed(capsys, "spark", "--print", "sky", "--machine", "spark")
