"""Which builds `make` installs, and that the pinned releases and the built wheel can be used."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLATFORMS = {
    "Linux x86-64": [f"manylinux_2_{glibc}_x86_64" for glibc in (31, 28, 17)],
    "Linux aarch64": [f"manylinux_2_{glibc}_aarch64" for glibc in (31, 28, 17)],
    "macOS arm64": ["macosx_14_0_arm64", "macosx_12_0_arm64", "macosx_11_0_arm64"],
}
CUDA = ("nvidia-", "cuda-", "triton")  # what PyTorch brings along for NVIDIA's GPUs


def installed(
    tmp_path: Path, programs: dict[str, str], *, index: bool = True
) -> tuple[str, list[str]]:
    """What `make` says, and what it asks pip for, on a machine with these programs."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    log = tmp_path / "log"
    refusal = "" if index else 'case "$*" in *pytorch.org*) exit 1;; esac'
    programs = {".venv/bin/python": f'echo "$*" >>{log}; {refusal}'} | {
        f"bin/{name}": text for name, text in programs.items()
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (tmp_path / ".venv/.created").touch()
    os.utime(tmp_path / ".venv/.created", (0, 2e9))
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["make", ".venv/.installed"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, log.read_text().splitlines()


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="has an NVIDIA GPU")
def test_without_a_gpu_the_build_for_processors_comes_first(tmp_path: Path) -> None:
    said, asked = installed(tmp_path, {"uname": "echo Linux"})
    assert "No NVIDIA GPU" in said
    assert len(asked) == 2
    assert asked[0].endswith("--index-url https://download.pytorch.org/whl/cpu torch")
    assert asked[1].endswith("--constraint constraints.txt --editable .")


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="has an NVIDIA GPU")
def test_where_pytorchs_index_cannot_be_had_pips_own_is_taken(tmp_path: Path) -> None:
    said, asked = installed(tmp_path, {"uname": "echo Linux"}, index=False)
    assert "cannot be had" in said
    assert len(asked) == 2
    assert "pytorch.org" not in asked[1]


@pytest.mark.parametrize(
    "programs", [{"uname": "echo Linux", "nvidia-smi": ":"}, {"uname": "echo Darwin"}]
)
def test_with_a_gpu_or_on_a_mac_the_usual_build_is_taken(
    programs: dict[str, str], tmp_path: Path
) -> None:
    said, asked = installed(tmp_path, programs)
    assert "NVIDIA" not in said
    assert len(asked) == 1
    assert "pytorch.org" not in asked[0]


def wait_until_ready(url: str, seconds: float = 120) -> None:
    """The address is printed before the model is loaded."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"{url} did not become ready")


def pip(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def required() -> list[str]:
    """`name==version` of everything that chatling needs on Linux, as pip resolves it."""
    found = pip(
        "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-",
        "--no-build-isolation", "--constraint", "constraints.txt", ".",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    items = [item["metadata"] for item in json.loads(found.stdout)["install"]]
    pins = [f"{item['name']}=={item['version'].partition('+')[0]}" for item in items]
    return [pin for pin in pins if not pin.startswith(("chatling==", "setuptools==", *CUDA))]


@pytest.mark.slow
def test_everything_required_is_pinned(required: list[str]) -> None:
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    normal = {re.sub(r"[-_.]+", "-", line).lower() for line in pinned}
    assert len(required) > 40
    assert {re.sub(r"[-_.]+", "-", pin).lower() for pin in required} <= normal


@pytest.mark.slow
def test_every_pinned_release_has_a_build(required: list[str], tmp_path: Path) -> None:
    """Metadata alone, one release after another: what an environment marker says of the platform
    would be read for this machine's.
    """

    def builds(platform: str, python: str, pins: list[str]) -> dict[str, str]:
        platforms = [word for name in PLATFORMS[platform] for word in ("--platform", name)]
        found = pip(
            "install", "--dry-run", "--quiet", "--no-deps", "--only-binary=:all:",
            "--ignore-installed", *platforms, "--python-version", python, "--target", str(tmp_path),
            "--report", "-", *pins,
        )  # fmt: skip
        assert found.returncode == 0, (platform, python, found.stderr)
        items = json.loads(found.stdout)["install"]
        return {pin: item["download_info"]["url"] for pin, item in zip(pins, items, strict=True)}

    for python in ("3.11", "3.12", "3.13"):
        urls = builds("Linux x86-64", python, required)
        # one that is for all platforms is here for the others, too
        own = [pin for pin, url in urls.items() if not url.endswith("-none-any.whl")]
        assert 10 < len(own) < len(required)
        builds("Linux aarch64", python, own)
        builds("macOS arm64", python, own)


@pytest.mark.slow
def test_the_built_wheel_trains_and_serves_outside_of_the_checkout(tmp_path: Path) -> None:
    built = pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), ".")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("chatling-*.whl")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    (packages,) = environment.glob("lib/python*/site-packages")
    # the large dependencies, but not their own .pth files: chatling itself comes from the wheel
    (packages / "borrowed.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    target = pip("install", "--no-deps", "--no-compile", "--target", str(packages), str(wheel))
    assert target.returncode == 0, target.stderr
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    variables |= {"CHATLING_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1"}

    def chatling(*words: str) -> list[str]:
        return [str(python), "-m", "chatling", *words]

    where = "import chatling; print(chatling.__file__)"
    found = subprocess.run(
        [python, "-c", where], cwd=tmp_path, env=variables, capture_output=True, text=True
    )
    assert Path(found.stdout.strip()).is_relative_to(environment), found.stdout + found.stderr
    tiny = "--model.depth 2 --model.width 32 --model.head-width 16 --model.context 64"
    tiny += " --tokenizer.vocab-size 400 --base.steps 3 --base.batch-tokens 512"
    tiny += " --base.validation-tokens 512 --machine.compile off --mid.mixture.0.count 40"
    tiny += " --sft.mixture.0.count 16 --sft.batch-conversations 8 --dpo.pairs 40"
    tiny += " --dpo.validation-pairs 8 --rl.steps 1 --rl.questions 8 --rl.questions-per-step 4"
    tiny += " --rl.samples 2 --rl.max-tokens 8 --rl.evaluate-questions 4 --eval.questions 2"
    run = subprocess.run(
        chatling("run", "pocket", *tiny.split()),
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    assert "Done in" in run.stdout
    server = subprocess.Popen(
        chatling("serve", "pocket", "--port", "0"),
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        url = address[0].rstrip("/")
        wait_until_ready(f"{url}/health")
        body = {
            "model": "pocket",
            "messages": [{"role": "user", "content": "Hello!"}],
            "max_tokens": 4,
        }
        request = urllib.request.Request(
            f"{url}/v1/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["choices"][0]["message"]["role"] == "assistant"
        with urllib.request.urlopen(f"{url}/", timeout=60) as page:
            assert "<html" in page.read().decode()
    finally:
        server.terminate()
        server.wait(30)
