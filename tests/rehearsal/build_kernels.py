"""The Triton kernels of a compiled block, forward and backward, or of the loss, built by Inductor
and Triton's own ptxas for a GPU that is not here. Run: python build_kernels.py LIBRARY, with a case
as JSON on standard input; a line of JSON for each kernel and configuration comes out.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}

import fake_cuda

fake_cuda.load(Path(sys.argv[1]))

import contextlib  # noqa: E402
import types  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any, cast  # noqa: E402

import cuda_kernels  # noqa: E402
import torch  # noqa: E402
import torch._functorch.config as functorch  # noqa: E402
import torch._inductor.async_compile as async_compile  # noqa: E402
import torch._inductor.config as inductor  # noqa: E402
import torch._inductor.fx_passes.joint_graph as joint_graph  # noqa: E402
import torch._inductor.fx_passes.pad_mm as pad_mm  # noqa: E402
import torch._inductor.output_code as output_code  # noqa: E402
import torch._inductor.runtime.triton_helpers as triton_helpers  # noqa: E402
import triton  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402

import chatling.model.attention as attention_module  # noqa: E402
from chatling.model.config import LOSS_ROWS, ModelRecipe  # noqa: E402
from chatling.model.gpt import GPT  # noqa: E402
from chatling.model.losses import softcapped_chunk  # noqa: E402

# by compute capability: name, processors, shared memory of a block, threads of a processor
GPUS = {90: ("H100", 132, 232_448, 2048), 121: ("GB10", 48, 101_376, 1536)}
ROWS, CONTEXT = 8, 2048


class Built(Exception):
    """All code is built and would run now."""


def pretend(capability: int) -> None:
    """Show torch and Triton a GPU of this compute capability."""
    name, processors, shared, threads = GPUS[capability]
    properties = types.SimpleNamespace(
        name=name,
        major=capability // 10,
        minor=capability % 10,
        multi_processor_count=processors,
        total_memory=80 << 30,
        shared_memory_per_block=49_152,
        shared_memory_per_block_optin=shared,
        shared_memory_per_multiprocessor=shared + 1024,
        regs_per_multiprocessor=65_536,
        max_threads_per_multi_processor=threads,
        max_threads_per_block=1024,
        warp_size=32,
        L2_cache_size=25 << 20,
        gcnArchName="",
    )
    answers: dict[str, Any] = {
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "is_current_stream_capturing": False,
        "device_count": 1,
        "current_device": 0,
        "get_device_properties": properties,
        "_get_device_properties": properties,
        "get_device_capability": divmod(capability, 10),
        "get_device_name": name,
        "get_arch_list": ["sm_90", "sm_120"],
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "current_stream": types.SimpleNamespace(cuda_stream=0),
        "stream": contextlib.nullcontext(),
        **dict.fromkeys(("_exchange_device", "_maybe_exchange_device"), 0),
        **dict.fromkeys(("_lazy_init", "set_device", "synchronize", "set_rng_state")),
    }
    raw: dict[str, Any] = {
        "_cuda_isCurrentStreamCapturing": False,
        "_cuda_getDeviceCount": 1,
        **dict.fromkeys(("_cuda_init", "_cuda_setDevice", "_cuda_synchronize")),
        **dict.fromkeys(
            (
                "_cuda_getDevice",
                "_cuda_getCurrentRawStream",
                "_cuda_exchangeDevice",
                "_cuda_maybeExchangeDevice",
            ),
            0,
        ),
    }
    for module, values in ((torch.cuda, answers), (torch._C, raw)):
        for attribute, value in values.items():
            setattr(module, attribute, lambda *args, value=value, **kwargs: value)
    for attribute in ("get_rng_state", "set_rng_state"):
        setattr(torch.cuda.random, attribute, getattr(torch.cuda, attribute))
    torch.cuda.graphs.is_current_stream_capturing = torch.cuda.is_current_stream_capturing
    torch._C._ensureCUDADeviceGuardSet()
    triton.runtime.driver.set_active(driver(capability))


def driver(capability: int) -> Any:
    """What Triton asks of a driver."""
    _, processors, shared, _ = GPUS[capability]
    facts = {"max_shared_mem": shared, "multiprocessor_count": processors, "sm_clock_rate": 1}
    facts |= {"mem_clock_rate": 1, "mem_bus_width": 1}
    target = GPUTarget("cuda", capability, 32)
    return types.SimpleNamespace(
        get_current_target=lambda: target,
        get_current_device=lambda: 0,
        get_active_torch_device=lambda: torch.device("cuda", 0),
        get_device_interface=lambda: torch.cuda,
        get_benchmarker=lambda: lambda *args, **kwargs: 1.0,
        is_active=lambda: True,
        utils=types.SimpleNamespace(get_device_properties=lambda device: facts),
    )


def build_at_once(self: Any, kernel_name: str, source_code: str, device_str: str = "cuda") -> Any:
    """Each configuration of a kernel, in place of Inductor's own choice among them."""
    kernel = async_compile._load_triton_kernel_from_source(kernel_name, source_code)
    for config in kernel.configs:
        found: dict[str, Any] = {"kernel": kernel_name, "config": str(config)}
        try:
            result = kernel._precompile_config(config)
            binary = getattr(result, "kernel", result)
            found |= {"shared": binary.metadata.shared, "bytes": len(binary.asm["cubin"])}
        except Exception as error:  # the compiler's, of whatever kind
            found["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(found), flush=True)
    return types.SimpleNamespace(run=lambda *args, **kwargs: None)


def stop(*args: Any) -> Any:
    raise Built


def without_launching() -> None:
    """Replace what Inductor would launch, at start or in the end."""
    async_compile.AsyncCompile.triton = build_at_once  # type: ignore[method-assign]
    triton_helpers.set_driver_to_gpu = lambda: None
    output_code.CompiledFxGraph.__call__ = stop  # type: ignore[method-assign]
    # patterns of attention and of matrices to pad are drawn from tensors on the GPU
    joint_graph.lazy_init = lambda *args: None  # type: ignore[assignment]
    pad_mm._pad_mm_init = lambda *args: None  # type: ignore[assignment]
    inductor.joint_graph_constant_folding = inductor.shape_padding = False
    inductor.compile_threads = 1
    inductor.use_static_triton_launcher = False
    # the backward pass, too, before anything runs
    functorch.force_non_lazy_backward_lowering = True
    attention_module.F = cuda_kernels.Functional  # type: ignore[assignment]


def block(preset: str, kernel: str, head_width: int) -> Callable[[], Any]:
    """The first block of a model, whose window is the smallest."""
    width = 6 * head_width
    recipe = ModelRecipe(preset, 4, width=width, head_width=head_width, context=CONTEXT)  # type: ignore[arg-type]
    model = GPT(recipe.resolve(32_768), compute_dtype=torch.bfloat16, kernel=kernel)  # type: ignore[arg-type]
    cuda_kernels._apply(model, lambda tensor: tensor.to("cuda"))
    cos, sin = (table[None, :, None].bfloat16() for table in (model.cos, model.sin))
    shape = (ROWS, CONTEXT, width)
    x = torch.zeros(shape, dtype=torch.bfloat16, device="cuda", requires_grad=True)
    first = cast(torch.nn.Module, model.layers[0])
    return lambda: torch.compile(first, dynamic=False)(x, cos, sin)


def loss(vocab_size: int = 65_536, width: int = 1280) -> Callable[[], Any]:
    """A chunk of the loss of `spark`."""
    hidden = torch.zeros(LOSS_ROWS, width, dtype=torch.bfloat16, device="cuda")
    weight = torch.zeros(vocab_size, width, dtype=torch.bfloat16, device="cuda")
    targets = torch.zeros(LOSS_ROWS, dtype=torch.int64, device="cuda")
    return lambda: torch.compile(softcapped_chunk, dynamic=False)(hidden, weight, targets, 15.0)


def main() -> None:
    case = json.load(sys.stdin)
    pretend(case.pop("capability"))
    without_launching()
    with FakeTensorMode(), contextlib.suppress(Built):
        (block(**case) if case else loss())()
        raise SystemExit("The code ran, which was not to be compiled only.")


if __name__ == "__main__":
    main()
