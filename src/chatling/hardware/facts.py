"""Facts of a machine, which `doctor` judges."""

import platform
from dataclasses import dataclass

from chatling.version import __version__


@dataclass(frozen=True)
class Facts:
    """What one machine is like. Sizes are in GB, rates in MB/s, times in seconds. None: it has no
    such thing, or nobody looked.
    """

    # what was to be tried and could not be
    failed: tuple[str, ...] | None = None
    # Python and its packages
    python: tuple[int, int] | None = None
    encoding: str | None = None
    translated: bool | None = None  # an x86 Python on Apple's processors
    old_packages: tuple[str, ...] | None = None
    torch: str | None = None
    # memory, processors, limits
    memory: float | None = None
    memory_available: float | None = None
    memory_free: float | None = None
    memory_limit: float | None = None  # the container's
    overcommit: int | None = None
    swap: float | None = None
    swap_used: float | None = None
    cores: int | None = None
    cores_online: int | None = None
    free_share: float | None = None
    compiler: str | None = None
    compiler_error: str | None = None
    open_files: float | None = None
    processes: float | None = None
    locked_memory: float | None = None
    shared_memory: float | None = None
    # disk
    home: str | None = None
    home_error: str | None = None  # why nothing can be written there
    filesystem: str | None = None
    case_sensitive: bool | None = None
    disk_free: float | None = None
    files_free: int | None = None
    disk_speed: float | None = None
    temp: str | None = None
    temp_error: str | None = None
    temp_executable: bool | None = None
    temp_free: float | None = None
    # power and system
    wsl: str | None = None
    sleeps: bool | None = None
    on_battery: bool | None = None
    reboot_required: bool | None = None
    # NVIDIA's and other GPUs, the worst of several
    nvidia_cards: int | None = None  # on the bus
    nouveau: bool | None = None
    nvidia_error: str | None = None
    gpu: str | None = None
    gpus: int | None = None
    gpu_kinds: int | None = None
    driver: int | None = None
    gpu_processes: int | None = None
    gpu_memory_used: float | None = None
    unified: bool | None = None
    temperature: float | None = None
    clock: float | None = None  # MHz, under load
    slowed: str | None = None
    ecc_errors: int | None = None
    link_width: int | None = None
    link_width_most: int | None = None
    mig: bool | None = None
    xid: tuple[str, ...] | None = None
    visible: str | None = None
    # what PyTorch makes of them
    torch_build: str | None = None  # "CUDA", "ROCm" or "CPU"
    torch_cuda: int | None = None
    cuda: bool | None = None
    capability: str | None = None
    architecture_built: bool | None = None
    triton_error: str | None = None
    amd_compute: bool | None = None  # /dev/kfd is there
    mps: bool | None = None
    bf16_error: str | None = None
    attention_error: str | None = None
    # network between nodes
    fast_ports: int | None = None
    fast_links: int | None = None
    half_links: tuple[str, ...] | None = None
    small_packets: tuple[str, ...] | None = None
    # the Hub or its mirror
    endpoint: str | None = None
    endpoint_error: str | None = None
    token: str | None = None  # what became of it, never itself
    clock_skew: float | None = None
    offline: bool | None = None
    # running what a model wrote
    sandbox: str | None = None
    sandbox_error: str | None = None

    def fingerprint(self) -> str:
        """What must be the same on all nodes of a run, in one line."""
        parts = (
            platform.machine(),
            f"chatling {__version__}",
            f"Python {platform.python_version()}",
            f"torch {self.torch}",
            f"CUDA {self.torch_cuda or 'none'}",
            f"driver {self.driver or 'none'}",
            f"{self.gpus or 0} x {self.gpu or 'no GPU'}",
        )
        return ", ".join(parts)
