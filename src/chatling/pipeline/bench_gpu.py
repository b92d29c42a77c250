"""The first minutes on a machine: each part of the product is tried once and held against what is
expected of it. Where a part fails, the next ones are tried all the same.
"""

import json as jsonlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from chatling.bench.measure import byte_tokenizer, random_model, seconds
from chatling.bench.train import median_seconds, training_step
from chatling.config.recipe import Recipe, load_recipe
from chatling.hardware.detect import Device, Machine, detect
from chatling.hardware.device_errors import OutOfMemory, memory_errors
from chatling.hardware.machines import chips, share
from chatling.inference.engine import Engine, Request, SamplingParams
from chatling.model.attention import Kernel, attend
from chatling.model.config import ModelConfig, flops_per_token
from chatling.model.gpt import GPT
from chatling.model.losses import next_token_loss
from chatling.pipeline.plan import plan, rows_of_a_rank
from chatling.train.checkpoint import MODEL
from chatling.train.kernels import kernel_results, largest_error
from chatling.train.metrics import read_metrics
from chatling.train.runtime import RuntimeConfig, choose_runtime

POCKET_STEPS = 60
STOPS = 2  # of the run that is resumed
BASE_ONLY = "\n".join(
    ('extends = "pocket"', *(f'{stage} = "none"' for stage in ("mid", "sft", "dpo", "rl", "eval")))
)


@dataclass(frozen=True)
class Row:
    """What a part did, what is expected of it, and whether that is so; None: nothing is."""

    part: str
    seen: str
    expected: str = ""
    right: bool | None = None


@dataclass(frozen=True)
class Trial:
    """What is tried, and where."""

    recipe: Recipe
    machine: Machine
    runtime: RuntimeConfig
    model: ModelConfig
    folder: Path

    @property
    def device(self) -> torch.device:
        return torch.device(self.runtime.device)

    @property
    def cuda(self) -> bool:
        return self.runtime.device == "cuda"

    @property
    def bound(self) -> float:
        """Of an error's share of the largest number, by the rounding of the dtype."""
        return 0.03 if self.runtime.dtype == "bfloat16" else 1e-4


def bench_gpu(device: Device, recipe: str | None = None) -> Iterator[Row]:
    """Try everything that this device can do; without a recipe, `spark` on CUDA and `pocket`
    elsewhere.
    """
    chosen = load_recipe(recipe or ("spark" if device == "cuda" else "pocket"))
    machine, model = detect(device=device), chosen.model.resolve(chosen.tokenizer.vocab_size)
    said: list[str] = []
    runtime = choose_runtime(chosen.machine, machine, model, 1_000_000, said.append)
    with tempfile.TemporaryDirectory(prefix="chatling-bench-") as folder:
        trial = Trial(chosen, machine, runtime, model, Path(folder))
        for name, part in PARTS.items():
            try:
                yield from part(trial)
            except Exception as error:  # a driver's, a compiler's, of whatever kind
                what = (str(error) or type(error).__name__).splitlines()[0]
                yield Row(name, f"{type(error).__name__}: {what[:200]}", "no error", False)
        yield from (Row("attention kernel", each) for each in said)


def show_rows(rows: Iterator[Row], *, json: bool = False) -> None:
    """Print each row when it is known, what is not as expected in red; in the end, how many."""
    console, seen = Console(), []
    for row in rows:
        seen.append(row)
        if not json:
            mark, style = {True: ("ok", "green"), False: ("NO", "bold red"), None: ("", "")}[
                row.right
            ]
            console.print(f"{mark:2}", style=style, end=" ")
            expected = f"   (expected: {row.expected})" if row.expected else ""
            console.print(
                f"{row.part}: {row.seen}{expected}", highlight=False, markup=False, soft_wrap=True
            )
    if json:
        print(jsonlib.dumps([asdict(row) for row in seen], indent=1))
        return
    wrong = [row.part for row in seen if row.right is False]
    console.print(
        f"Not as expected: {', '.join(wrong)}." if wrong else "All as expected.", style="bold"
    )


def _machine(trial: Trial) -> Iterator[Row]:
    machine = trial.machine
    yield Row(
        "machine",
        f"{machine.name}, PyTorch {torch.__version__}, {machine.memory / 1e9:.0f} GB,"
        f" {machine.tflops:.3g} TFLOP/s in {trial.runtime.dtype}",
    )
    if trial.cuda:
        major, minor = torch.cuda.get_device_capability()
        known = torch.cuda.get_arch_list()
        right = any(arch in known for arch in (f"sm_{major}{m}" for m in range(minor + 1)))
        yield Row("architecture", f"sm_{major}{minor}", f"among {', '.join(known)}", right)


