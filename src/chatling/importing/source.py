"""What is imported, whatever its format: a model and its tokenizer, held to each other."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from chatling.data.hub import REPOSITORY, Fetcher
from chatling.errors import ChatlingError, DataError
from chatling.export.hf import EXTRA
from chatling.export.source import Source
from chatling.files import foreign_entry, read_json
from chatling.importing import exported, nanochat
from chatling.model.config import ModelConfig
from chatling.model.gpt import GPT
from chatling.run_dir import STAGES, RunFolder, find_run
from chatling.train import adapter_files

# of a repository: what is read of it
WANTED = (
    r"model_\d+\.pt|meta_\d+\.json|tokenizer\.pkl|[^/]+\.safetensors"
    r"|(config|tokenizer|adapter_config)\.json"
)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def fingerprint(source: Source) -> str:
    """A sha256 of all that decides a model's answers, the same in every format."""
    digest = hashlib.sha256(source.tokenizer.fingerprint.encode())
    digest.update(json.dumps(source.model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(source.model.state_dict().items()):
        digest.update(f"\n{name} ".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_source(
    name: str, stage: str | None, note: Callable[[str], None], *, hub: bool = False
) -> Source:
    """A model from a folder, from a run, or from OWNER/NAME on the Hub; with `hub`, from there
    alone. `stage` is what it is taken for: of a run the stage to read, otherwise what the files
    say, or sft.

    Raises ChatlingError for what is there in none of the formats, or is not whole.
    """
    folder = Path(name).expanduser()
    if hub or not folder.is_dir():
        if not hub and (run := find_run(name)).joinpath("state.json").exists():
            folder = run
        elif "/" in name and REPOSITORY.fullmatch(name):
            folder = fetch(name, note)
        elif hub:
            raise DataError(f"{name!r} is no name on the Hub.", "They look like OWNER/NAME.")
        else:
            raise DataError(
                f"There is no folder and no run {name!r}.",
                "Name one of these, or OWNER/NAME on the Hub.",
            )
    if fault := foreign_entry(folder):
        raise DataError(f"{folder} is not read: {fault}.", "Put the file itself there.")
    if (folder / "state.json").exists():
        opened = RunFolder.open(folder.absolute())
        return Source.of(opened, opened.finished_stage(stage))
    return _read(folder, stage or _stage(folder), note)


def fetch(repo: str, note: Callable[[str], None]) -> Path:
    """The folder in the cache with a repository's model. Raises DataError, MachineError."""
    fetcher = Fetcher(note=note, models=True)
    names = [name for name in fetcher.names(repo) if re.fullmatch(WANTED, name)]
    if not names:
        raise DataError(
            f"{repo} holds no model that chatling reads.",
            "It reads its own exports (hf, mlx) and nanochat's checkpoints.",
        )
    folder = fetcher.paths(repo, names)[0].parent
    for path in folder.iterdir():  # of an earlier commit
        if path.name not in names:
            path.unlink()
    return folder


def _stage(folder: Path) -> str:
    """What an export says that its model is."""
    path = folder / "config.json"
    found = read_json(path) if path.exists() else None
    facts = found.get(EXTRA) if isinstance(found, dict) else None
    stage = facts.get("stage") if isinstance(facts, dict) else None
    return stage if stage in STAGES else "sft"


def _read(folder: Path, stage: str, note: Callable[[str], None]) -> Source:
    if (folder / adapter_files.CONFIG).exists():
        return _read_adapted(folder, stage, note)
    if any(folder.glob("model_*.pt")):
        config, tensors = nanochat.read_model(folder)
        places = (folder, folder.absolute().parent.parent / "tokenizer")  # as nanochat lays it out
        found = [place / "tokenizer.pkl" for place in places if (place / "tokenizer.pkl").exists()]
        if not found:
            raise DataError(f"{folder} has no tokenizer.pkl.", "Put that of the model beside it.")
        tokenizer = nanochat.read_tokenizer(found[0])
    elif (folder / "config.json").exists():
        config, tensors = exported.read_model(folder)
        tokenizer = exported.read_tokenizer(folder)
    else:
        raise DataError(
            f"{folder} holds no model that chatling reads.",
            "It reads a folder with config.json and safetensors, or with nanochat's model_*.pt.",
        )
    if tokenizer.vocab_size != config.vocab_size:
        raise DataError(
            f"The model in {folder} has {config.vocab_size:,} tokens, its tokenizer"
            f" {tokenizer.vocab_size:,}."
        )
    return Source(_model(folder, config, tensors), tokenizer, folder.name, stage)


def _read_adapted(folder: Path, stage: str, note: Callable[[str], None]) -> Source:
    """Adapters with the model that they name."""
    name = adapter_files.adapter_base(folder)
    path = Path(name).expanduser()
    if (path / adapter_files.CONFIG).exists():
        raise DataError(f"{folder} names {name}, which holds adapters itself.")
    try:
        base = read_source(name, None, note)
    except ChatlingError as error:
        what = f"The model below the adapters in {folder} is not there: {error.what}"
        raise DataError(
            what,
            f"Export it there (`chatling export RUN hf --stage base`), or write where it is as"
            f" {adapter_files.BASE} in {adapter_files.CONFIG}.",
        ) from None
    adapter_files.add_adapter(base.model, folder)
    return Source(base.model, base.tokenizer, folder.name, stage)


def _model(folder: Path, config: ModelConfig, tensors: dict[str, Tensor]) -> GPT:
    """The model, after its tensors were held to its shape: nothing is allocated before that."""
    what = f"The weights in {folder} are not of the model that is described there"
    if config.depth > len(tensors):
        raise DataError(f"{what}: {len(tensors)} tensors, {config.depth:,} layers.")
    with torch.device("meta"):
        expected = {name: tuple(t.shape) for name, t in GPT(config).state_dict().items()}
    if odd := sorted(expected.keys() ^ tensors.keys()):
        raise DataError(f"{what}: {odd[0]} is only in one of them.")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name] or tensor.dtype not in DTYPES:
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise DataError(f"{what}: {name} is {found}, expected {list(expected[name])}.")
        if not tensor.isfinite().all():
            raise DataError(f"{what}: {name} holds numbers that are not finite.")
    model = GPT(config)
    model.load_state_dict(tensors)
    return model.eval()
