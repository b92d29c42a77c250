"""Which of a stage's metrics are drawn, in the report and on the dashboard."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Chart:
    """One chart: `metrics` gives each metric's label; `clip` lets a high beginning leave the
    picture, so that the rest can be seen. A chart without data is left out.

    Several runs in one chart are compared by the last of its metrics.
    """

    name: str
    title: str
    metrics: Mapping[str, str]
    clip: bool = False


LOSS = Chart(
    "loss",
    "Loss, nats a token",
    {"loss": "training", "val_loss": "validation"},
    clip=True,
)
BPB = Chart("bpb", "Bits per byte, validation", {"val_bpb": "bits per byte"})
ACCURACY = Chart("accuracy", "Token accuracy, validation", {"val_accuracy": "token accuracy"})
CORE = Chart("core", "CORE", {"core": "CORE"})
OPTIMIZATION = (
    Chart("rate", "Learning rate, share of its peak", {"rate": "share of the peak rate"}),
    Chart("gradient", "Gradient norm", {"gradient_norm": "norm"}, clip=True),
    Chart("speed", "Tokens a second", {"tokens_per_second": "tokens a second"}),
)
# What only the one who watches wants to see: it says nothing of the result.
MACHINE = (
    Chart(
        "memory",
        "Peak memory, GB",
        {"gpu_memory_gb": "GPU memory", "memory_gb": "memory of the process"},
    ),
    Chart("gpu", "Use of the GPU, percent", {"gpu_utilization": "use of the GPU"}),
)