def _attention(trial: Trial) -> Iterator[Row]:
    """Each kernel against plain attention in fp32, outputs and gradients."""
    for kernel in ("sdpa", "flex", "flash") if trial.cuda else ("sdpa",):
        for width in (64, 128, 256):
            error = max(_attention_error(trial, kernel, width, window) for window in (0, 256))
            seen = f"differs by {error:.1e} from plain attention in fp32"
            yield Row(f"{kernel}, {width} wide", seen, f"< {trial.bound:g}", error < trial.bound)


def _attention_error(trial: Trial, kernel: Kernel, width: int, window: int) -> float:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 512, 2, width, generator=generator) for _ in range(3)]
    run = torch.compile(attend, dynamic=False) if kernel == "flex" else attend
    wanted = kernel_results("plain", [each.to(trial.device) for each in inputs], window)
    rounded = [each.to(trial.device, trial.runtime.torch_dtype) for each in inputs]
    return largest_error(kernel_results(kernel, rounded, window, run), wanted)


def _loss(trial: Trial) -> Iterator[Row]:
    """The chunked loss and its gradients against those of all logits at once, in fp32."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 2048, 256, generator=generator)
    weight = torch.randn(8192, 256, generator=generator) / 16
    targets = torch.randint(0, 8192, (2, 2048), generator=generator).to(trial.device)
    h, w = (each.to(trial.device).requires_grad_() for each in (hidden, weight))
    next_token_loss(h.to(trial.runtime.torch_dtype), w, targets, 15.0)[0].backward()
    found = [each.grad for each in (h, w) if each.grad is not None]
    h, w = (each.to(trial.device).requires_grad_() for each in (hidden, weight))
    logits = 15.0 * torch.tanh((h.flatten(0, 1) @ w.T) / 15.0)
    torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum").backward()
    error = largest_error(found, [each.grad for each in (h, w) if each.grad is not None])
    seen = f"gradients differ by {error:.1e} from those of all logits at once"
    yield Row("loss", seen, f"< {trial.bound:g}", error < trial.bound)


def _pocket(trial: Trial) -> Iterator[Row]:
    """The command itself: compiled and not, and stopped twice."""
    compiled = "on" if trial.machine.compiler else "off"
    losses, stopped = {}, 0
    for name, how in (("through", compiled), ("stopped", compiled), ("eager", "off")):
        begun = time.perf_counter()
        stopped += _train(trial, name, how, STOPS if name == "stopped" else 0)
        losses[name] = _last_loss(trial, name)
        took = time.perf_counter() - begun
        seen = f"{POCKET_STEPS} steps of base in {took:.0f} s, validation loss {losses[name]:.4f}"
        yield Row(f"pocket, {name}", seen)
    away = abs(losses["through"] - losses["eager"])
    yield Row("compiled against eager", f"the loss differs by {away:.4f}", "< 0.02", away < 0.02)
    one, other = (_weights(trial, name) for name in ("through", "stopped"))
    seen = "the same bits" if one == other else "other bits"
    expected = f"the same bits after {STOPS} stops"
    yield Row(
        "resume", f"{seen} after {stopped} stops", expected, one == other and stopped == STOPS
    )


def _train(trial: Trial, name: str, compiled: str, stops: int) -> int:
    """Run the base stage of pocket, interrupted so many times if it lasts; returns how often it
    was.
    """
    done, log = 0, trial.folder / "runs" / name / "base" / "metrics.jsonl"
    while True:
        process = _command(trial, name, "--machine.compile", compiled)
        at = POCKET_STEPS * (done + 1) // (stops + 1)
        while done < stops and process.poll() is None and len(read_metrics(log)) < at:
            time.sleep(0.05)
        if done < stops and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        said = process.communicate()[0]
        if process.returncode == 0:
            return done
        if process.returncode != 75:
            raise RuntimeError(said.strip().splitlines()[-1] if said.strip() else "it died")
        done += 1


def _command(trial: Trial, name: str, *words: str) -> subprocess.Popen[str]:
    recipe = trial.folder / "base.toml"
    recipe.write_text(BASE_ONLY)
    command = [sys.executable, "-m", "chatling", "run", str(recipe), "--run", name]
    command += ["--base.steps", str(POCKET_STEPS), "--machine.device", trial.runtime.device]
    return subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "CHATLING_HOME": str(trial.folder)},
    )


def _last_loss(trial: Trial, name: str) -> float:
    lines = read_metrics(trial.folder / "runs" / name / "base" / "metrics.jsonl")
    return next(float(line["val_loss"]) for line in reversed(lines) if "val_loss" in line)


def _weights(trial: Trial, name: str) -> bytes:
    return (trial.folder / "runs" / name / "base" / "model" / MODEL).read_bytes()


def _step(trial: Trial) -> Iterator[Row]:
    """Speed and memory of the recipe's own step: two micro-batches."""
    rows = rows_of_a_rank(trial.recipe, trial.model, trial.machine)
    if trial.cuda:
        torch.cuda.reset_peak_memory_stats()
    step, _, micro = training_step(trial.recipe.model, trial.model, trial.runtime, 2 * rows)
    first = seconds(step, trial.device)
    speed = 2 * rows * trial.model.context / median_seconds(step, trial.device, repeats=3)
    rate = flops_per_token(trial.model) * speed / 1e12
    of = f"{rate / trial.machine.tflops:.0%} of what matrix products reach"
    yield Row(
        f"step of {trial.recipe.name}",
        f"{speed:,.0f} tokens/s, {rate:.3g} TFLOP/s, {of}; {micro} rows at a time; the first step"
        f" took {first:.0f} s",
    )
    if (key := _chip(trial.machine.name)) is not None and trial.cuda:
        reached = rate / chips()[key].peak
        public = share(key, windows=bool(trial.model.windows), fp8=False)
        yield Row("MFU", f"{reached:.1%}", f"{public:.0%} by published runs", reached > public)
    if trial.cuda:
        peak = torch.cuda.max_memory_allocated()
        planned = sum(plan(trial.recipe, micro_rows=micro).memory.values())
        seen, expected = f"{peak / 1e9:.2f} GB", f"{planned / 1e9:.2f} GB ± 5 %"
        yield Row("peak memory", seen, expected, abs(peak / planned - 1) < 0.05)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        yield Row("waiting for the device", "nowhere in a step", "nowhere", True)


