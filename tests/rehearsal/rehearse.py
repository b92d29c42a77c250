"""Whole steps of each stage on fake CUDA tensors: shapes, dtypes and devices without memory or
arithmetic. Run: python rehearse.py LIBRARY, with cases as a JSON list on standard input; a line of
JSON for each comes out.

A step that ends is a proof: fake tensors raise where devices are mixed, and wherever a value is
asked for (`.item()`, `nonzero`, a boolean index). What is read all the same is counted.
"""

import json
import sys
from pathlib import Path

import fake_cuda

fake_cuda.load(Path(sys.argv[1]))

import collections  # noqa: E402
import contextlib  # noqa: E402
import functools  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import types  # noqa: E402
import weakref  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any, cast  # noqa: E402
from unittest import mock  # noqa: E402

import cuda_kernels  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from chatling.bench.measure import byte_tokenizer  # noqa: E402
from chatling.config.recipe import Recipe, load_recipe  # noqa: E402
from chatling.config.stages import LoopConfig  # noqa: E402
from chatling.data.loaders import MicroBatch, Step  # noqa: E402
from chatling.data.preference_batches import PairBatch  # noqa: E402
from chatling.evals.bpb import score_tokens  # noqa: E402
from chatling.evals.loglikelihood import ModelScorer, Question  # noqa: E402
from chatling.hardware.distributed import DistContext  # noqa: E402
from chatling.inference import model_runner  # noqa: E402
from chatling.inference.engine import Engine, Request, SamplingParams  # noqa: E402
from chatling.inference.model_runner import ModelRunner, PromptBlock  # noqa: E402
from chatling.model.attention import attend  # noqa: E402
from chatling.model.config import ModelConfig  # noqa: E402
from chatling.model.gpt import GPT  # noqa: E402
from chatling.optim import param_groups  # noqa: E402
from chatling.optim.reduction import OverlappedReduction  # noqa: E402
from chatling.optim.schedule import Schedule  # noqa: E402
from chatling.pipeline.plan import plan  # noqa: E402
from chatling.train import checkpoint, dpo, rl  # noqa: E402
from chatling.train.context import Context, build  # noqa: E402
from chatling.train.pretrain import base_rates  # noqa: E402
from chatling.train.rollouts import AnchoredBatch, PolicyBatch  # noqa: E402
from chatling.train.runtime import GPU_MICRO_TOKENS, RuntimeConfig  # noqa: E402
from chatling.train.trainer import Trainer  # noqa: E402

CUDA = torch.device("cuda", 0)
BLOCK = 512  # bytes; what CUDA's allocator rounds to


