"""A whole training step beside its own matrix products, timed alone in the same process and dtype;
and the memory of the loss.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from chatling.bench.measure import SMALL, Rows, figure, seconds
from chatling.config.recipe import Recipe
from chatling.config.stages import MachineConfig
from chatling.hardware.detect import detect
from chatling.hardware.distributed import DistContext
from chatling.model.config import ModelConfig, ModelRecipe, flops_per_token
from chatling.model.gpt import GPT
from chatling.model.losses import next_token_loss
from chatling.optim.muon import MuonGroup
from chatling.optim.param_groups import OptimConfig, Optimizer, resolve_optim
from chatling.train.runtime import RuntimeConfig, choose_runtime


@dataclass(frozen=True)
class Product:
    """A batched matrix product (batch, m, k) @ (batch, k, n) that a step does `count` times."""

    name: str
    batch: int
    m: int
    k: int
    n: int
    count: int

    def __str__(self) -> str:
        sizes = (self.count, self.batch, self.m, self.k, self.n)
        return f"{self.name} ({' x '.join(map(str, sizes))})"


def step_products(config: ModelConfig, rows: int, micro_rows: int) -> list[Product]:
    """Every matrix product of a step's forward and backward: the matrices', the head's, the
    attention's over the full square.
    """
    c, tokens, times = config, micro_rows * config.context, rows // micro_rows
    shapes = [
        ("q and o", c.width, c.width, 2 * c.depth),
        ("k and v", c.width, c.kv_heads * c.head_width, 2 * c.depth),
        ("mlp up", c.width, c.mlp_width, c.depth),
        ("mlp down", c.mlp_width, c.width, c.depth),
        ("head", c.width, c.vocab_size, 1),
    ]
    products = []
    for name, inputs, outputs, count in shapes:
        sizes = {
            "forward": (tokens, inputs, outputs),
            "to input": (tokens, outputs, inputs),
            "to weight": (outputs, tokens, inputs),
        }
        products += [
            Product(f"{name}, {what}", 1, *size, count * times) for what, size in sizes.items()
        ]
    heads, length, twice = micro_rows * c.heads, c.context, 2 * c.depth * times
    scores = Product("attention, scores and the like", heads, length, c.head_width, length, twice)
    values = Product(
        "attention, values and the like", heads, length, length, c.head_width, 2 * twice
    )
    return [*products, scores, values]


def optimizer_products(optimizer: Optimizer) -> list[Product]:
    """Muon's five orthogonalisation rounds: X X', its square, and their product with X."""
    products = []
    for group in optimizer.groups:
        if isinstance(group, MuonGroup):
            count = len(group.parameters)
            short, long = sorted(group.parameters[0].shape)
            sizes = {
                "gram": (short, long, short),
                "square": (short, short, short),
                "apply": (short, short, long),
            }
            products += [
                Product(f"muon {short} x {long}, {what}", count, *size, 5)
                for what, size in sizes.items()
            ]
    return products


def time_product(product: Product, dtype: torch.dtype, device: torch.device) -> float:
    """Seconds for all `count` of them, from the median of five."""
    a = torch.randn(product.batch, product.m, product.k, device=device).to(dtype).squeeze(0)
    b = torch.randn(product.batch, product.k, product.n, device=device).to(dtype).squeeze(0)
    return product.count * median_seconds(lambda: a @ b, device)


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median wall time of `work` after two warm-up calls."""
    return statistics.median([seconds(work, device) for _ in range(repeats + 2)][2:])


def measure_training(
    recipe: ModelRecipe = SMALL,
    vocab_size: int = 8192,
    rows: int = 16,
    machine: MachineConfig | None = None,
) -> Rows:
    """The step of a depth-4 model, width 256, context 512, 16 rows by default, set up as a run on
    this machine would be.
    """
    config = recipe.resolve(vocab_size)
    execution = as_a_run(config, machine or MachineConfig())
    device, dtype = torch.device(execution.device), execution.torch_dtype
    step, optimizer, micro = training_step(recipe, config, execution, rows)
    compile_seconds = seconds(step)
    step_seconds = median_seconds(step, device, repeats=7)
    products, updates = step_products(config, rows, micro), optimizer_products(optimizer)
    alone = [time_product(product, dtype, device) for product in products]
    with_optimizer = alone + [time_product(product, dtype, device) for product in updates]
    speed = rows * config.context / step_seconds
    compiled = "compiled" if execution.compile else "eager"
    return [
        figure(f"training, {execution.dtype}, {execution.kernel}, {compiled}", speed, "tokens/s"),
        figure("training, one step", 1000 * step_seconds, "ms"),
        figure("training, first step (compilation)", compile_seconds, "s"),
        figure("training, model FLOPs", flops_per_token(config) * speed / 1e12, "TFLOP/s"),
        *(
            figure(f"  {product}", 1000 * time, "ms")
            for product, time in zip([*products, *updates], with_optimizer, strict=True)
        ),
        figure("training, its matrix products alone", 1000 * sum(alone), "ms"),
        figure("training, those and the optimizer's", 1000 * sum(with_optimizer), "ms"),
        figure("training, step / its matrix products", step_seconds / sum(alone), "x"),
        figure(
            "training, step / those and the optimizer's", step_seconds / sum(with_optimizer), "x"
        ),
    ]


