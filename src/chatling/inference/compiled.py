"""A decoding step as one compiled function: what the processor's compiler can do when weights and
shapes stay as they are.
"""

import types
from collections.abc import Callable
from typing import Any


def compiled_step(step: Callable[..., Any], *, frozen: bool, varies: int) -> Callable[..., Any]:
    """`step(*tensors)` compiled for the shapes it meets first; from then on called without checking
    that anything is as it was.

    The length of argument number `varies` may change from call to call. `frozen`: the weights that
    `step` reads never change, so that they are packed for the processor's kernels (a second copy).
    Otherwise they may change in place.
    """
    import torch._dynamo
    import torch._inductor.config as inductor

    # Compiled variants hang on a function's code. A code of its own keeps the unchecked ones of
    # other engines and widths away from it.
    own = types.FunctionType(
        step.__code__.replace(),
        step.__globals__,
        step.__name__,
        step.__defaults__,
        step.__closure__,
    )
    run = torch.compile(own, options={"guard_filter_fn": lambda guards: [False] * len(guards)})
    built = False

    def call(*tensors: Any) -> Any:
        nonlocal built
        if built:
            return run(*tensors)
        torch._dynamo.mark_dynamic(tensors[varies], 0)
        settings = {
            "freezing": frozen,
            "cpp_wrapper": True,
            "cpp.enable_concat_linear": True,
            "cpp.use_decompose_tanh": True,
        }
        with inductor.patch(
            settings
        ):  # the compiler reads them at the first call, `options` too late for freezing
            out = run(*tensors)
        built = True
        return out

    return call
