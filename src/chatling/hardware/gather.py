"""The facts of this machine that can be read at once, from the system's files and its tools."""

import importlib.metadata
import json
import locale
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from chatling.hardware.ask import Output, output, read
from chatling.hardware.detect import find_compiler, has_compiler, memory_limit, usable_cores
from chatling.hardware.facts import Facts
from chatling.hardware.gpu_facts import cards, torch_facts

GB = 1e9


def gather(home: Path, root: Path = Path("/"), ask: Output = output) -> Facts:
    """What can be read at once, without measuring or launching anything. `home` is where runs are
    kept; `root` and `ask` replace the system's files and programs in tests.
    """
    return Facts(
        **_python(ask),
        **_memory(root),
        **_limits(root),
        **_disk(home, root),
        **_power(root, ask),
        **cards(root, ask),
        **torch_facts(),
        **_network(root, ask),
    )


def _python(ask: Output) -> dict[str, Any]:
    return {
        "python": sys.version_info[:2],
        "encoding": locale.getpreferredencoding(False).lower(),
        "translated": (ask("sysctl", "-n", "sysctl.proc_translated") or "").strip() == "1"
        if sys.platform == "darwin"
        else None,
        "old_packages": _old_packages(),
        "torch": torch.__version__,
    }


def _old_packages() -> tuple[str, ...] | None:
    """What is installed and older than this package says that it needs, or not there at all."""
    from packaging.requirements import Requirement

    try:
        needed = importlib.metadata.requires("chatling") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        return None
    found = []
    for each in map(Requirement, needed):
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(each.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{each.name} (missing)")
            continue
        if not each.specifier.contains(version, prereleases=True):
            found.append(f"{each.name} {version}")
    return tuple(found)


def _memory(root: Path) -> dict[str, Any]:
    lines = re.findall(r"^(\w+): +(\d+) kB", read(root / "proc/meminfo") or "", re.MULTILINE)
    sizes = {name: int(count) * 1024 / GB for name, count in lines}
    limit = memory_limit(root / "sys/fs/cgroup")
    overcommit = read(root / "proc/sys/vm/overcommit_memory")
    swap = sizes.get("SwapTotal")
    return {
        "memory": sizes.get("MemTotal"),
        "memory_available": sizes.get("MemAvailable"),
        "memory_free": sizes.get("MemFree"),
        "memory_limit": limit and limit / GB,
        "overcommit": int(overcommit) if overcommit else None,
        "swap": swap,
        "swap_used": None if swap is None else swap - sizes.get("SwapFree", 0.0),
    }


def _limits(root: Path) -> dict[str, Any]:
    def limit(kind: int) -> float:
        soft = resource.getrlimit(kind)[0]
        return float("inf") if soft == resource.RLIM_INFINITY else soft

    pids = read(root / "sys/fs/cgroup/pids.max") or "max"
    shared = root / "dev/shm"
    return {
        "cores": usable_cores(),
        "cores_online": os.cpu_count(),
        "compiler": find_compiler() if has_compiler() else "",
        "open_files": limit(resource.RLIMIT_NOFILE),
        "processes": min(
            limit(resource.RLIMIT_NPROC), float(pids) if pids.isdecimal() else float("inf")
        ),
        "locked_memory": limit(resource.RLIMIT_MEMLOCK) / GB,
        "shared_memory": shutil.disk_usage(shared).total / GB if shared.exists() else None,
    }


def _disk(home: Path, root: Path) -> dict[str, Any]:
    place = existing(home)
    status = os.statvfs(place)
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return _temporary() | {
        "home": str(home),
        "home_error": "" if writable else f"{place} is no folder that you may write to",
        "filesystem": _filesystem(place, root),
        "case_sensitive": _case_sensitive(place),
        "disk_free": status.f_bavail * status.f_frsize / GB,
        # file systems without a fixed number of files say 0 of 0
        "files_free": status.f_favail if status.f_files else None,
    }


def _temporary() -> dict[str, Any]:
    try:
        temp = tempfile.gettempdir()
    except OSError as error:  # none of the usual ones
        return {"temp": "", "temp_error": str(error)}
    status = os.statvfs(temp)
    return {
        "temp": temp,
        "temp_error": "",
        "temp_executable": not status.f_flag & getattr(os, "ST_NOEXEC", 8),
        "temp_free": status.f_bavail * status.f_frsize / GB,
    }


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _filesystem(path: Path, root: Path) -> str | None:
    """The type of the file system that holds a path."""
    found = []
    for line in (read(root / "proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        mounted = left.split()[4].replace("\\040", " ")
        if path.resolve().is_relative_to(mounted):
            found.append((mounted, right.split()[0]))
    # of mounts at one place the last one covers the others
    return max(reversed(found), key=lambda each: len(each[0]))[1] if found else None


def _case_sensitive(place: Path) -> bool | None:
    """Looked up by a name that is there already, so that nothing is written."""
    for each in (place, *place.parents):
        other = each.with_name(each.name.swapcase())
        if other.name != each.name:
            return not (other.exists() and other.samefile(each))
    return None


def _power(root: Path, ask: Output) -> dict[str, Any]:
    version = read(root / "proc/version") or ""
    supplies = [
        read(each.parent / "online")
        for each in sorted((root / "sys/class/power_supply").glob("*/type"))
        if read(each) == "Mains"
    ]
    return {
        "wsl": ("1" if "WSL2" not in version else "2") if "microsoft" in version.lower() else None,
        "sleeps": _sleeps(root, ask),
        "on_battery": "1" not in supplies if supplies else None,
        "reboot_required": (root / "var/run/reboot-required").exists(),
    }


def _sleeps(root: Path, ask: Output) -> bool | None:
    """Whether the system may suspend by itself: a desktop's, unless that was masked."""
    if sys.platform == "darwin":
        found = re.search(r"^\s*sleep\s+(\d+)", ask("pmset", "-g") or "", re.MULTILINE)
        return found[1] != "0" if found else None
    if not (root / "run/systemd/system").exists():
        return None
    desktop = (ask("systemctl", "get-default") or "").strip() == "graphical.target"
    masks = (ask("systemctl", "is-enabled", "sleep.target", "suspend.target") or "").split()
    return desktop and not all(mask.startswith("masked") for mask in masks)


def _network(root: Path, ask: Output) -> dict[str, Any]:
    """The ports of NVIDIA's fast network cards."""
    ports = [
        each.name
        for each in sorted((root / "sys/class/net").glob("*"))
        if (each / "device/driver").resolve().name == "mlx5_core"
    ]
    if not ports:
        return {}
    try:
        entries: list[Mapping[str, Any]] = json.loads(ask("ip", "-json", "address") or "[]")
    except ValueError:
        entries = []
    linked = [each for each in entries if each["ifname"] in ports and each["operstate"] == "UP"]
    return {
        "fast_ports": len(ports),
        "fast_links": len(linked),
        "half_links": tuple(_halves(linked, ports)),
        "small_packets": tuple(each["ifname"] for each in linked if each["mtu"] < 9000),
    }


def _halves(linked: list[Mapping[str, Any]], ports: list[str]) -> Iterator[str]:
    """Ports that have a link and whose other half has none, or no address. A socket of the DGX
    Spark shows as two ports whose names end alike (enp1s0f1np1 and enP2p1s0f1np1).
    """
    ready = {each["ifname"] for each in linked if each.get("addr_info")}

    def socket(name: str) -> str:
        found = re.search(r"f\d+np\d+$", name)
        return found[0] if found else name

    for name in sorted(each["ifname"] for each in linked):
        halves = {port for port in ports if socket(port) == socket(name)}
        if len(halves) > 1 and halves - ready:
            yield name