def reached_flops(recipe: Recipe, tokens: int) -> float:
    """FLOPs a second of a training step of so many tokens, set up as a run on this machine is."""
    config = recipe.model.resolve(recipe.tokenizer.vocab_size)
    execution = as_a_run(config, recipe.machine)
    rows = max(1, tokens // config.context)
    step, _, _ = training_step(recipe.model, config, execution, rows)
    spent = median_seconds(step, torch.device(execution.device), repeats=7)
    return flops_per_token(config) * rows * config.context / spent


def as_a_run(config: ModelConfig, machine: MachineConfig) -> RuntimeConfig:
    """What a long run on this machine computes with, its threads set."""
    execution = choose_runtime(machine, detect(), config, steps=1_000_000)
    if execution.device == "cpu":
        torch.set_num_threads(execution.threads)
    return execution


def training_step(
    recipe: ModelRecipe, config: ModelConfig, execution: RuntimeConfig, rows: int
) -> tuple[Callable[[], None], Optimizer, int]:
    """A training step as the loop does it, its optimizer, and the rows of a micro-batch."""
    device = torch.device(execution.device)
    model = GPT(config, compute_dtype=execution.torch_dtype, kernel=execution.kernel)
    model.initialize(torch.Generator().manual_seed(0))
    model.to(device)
    if execution.compile:
        model.compile_training()
    rates = resolve_optim(OptimConfig(), recipe.preset, config.width, rows * config.context, 1, 0)
    optimizer = Optimizer(model, rates, DistContext(), execution.torch_dtype)
    micro = execution.micro_rows(config.context, rows)
    ids = torch.randint(
        0, config.vocab_size, (rows, config.context + 1), generator=torch.Generator().manual_seed(1)
    ).to(device)
    inputs, targets = ids[:, :-1].int().contiguous(), ids[:, 1:].contiguous()
    count = targets.numel()

    def step() -> None:
        for part in range(0, rows, micro):
            loss, _ = model.loss(inputs[part : part + micro], targets[part : part + micro])
            (loss / count).backward()
        norm = optimizer.reduce_gradients()
        optimizer.step(norm, 1.0, 0.95, 1.0)
        model.zero_grad(set_to_none=True)

    return step, optimizer, micro


def measure_loss_memory(
    vocab_size: int = 65_536, rows: int = 8, context: int = 2048, width: int = 64
) -> Rows:
    """Peak memory of the loss, forward and backward, chunked as in training and at once, by the
    allocator's own count.

    The width is small so that the logits dominate, as they do in a real model.
    """
    peaks = {}
    for name in ("chunked", "at once"):
        hidden = torch.randn(rows, context, width).requires_grad_()
        weight = torch.randn(vocab_size, width).requires_grad_()
        targets = torch.randint(0, vocab_size, (rows, context))

        def work(
            hidden: Tensor = hidden,
            weight: Tensor = weight,
            targets: Tensor = targets,
            chunked: bool = name == "chunked",
        ) -> None:
            if chunked:
                loss, _ = next_token_loss(hidden, weight, targets, 15.0)
            else:
                logits = 15.0 * torch.tanh((hidden.flatten(0, 1) @ weight.T) / 15.0)
                loss = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum")
            loss.backward()

        peaks[name] = peak_bytes(work)
    title = f"vocabulary {vocab_size:,}, {rows} x {context:,}"
    return [
        *(
            figure(f"loss memory, {name}, {title}", peak / 2**20, "MiB")
            for name, peak in peaks.items()
        ),
        figure("loss memory, chunked / at once", peaks["chunked"] / peaks["at once"], "x"),
    ]


def peak_bytes(work: Callable[[], None]) -> int:
    """Most bytes that torch's CPU allocator held for `work` above what it held before, from the
    profiler's allocation events.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = peak = 0
    events = [
        event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return int(peak)
