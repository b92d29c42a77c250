"""The stage graph with stages that only write files: skip, resume, rerun, locks, signals, several
processes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from chatling.config.recipe import Recipe
from chatling.config.stages import BaseConfig, FinetuneConfig, MixtureEntry
from chatling.data.config import DataConfig
from chatling.errors import DataError, Interrupted, MachineError, RunError
from chatling.hardware.device_errors import OutOfMemory
from chatling.hardware.distributed import DistContext
from chatling.pipeline import runner
from chatling.pipeline.runner import frozen_recipe
from chatling.run_dir import RunFolder, building_folder
from chatling.terminal.progress import Progress
from chatling.tokenizer.train import TokenizerConfig
from chatling.train.stage_base import Job, Stage

MID = FinetuneConfig(mixture=(MixtureEntry("pocket"),), packed=True)
RECIPE = Recipe(
    name="demo",
    data=DataConfig(),
    base=BaseConfig(steps=10),
    mid=MID,
    sft=replace(MID, packed=False),
)


@dataclass
class Fake:
    """Three stages that write their product, and what happened to them."""

    folder: RunFolder
    ran: list[str] = field(default_factory=list)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    failure: Callable[[str], None] = lambda name: None
    text: io.StringIO = field(default_factory=io.StringIO)
    cheap: bool = True  # to make a product again
    rows: dict[str, int] = field(default_factory=dict)  # that each stage took last
    fitting: int = 2

    def work(self, name: str) -> Callable[[Job], None]:
        def do(job: Job) -> None:
            self.ran.append(name)
            self.seen[name] = dict(job.execution)
            if not job.execution and name != "tokenizer":
                job.save_runtime({"dtype": name})
            (job.folder.path / name).mkdir(exist_ok=True)
            (job.folder.path / name / "partial").write_text(name)
            self.failure(name)
            with building_folder(job.folder.path / name / "model") as product:
                (product / "weights").write_text(f"{name} {job.recipe.seed}")

        return do

    def stages(self) -> list[Stage]:
        return [
            FakeStage(self, "tokenizer"),
            FakeStage(self, "base", "tokenizer"),
            FakeStage(self, "mid", "base"),
            FakeStage(self, "sft", "base", "mid"),
        ]

    def run(self, recipe: Recipe = RECIPE, **options: Any) -> list[str]:
        self.ran.clear()
        progress = Progress(console=Console(file=self.text, width=200))
        runner.run(recipe, self.folder, self.stages(), progress, DistContext(), **options)
        return list(self.ran)

    def entry(self, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = self.folder.read_state()["stages"][name]
        return entry


class FakeStage(Stage):
    """Writes a file as its model."""

    def __init__(self, fake: Fake, name: str, *requires: str):
        super().__init__(name, name)
        self.fake, self.requires, self.every_rank = fake, requires, name != "tokenizer"
        self.outputs, self.scratch = (f"{name}/model",), (name,)

    def fingerprint_inputs(self, recipe: Recipe) -> Any:
        return (recipe.seed if self.name == "base" else 0), self.config(recipe)

    def work(self, job: Job) -> None:
        self.fake.work(self.name)(job)

    def lighten(self, job: Job, rows: int) -> bool:
        if rows > 1:
            job.save_runtime({"rows": rows // 2})
            job.progress.message(f"{self.name}: fewer rows")
        return rows > 1

    def can_remake(self, folder: RunFolder, entry: Mapping[str, Any]) -> bool:
        return self.fake.cheap


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(RunFolder(tmp_path / "demo"))


ALL = ["tokenizer", "base", "mid", "sft"]


def test_a_finished_run_is_skipped_and_says_so(fake: Fake) -> None:
    assert fake.run() == ALL
    assert {fake.entry(name)["status"] for name in ALL} == {"done"}
    assert fake.run() == []
    assert fake.text.getvalue().count("done before, skipped") == 4
    assert frozen_recipe(fake.folder) == RECIPE


CHANGES = [
    (replace(RECIPE, tokenizer=TokenizerConfig(vocab_size=999)), ALL),
    (replace(RECIPE, base=BaseConfig(steps=11)), ["base", "mid", "sft"]),
    (replace(RECIPE, mid=replace(MID, epochs=2)), ["mid", "sft"]),
    (replace(RECIPE, sft=replace(MID, epochs=2)), ["sft"]),
    (replace(RECIPE, mid=None), ["sft"]),
    (replace(RECIPE, sft=None), []),
    (replace(RECIPE, loop=replace(RECIPE.loop, save_every=7), name="other"), []),
]


@pytest.mark.parametrize(("changed", "again"), CHANGES)
def test_what_changed_runs_again_with_its_dependants(
    fake: Fake, changed: Recipe, again: list[str]
) -> None:
    fake.run()
    assert fake.run(changed) == again
    assert fake.run(changed) == []


def test_a_model_replaced_by_a_new_one_is_kept_aside(fake: Fake) -> None:
    fake.run()
    mark = fake.entry("base")["fingerprint"]
    fake.run(replace(RECIPE, seed=2))
    assert (fake.folder.path / "previous" / f"base-{mark[:8]}" / "weights").read_text() == "base 1"
    assert (fake.folder.model("base") / "weights").read_text() == "base 2"


def test_old_outputs_stay_until_the_new_run_of_their_stage_begins(fake: Fake) -> None:
    fake.run()

    def fail(name: str) -> None:
        if name == "mid":
            raise DataError("no such thing")

    fake.failure = fail
    with pytest.raises(DataError):
        fake.run(replace(RECIPE, base=BaseConfig(steps=11)))
    assert (fake.folder.model("sft") / "weights").exists()
    assert not fake.folder.model("mid").exists()


BREAKS = [
    (DataError("gone"), "failed"),
    (Interrupted("stopped"), "interrupted"),
    (ValueError("bug"), "failed"),
]


@pytest.mark.parametrize(("error", "status"), BREAKS)
def test_a_broken_stage_goes_on_where_it_was(fake: Fake, error: Exception, status: str) -> None:
    def fail(name: str) -> None:
        if name == "mid":
            raise error

    fake.failure = fail
    with pytest.raises(type(error)):
        fake.run()
    assert fake.entry("mid")["status"] == status
    assert fake.entry("mid")["error"] == str(error)
    assert (fake.folder.path / "mid" / "partial").exists()
    fake.failure = lambda name: None
    assert fake.run() == ["mid", "sft"]
    assert fake.entry("mid")["resumes"] == 1
    assert fake.entry("base")["resumes"] == 0
    assert "error" not in fake.entry("mid")
    first, second = fake.entry("mid")["attempts"]
    assert (first["after"], first["status"], second["after"], second["status"]) == (
        None,
        status,
        status,
        "done",
    )
    assert first["started"] <= first["ended"] <= second["started"]


def test_a_lost_product_is_made_again(fake: Fake) -> None:
    fake.run()
    (fake.folder.model("base") / "weights").unlink()
    assert fake.run() == ["base"]
    assert "is missing" in fake.text.getvalue()


def test_choices_made_by_measuring_are_kept_until_training_starts_anew(fake: Fake) -> None:
    fake.run()
    assert fake.seen["base"] == {}
    assert (
        fake.seen["mid"]
        == fake.seen["sft"]
        == {"dtype": "base"}
        == fake.folder.read_state()["execution"]
    )
    fake.run(replace(RECIPE, mid=replace(MID, epochs=2)))
    assert fake.seen["mid"] == {"dtype": "base"}
    fake.run(replace(RECIPE, seed=5))
    assert fake.seen["base"] == {}


def test_a_stage_that_runs_out_of_memory_is_tried_again_as_long_as_it_can_take_less(
    fake: Fake,
) -> None:
    def fail(name: str) -> None:
        fake.rows[name] = fake.seen[name].get("rows", 8)
        if name == "mid" and fake.rows[name] > fake.fitting:
            raise OutOfMemory.training(name, fake.rows[name])

    fake.failure = fail
    assert fake.run() == ["tokenizer", "base", "mid", "mid", "mid", "sft"]
    assert fake.rows == {"tokenizer": 8, "base": 8, "mid": 2, "sft": 2}
    assert fake.folder.read_state()["execution"] == {"dtype": "base", "rows": 2}
    assert fake.entry("mid")["status"] == "done"
    assert fake.text.getvalue().count("mid: fewer rows") == 2
    fake.fitting = 0
    with pytest.raises(OutOfMemory, match="Memory ran out while training 'mid' with 1 rows"):
        fake.run(replace(RECIPE, mid=replace(MID, epochs=2)))
    assert fake.entry("mid")["status"] == "failed"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "Memory ran out while training 'base'"),
        (
            torch._dynamo.exc.Unsupported("no such operation"),
            "compiler failed while working on base",
        ),
    ],
)
def test_what_a_device_says_outside_of_the_loop_is_a_sentence(
    fake: Fake, error: Exception, said: str
) -> None:
    def fail(name: str) -> None:
        if name == "base":
            raise error

    fake.failure = fail
    with pytest.raises(MachineError, match=said):
        fake.run()
    assert fake.ran == ["tokenizer", "base"]


def test_two_runs_in_one_folder(fake: Fake) -> None:
    with fake.folder.lock(), pytest.raises(RunError, match="in use by process"):
        fake.run()
    assert fake.ran == []


def test_too_little_space_is_said_beforehand(fake: Fake) -> None:
    with pytest.raises(MachineError, match=r"still needs about .* GB at .*, and .* are free"):
        fake.run(disk={"base": 1 << 60})
    assert fake.ran == []
    fake.run()
    assert (
        fake.run(disk={"base": 1 << 60, "a checkpoint": 1 << 60}) == []
    )  # a finished run needs none


def test_a_resume_asks_only_for_what_is_still_to_be_written(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = {
        "tokenizer": 1_000,
        "base": 2_000,
        "mid": 4_000_000,
        "sft": 8_000_000,
        "a checkpoint": 500_000,
    }
    free = sum(disk.values())
    monkeypatch.setattr(runner, "free_bytes", lambda path: free)

    def fail(name: str) -> None:
        if name == "mid":
            (fake.folder.path / "mid" / "checkpoints").mkdir()
            (fake.folder.path / "mid" / "checkpoints" / "half").write_bytes(bytes(3_000_000))
            raise DataError("no such thing")

    fake.failure = fail
    with pytest.raises(DataError, match="no such thing"):
        fake.run(disk=disk)
    free = 9_500_000  # of 12.5 MB for mid, sft and a checkpoint, 3 are there
    fake.failure = lambda name: None
    free -= 10_000
    with pytest.raises(
        MachineError, match=r"still needs about 9\.5 MB at .*, and 9\.5 MB are free"
    ):
        fake.run(disk=disk)
    free += 10_000
    assert fake.run(disk=disk) == ["mid", "sft"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="Cannot write"):
        Fake(RunFolder(tmp_path / "file" / "demo")).run()


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"stages": 3, "execution": {}}', '{"stages"', "[" * 100_000, ""]
)
def test_a_damaged_state_is_named_and_its_copy_is_used(fake: Fake, text: str) -> None:
    fake.run()
    state = fake.folder.read_state()
    (fake.folder.path / "state.json").write_text(text)
    with pytest.warns(UserWarning, match=r"state\.json.*; its copy, state\.copy\.json, is used"):
        assert fake.run() == []
    assert fake.folder.read_state() == state
    for name in ("state.json", "state.copy.json"):
        (fake.folder.path / name).write_text(text)
    with pytest.raises(DataError, match=r"state\.json .*Put back state\.json as it was"):
        fake.run()


def test_results_without_a_state_are_not_trained_over(fake: Fake) -> None:
    fake.run()
    for name in ("state.json", "state.copy.json"):
        (fake.folder.path / name).unlink()
    with pytest.raises(RunError, match=r"base holds results that .*state\.json knows nothing of"):
        fake.run()


def test_a_damaged_product_that_would_take_days_is_not_made_again_unasked(fake: Fake) -> None:
    fake.run()
    fake.cheap = False
    path = fake.folder.model("base") / "weights"
    path.write_text("base 2")
    with pytest.raises(
        RunError,
        match=(
            r"base/model/weights does not match its checksum, .*Put the file back .* or delete"
            r" .*base"
        ),
    ):
        fake.run()
    assert fake.ran == []
    shutil.rmtree(fake.folder.stage("base"))
    assert fake.run() == ["base"]


def test_what_a_kill_left_half_written_goes_when_the_lock_is_taken(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHATLING_HOME", str(fake.folder.path.parent / "home"))
    fake.run()
    run, shared = fake.folder.path, fake.folder.path.parent / "home/cache/hub"
    living, dead = os.getppid(), 2**22 + 1  # above every process number
    half = [
        run / "base/checkpoints/.step_000003.7.tmp",
        run / "data/mid-train/.shard_00000.7.tmp",
        run / f".state.json.{living}.tmp",
        run / f"evals/.base-core.json.{dead}.tmp",
        shared / f".x.{dead}.tmp",
    ]
    kept = [
        shared / f".x.{living}.tmp",
        run / f"evals/.mid-core.json.{living}.tmp",
        run / "base/checkpoints/.note",
    ]
    for path in (*half, *kept):
        path.mkdir(parents=True)
        (path / "file").write_text("half")
    fake.run()
    assert not any(path.exists() for path in half)
    assert all(path.exists() for path in kept)


def test_a_folder_that_leads_out_of_itself_is_not_opened(fake: Fake, tmp_path: Path) -> None:
    fake.run()
    (tmp_path / "secret.json").write_text('{"key": 1}')
    odd = fake.folder.path / "evals" / "core.json"
    odd.parent.mkdir()
    for make in (
        lambda: odd.symlink_to(tmp_path / "secret.json"),
        lambda: odd.symlink_to("../../../etc"),
        lambda: os.mkfifo(odd),
    ):
        make()
        for open_it in (fake.run, lambda: RunFolder.open(fake.folder.path)):
            with pytest.raises(RunError, match=r"Run 'demo' is not opened: .*core\.json is "):
                open_it()
        odd.unlink()
    odd.symlink_to("../state.json")  # a tracker makes such
    assert fake.run() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_and_the_old_handlers_return(
    fake: Fake, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    fake.failure = lambda name: os.kill(os.getpid(), number) if name == "base" else None
    with pytest.raises(Interrupted, match=number.name):
        fake.run()
    assert fake.entry("base")["status"] == "interrupted"
    assert signal.getsignal(number) == before
    fake.failure = lambda name: None
    assert fake.run() == ["base", "mid", "sft"]


def test_a_killed_run_goes_on(fake: Fake) -> None:
    child = os.fork()
    if child == 0:
        fake.failure = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == "base" else None
        fake.run()
        os._exit(1)  # not reached
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert fake.entry("base")["status"] == "running"
    assert fake.run() == ["base", "mid", "sft"]
    assert "base: was cut off, resumes" in fake.text.getvalue()


SEVERAL = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from chatling.pipeline import runner
from chatling.errors import ChatlingError
from chatling.hardware.distributed import process_group
from chatling.terminal.progress import Progress
from chatling.run_dir import RunFolder
from test_runner import Fake, RECIPE
from chatling.errors import DataError

folder = RunFolder(Path(sys.argv[2]))
out = {}
with process_group(torch.device("cpu")) as world:
    for attempt in ("bad", "good"):
        fake = Fake(folder)
        def fail(name):
            if name == "tokenizer" and attempt == "bad":
                raise DataError("no text")
        fake.failure = fail
        def stages():
            # the first process alone writes products; every rank takes part in training stages
            for stage in fake.stages():
                def work(job, work=stage.work):
                    work(job) if job.world.is_main else fake.ran.append("peer")
                stage.work = work
                yield stage
        try:
            runner.run(RECIPE, folder, list(stages()), Progress(silent=True), world)
            out[attempt] = fake.ran
        except ChatlingError as error:
            out[attempt] = str(error)
    Path(sys.argv[2] + f".{world.rank}").write_text(json.dumps(out))
"""


def test_several_processes_agree_and_fail_together(tmp_path: Path) -> None:
    script = tmp_path / "several.py"
    script.write_text(SEVERAL)
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command = [*launcher, str(script), str(Path(__file__).parent), str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"demo.{rank}").read_text()) for rank in (0, 1))
    assert first == {"bad": "no text", "good": ALL}
    assert second == {"bad": "no text", "good": ["peer"] * 3}