def _chip(name: str) -> str | None:
    """The chip of machines.toml that a device's name is one of."""
    words = name.lower().replace("gb10", "spark").replace(" ", "")
    return next((key for key in sorted(chips(), key=len, reverse=True) if key in words), None)


def _shapes(trial: Trial) -> Iterator[Row]:
    """Lengths of SFT's batches, each compiled once."""
    if not trial.runtime.compile:
        return
    from torch._dynamo.utils import counters

    model = GPT(
        trial.model, compute_dtype=trial.runtime.torch_dtype, kernel=trial.runtime.kernel
    ).to(trial.device)
    model.compile_training()
    longest = trial.model.context
    lengths = sorted({max(32, longest // part) for part in (1, 2, 3, 4)})

    def train() -> int:
        before = counters["stats"]["unique_graphs"]
        for length in lengths:
            ids = torch.zeros(2, length, dtype=torch.int64, device=trial.device)
            model.loss(ids, ids)[0].backward()
        return counters["stats"]["unique_graphs"] - before

    begun = time.perf_counter()
    graphs = train()
    each = (time.perf_counter() - begun) / len(lengths)
    yield Row("a new length in SFT", f"{each:.1f} s, {graphs / len(lengths):.1f} graphs")
    again = train()
    yield Row("the same lengths again", f"{again} graphs", "none", again == 0)


def _decode(trial: Trial) -> Iterator[Row]:
    """Answers with CUDA graphs against those without; elsewhere one way alone."""
    vocab_size = trial.model.vocab_size
    model = random_model(trial.recipe.model, vocab_size, trial.runtime.device)
    sampling = SamplingParams(temperature=0.0, max_tokens=32)
    for rows in (1, 32):
        answers = {}
        for kind in ("graphs", "eager") if trial.cuda else ("eager",):
            engine = Engine(
                model,
                byte_tokenizer(vocab_size),
                max_batch_size=rows,
                dtype=trial.runtime.torch_dtype,
                compiled=kind == "graphs",
            )
            prompts = [Request((300, 301 + row, 40), sampling) for row in range(rows)]
            answers[kind] = [each.ids for each in engine.generate(prompts)]  # warms up, too
            spent = seconds(lambda e=engine, p=prompts: e.generate(p), trial.device)  # type: ignore[misc]
            yield Row(f"decode, {kind}, batch {rows}", f"{32 * rows / spent:,.0f} tokens/s")
        if trial.cuda:
            same = answers["graphs"] == answers["eager"]
            seen = "the same answers" if same else "other answers"
            yield Row(f"graphs against eager, batch {rows}", seen, "the same answers", same)


def _memory(trial: Trial) -> Iterator[Row]:
    """More than the GPU holds: a sentence, and the machine lives."""
    if not trial.cuda:
        return
    said, alive = "nothing", False
    try:
        with memory_errors(OutOfMemory("asking for twice the memory that there is")):
            torch.empty(2 * trial.machine.memory, dtype=torch.uint8, device="cuda")
    except OutOfMemory as error:
        said = error.what
    with suppress(RuntimeError):
        alive = bool((torch.ones(1000, device="cuda").sum() == 1000).item())
    right = said.startswith("Memory ran out") and alive
    yield Row("out of memory", said, "a sentence, and the device lives", right)


PARTS: dict[str, Callable[[Trial], Iterator[Row]]] = {
    "machine": _machine,
    "attention": _attention,
    "loss": _loss,
    "pocket": _pocket,
    "step": _step,
    "SFT's shapes": _shapes,
    "decode": _decode,
    "memory": _memory,
}