class Memory(TorchDispatchMode):
    """Bytes of live storages on the GPU and their peak; copies to the host are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.copies: list[str] = []
        self.launches = 0  # of kernels: operations on the GPU that are no views

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.launches += not func.is_view and any(leaf.device.type == "cuda" for leaf in leaves)
        if any(leaf.device.type == "cpu" for leaf in leaves) and any(
            isinstance(leaf, Tensor) and leaf.device.type == "cuda"
            for leaf in tree_leaves((args, kwargs))
        ):
            self.copies.append(str(func))
        for leaf in leaves:
            if leaf.device.type == "cuda":
                self.note(leaf)
        return out

    def note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.seen:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self.seen[storage] = size
        self.live += size
        weakref.finalize(storage, self._free, size)
        self.peak = max(self.peak, self.live)

    def _free(self, size: int) -> None:
        self.live -= size


READS: collections.Counter[str] = collections.Counter()  # who asked for values of a GPU's tensor


def read(tensor: FakeTensor) -> Any:
    """`tolist` is counted by the function that asked; the loss and the norm are ones."""
    asker = sys._getframe(1).f_code.co_name
    READS[asker] += tensor.device.type == "cuda"
    return np.full(tensor.shape, float(asker == "_run")).tolist()


class Alone(DistContext):
    """A rank whose peers say what it says: plain data cannot pass through fake tensors."""

    def gather(self, value: Any) -> list[Any]:
        return [value] * self.size

    def broadcast_object(self, value: Any) -> Any:
        return value


class Silent:
    def start(self, stage: str, steps: int, done: int) -> None: ...
    def step(self, metrics: dict[str, Any]) -> None: ...
    def message(self, text: str) -> None: ...
    def activity(self, name: str, done: int = 0, total: int = 0) -> None: ...
    def samples(self, found: object) -> None: ...


class Steps:
    """The same micro-batch twice in each step."""

    def __init__(self, micro_batch: Any):
        self.micro_batch = micro_batch

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        while True:
            yield Step((self.micro_batch,) * 2, 1000, {}, "0:0", 1000)


@contextlib.contextmanager
def joined(rank: int, size: int) -> Iterator[DistContext]:
    """One rank of so many, whose collectives do nothing."""
    if size > 1:
        dist.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
    try:
        yield Alone(rank, size)
    finally:
        if size > 1:
            dist.destroy_process_group()


def opened(name: str, depth: int | None) -> tuple[Recipe, ModelConfig]:
    """A recipe, or its model with fewer layers of the same width."""
    recipe = load_recipe(name)
    if depth:
        width = recipe.model.resolve(recipe.tokenizer.vocab_size).width
        recipe = load_recipe(name, ["--model.depth", str(depth), "--model.width", str(width)])
    return recipe, recipe.model.resolve(recipe.tokenizer.vocab_size)


def micro_batch(stage: str, rows: int, context: int) -> Any:
    inputs, targets = np.zeros((rows, context), np.int32), np.zeros((rows, context), np.int64)
    targets[:, : context // 2] = -100  # the question
    places = np.flatnonzero(targets != -100)
    zeros = np.zeros(rows, np.float32)
    if stage == "dpo":
        return PairBatch(inputs, targets, zeros, places)
    if stage == "rl":
        return PolicyBatch(inputs, targets, zeros, places)
    if stage == "rl-anchored":
        each = np.zeros((rows, context), np.float32)
        return AnchoredBatch(inputs, targets, zeros, places, each, each)
    return MicroBatch(inputs, targets if stage == "sft" else np.zeros_like(targets))


def loss_of(stage: str, model: GPT, wrong: str | None) -> Any:
    """The loss of a stage; `wrong` puts a mistake in, to see that it is noticed."""
    if stage == "dpo":
        config = dpo.DPOConfig(data="none")

        def loss(inputs: Tensor, targets: Tensor, reference: Tensor, places: Tensor) -> Any:
            return dpo._loss(config, model.logprobs(inputs, targets, places), targets, reference)

        return loss
    if stage.startswith("rl"):
        anchored = {"clip": 0.2, "kl": 0.1} if stage == "rl-anchored" else {}
        return functools.partial(rl.policy_loss, model, rl.RLConfig(**anchored))
    if wrong is None:
        return model.loss
    mistake = MISTAKES[wrong]

    def with_mistake(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        value, count = model.loss(inputs, targets)
        return mistake(value, targets), count

    return with_mistake


MISTAKES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "item": lambda value, targets: value * (1 + value.detach().item()),
    "float": lambda value, targets: value * float(targets[0, 0]),
    "if": lambda value, targets: value if targets[0, 0] > 0 else 2 * value,
    "boolean index": lambda value, targets: value + targets[targets > 0].sum(),
    "nonzero": lambda value, targets: value + targets.nonzero().sum(),
    "cpu tensor": lambda value, targets: (value + torch.ones(2)).sum(),
    "cpu": lambda value, targets: value + value.detach().cpu().to(value.device),
    "tolist": lambda value, targets: value + sum(targets[0].tolist()),
}


def as_compiled(model: GPT) -> None:
    """Blocks as the compiler would cut them: what is kept for the backward pass is what its
    partitioner chose. The loss's chunk holds what the compiler's own code for it holds: logits and
    their gradient in the compute dtype, two intermediates in fp32.
    """
    for block in model.layers:
        block.compile(backend="aot_eager_decomp_partition", dynamic=False)

    def chunk(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float) -> Any:
        logits = hidden @ weight.T
        squashed, exponentials = (torch.empty_like(logits, dtype=torch.float32) for _ in range(2))
        gradient = torch.empty_like(logits)
        del logits, squashed, exponentials
        return targets.sum().float(), gradient @ weight, gradient

    model.loss_chunk = chunk


def training(
    recipe: str = "spark",
    stage: str = "base",
    size: int = 1,
    rank: int = 0,
    depth: int | None = None,
    rows: int | None = None,
    compiled: bool = False,
    wrong: str | None = None,
    kernel: str | None = None,
) -> dict[str, Any]:
    """A step of two micro-batches in the training loop itself, with both of its checkpoints."""
    chosen, config = opened(recipe, depth)
    rows = rows or max(1, min(chosen.machine.rows or 1 << 30, GPU_MICRO_TOKENS // config.context))
    kernel = kernel or ("flex" if config.windows else "sdpa")
    execution = RuntimeConfig("cuda", "bfloat16", kernel, False, 1, rows * config.context)  # type: ignore[arg-type]
    settings = base_rates(chosen.base, chosen.optim, config, chosen.model.preset)
    written: list[dict[str, Tensor]] = []

    def write(tensors: dict[str, Tensor], path: Path, metadata: Any = None) -> None:
        written.append(tensors)
        path.write_bytes(b"-")

    checkpoint.save_tensors = write  # type: ignore[assignment]
    found: dict[str, Any] = {}
    memory = Memory()
    with (
        tempfile.TemporaryDirectory() as folder,
        joined(rank, size) as world,
        FakeTensorMode(allow_non_fake_inputs=True),
        memory,
    ):
        context = Context(cast(Any, None), chosen, cast(Any, None), execution, world, Silent())
        model, optimizer = build(context, config, settings)
        if compiled:
            as_compiled(model)
        for tensor in (*model.parameters(), *model.buffers()):
            memory.note(tensor)
        found["masters"] = sorted({f"{p.dtype} {p.device.type}" for p in model.parameters()})
        trainer = Trainer(
            stage,
            Path(folder, "run", stage),
            model,
            optimizer,
            Schedule(1, 0, 0.0),
            Steps(micro_batch(stage, rows, config.context)),
            loss_of(stage, model, wrong),
            lambda: {},
            LoopConfig(),
            world,
            Silent(),
            prefetch=False,
        )
        save = trainer.checkpoints.save

        def saved(*arguments: Any) -> None:
            """Saving copies to the host, which a step must not."""
            found["copies"] = [*found.get("copies", []), *memory.copies]
            memory.copies.clear()
            found["step_peak"], memory.peak = memory.peak, memory.live
            before, reads = memory.live, dict(READS)
            save(*arguments)
            found["save_extra"], found["save_copies"] = memory.peak - before, len(memory.copies)
            assert reads == dict(READS)
            memory.copies.clear()

        trainer.checkpoints.save = saved  # type: ignore[method-assign]
        memory.copies.clear()
        memory.peak = memory.live
        trainer.fit()
        found["state"] = len(dict(optimizer.gathered()))
    found["reads"], found["files"] = dict(READS), len(written)
    found["written_on"] = sorted({t.device.type for tensors in written for t in tensors.values()})
    found["planned"] = sum(plan(chosen, micro_rows=rows).memory.values())
    return found


def on_gpu(recipe: str, depth: int) -> GPT:
    """A model in bf16, as inference and evaluations have it."""
    _, config = opened(recipe, depth)
    model = GPT(config, compute_dtype=torch.bfloat16)
    return model.to(device="cuda")  # type: ignore[no-any-return]


@contextlib.contextmanager
def graphs(memory: Memory) -> Iterator[None]:
    """CUDA graphs that record nothing: what is captured does not count as launched, a replay as one
    launch.
    """

    @contextlib.contextmanager
    def capturing(*args: Any, **kwargs: Any) -> Iterator[None]:
        before = memory.launches
        yield
        memory.launches = before

    class Graph:
        def replay(self) -> None:
            memory.launches += 1

    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    stand_ins: dict[str, Any] = {
        "CUDAGraph": Graph,
        "graph": capturing,
        "graph_pool_handle": lambda: (0, 0),
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "device": lambda device: contextlib.nullcontext(),
    }
    with contextlib.ExitStack() as stack:
        for name, value in stand_ins.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        yield


def answering(recipe: str, depth: int, width: int, temperature: float, compiled: bool) -> Any:
    """The engine's second and third decoding step, as CUDA graphs and without."""
    memory = Memory()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), graphs(memory):
        model = on_gpu(recipe, depth)
        tokenizer = byte_tokenizer(model.config.vocab_size)
        engine = Engine(model, tokenizer, max_batch_size=width, compiled=compiled)
        engine.runner.__dict__["widths"] = [width]
        sampling = SamplingParams(temperature=temperature, top_k=50, max_tokens=9)
        for row in range(width):
            engine.submit(Request((300, 301 + row), sampling))
        with memory:
            while not engine.scheduler.decoding():
                engine.step()
            engine.step()
            launches, copies = memory.launches, len(memory.copies)
            READS.clear()
            engine.step()
            return {
                "launches": memory.launches - launches,
                "copies": len(memory.copies) - copies,
                "reads": dict(READS),
            }


