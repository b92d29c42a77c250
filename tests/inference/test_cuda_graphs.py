"""Passes as CUDA graphs where there is no CUDA; tests/rehearsal counts their launches."""

import contextlib
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from chatling.inference.cuda_graphs import captured_step

CPU = torch.device("cpu")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A CUDA whose graphs are counted, and do nothing."""
    state = types.SimpleNamespace(captures=0, refuse=False)
    stream = types.SimpleNamespace(wait_stream=lambda other: None)

    class Graph:
        def __init__(self) -> None:
            if state.refuse:
                raise RuntimeError("operation not permitted when stream is capturing\nat line 3")
            state.captures += 1

        def replay(self) -> None: ...

    for name, value in {
        "CUDAGraph": Graph,
        "graph": lambda *args, **kwargs: contextlib.nullcontext(),
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "device": lambda device: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return state


def step(state: Tensor, columns: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    return state.sum() * columns.float(), (state + 1,)


def test_a_graph_for_each_extent(cuda: Any) -> None:
    run = captured_step(step, CPU, None)
    for extent in (64, 128, 64):
        out = run(torch.arange(8), torch.ones(extent))
    assert cuda.captures == 2
    assert out[1][0].tolist() == list(range(1, 9))


def test_what_is_returned_stays_in_place(cuda: Any) -> None:
    run = captured_step(step, CPU, None)
    first = run(torch.arange(8), torch.ones(64))
    assert run(torch.arange(8), torch.ones(64))[1][0] is first[1][0]


def test_where_graphs_are_refused_it_is_said_once(
    cuda: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.refuse = True
    run = captured_step(step, CPU, None)
    for start in (0, 5):
        state, columns = torch.arange(start, start + 8), torch.ones(64)
        assert run(state, columns)[0].equal(step(state, columns)[0])
    assert [record.getMessage() for record in caplog.records] == [
        "CUDA graphs cannot be used here, answers come slower:"
        " operation not permitted when stream is capturing"
    ]


def test_no_memory_is_no_reason_to_go_on(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", full)
    with pytest.raises(torch.OutOfMemoryError):
        captured_step(step, CPU, None)(torch.arange(8), torch.ones(64))