def decoding(recipe: str, depth: int, width: int) -> dict[str, Any]:
    """Blocks of prompts, then a step of so many rows."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        runner = ModelRunner(
            on_gpu(recipe, depth),
            max_batch_size=width,
            context=2048,
            dtype=torch.bfloat16,
            compiled=False,
        )
        memory = Memory()
        with memory:
            runner.prefill([PromptBlock((1, 2, 3), 0, 0, -1), PromptBlock((4,) * 32, 1, 32, 5)])
            logits, _ = runner.decode([(1, 2, 3, 1)] * width, 100)
    found = {"copies": memory.copies, "reads": dict(READS)}
    return found | {"logits": list(logits.shape), "on": logits.device.type}


def scoring(recipe: str, depth: int) -> dict[str, Any]:
    """A CORE question with four endings and one with a single one; a validation batch."""
    rng = np.random.default_rng(0)
    beginning, *endings = (rng.integers(0, 250, size) for size in (600, 5, 6, 7, 8))
    choices = tuple(np.concatenate((beginning, ending)) for ending in endings)
    questions = [Question(choices, (600,) * 4), Question((beginning,), (590,))]
    memory = Memory()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = on_gpu(recipe, depth)
        with memory:
            scores = ModelScorer(model).score(questions)
            copies = len(memory.copies)
            ids = torch.zeros(8, model.config.context, dtype=torch.int64, device="cuda")
            lengths = torch.zeros(model.config.vocab_size, dtype=torch.int64, device="cuda")
            score_tokens(model, [(ids, ids)] * 3, lengths, DistContext())
    found = {"scores": [len(each) for each in scores], "copies": copies}
    return found | {"validation_copies": len(memory.copies) - copies, "reads": dict(READS)}


def masked(kv_heads: int) -> dict[str, Any]:
    """Attention over windows, forward and backward: bytes beside queries, keys and values."""
    memory = Memory()
    with FakeTensorMode(allow_non_fake_inputs=True), memory:
        q, k, v = (
            torch.empty(2, 4096, heads, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            for heads in (8, kv_heads, kv_heads)
        )
        attend(q, k, v, 1024, "sdpa").sum().backward()
    return {"peak": memory.peak, "scores": 4 * 2 * 8 * 4096 * 4096}


def not_beside(*arguments: Any, **options: Any) -> OverlappedReduction:
    """Gradients are summed after the backward pass: another thread would know of no fake tensors,
    and nothing here has streams.
    """
    return OverlappedReduction(*arguments, **options | {"beside": False})


param_groups.OverlappedReduction = not_beside  # type: ignore[misc, assignment]


def main() -> None:
    cuda_kernels.install()
    torch.cuda.set_device = lambda device: None  # type: ignore[assignment]
    FakeTensor.tolist = read  # type: ignore[method-assign, assignment]
    FakeTensor.numpy = lambda tensor: np.zeros(tensor.shape)  # type: ignore[method-assign, assignment]
    model_runner.device_memory = lambda device: (80 << 30, False)  # type: ignore[assignment]
    Tensor.pin_memory = lambda tensor: tensor  # type: ignore[method-assign, assignment]
    for case in json.load(sys.stdin):
        begun = time.process_time()
        READS.clear()
        kind = case.pop("kind")
        try:
            found = CASES[kind](**case)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [
                f"{Path(f.filename).name}:{f.lineno} {f.line}"
                for f in frames
                if "chatling" in f.filename
            ]
            found = {"error": f"{type(error).__name__}: {error}", "at": ours[-1:]}
        print(json.dumps({"seconds": round(time.process_time() - begun, 1), **found}), flush=True)


CASES = {
    "training": training,
    "decoding": decoding,
    "answering": answering,
    "scoring": scoring,
    "masked": masked,
}

if __name__ == "__main__":
    main()
