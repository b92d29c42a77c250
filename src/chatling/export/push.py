"""A run's model on the Hub: one commit to a model repository, and one to a Space whose page
chats.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCardData,
    constants,
)
from huggingface_hub.errors import (
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from chatling.config.recipe import Recipe, from_toml, read_text
from chatling.data.http import HUB, NO_WAY, Explanations, RetryPolicy, explain, hub_token
from chatling.data.hub import hub_endpoint
from chatling.errors import DataError
from chatling.export import html, model_card
from chatling.export.formats import write_checked
from chatling.export.source import Source
from chatling.files import MANIFEST, building_folder, write_atomic
from chatling.report.collect import collect
from chatling.run_dir import RunFolder

Note = Callable[[str], None]
CARD = "README.md"
# what an earlier push may have left, and a later one takes away
OURS = ("model.safetensors", "model.gguf", "Modelfile", "*_chatling.py", "custom_generate/*.py")
WEIGHTS = ("*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pkl")
TOKEN = f"Make one that may write at {HUB}/settings/tokens, and put it into HF_TOKEN."
AGAIN = "The same command resumes: what has arrived is not sent again."
PUSH: Explanations = (
    *NO_WAY,
    (401, "The token is refused for {} (401).", TOKEN),
    (403, "The token may not write {} (403).", TOKEN),
    (RepositoryNotFoundError, "There is no {}, or the token may not see it.", TOKEN),
    *(
        (status, f"The server has no place for {{}} ({status}).", "A mirror may take no uploads.")
        for status in (404, 405)
    ),
    *((status, f"{{}} was changed meanwhile ({status}).", AGAIN) for status in (409, 412)),
    (Exception, "Could not push {}: {reason}.", AGAIN),
)
SPACE = """---
title: {name}
sdk: static
models:
- {repo}
---

`{name}` chats in the browser: the page holds the whole model, and nothing that is typed leaves it.
Made with chatling.
"""


def push(
    run: RunFolder,
    repo: str,
    *,
    public: bool = False,
    gguf: bool = False,
    space: bool = False,
    note: Note = print,
    pause: float = 1.0,
) -> None:
    """Put the most advanced model of a run on the Hub, private unless `public`; `gguf` adds a file
    for llama.cpp, `space` a page that chats. `pause` is the first wait in seconds after a failure.

    Nothing but the model's files goes there: no feedback, no state, no data. Raises ChatlingError.
    """
    try:
        validate_repo_id(repo if repo.count("/") == 1 else "")
    except HFValidationError:
        raise DataError(
            f"{repo!r} is no name of a repository.",
            "It looks like OWNER/NAME: letters, digits, '-', '_' and single '.', at most 96.",
        ) from None
    if constants.HF_HUB_OFFLINE:
        raise explain(OfflineModeIsEnabled(), f"model {repo}", PUSH)
    token = hub_token()
    if token is None:
        raise DataError("There is no token for the Hub.", TOKEN)
    stage = run.finished_stage()
    source, target = Source.of(run, stage), run.path / "exports" / f"{stage}-hub"
    folders = {"model": target}
    if space:
        folders["space"] = target.with_name(f"{stage}-space")
        _write_space(source, repo, folders["space"])
    _write_model(run, source, repo, target, ("gguf", "hf") if gguf else ("hf",), note)
    api, retry = HfApi(hub_endpoint(), token), RetryPolicy(pause, note, PUSH)
    with _transfer(api.endpoint, note):
        for kind, folder in folders.items():
            try:
                commit = partial(_commit, api, kind, repo, folder, public, f"{stage} model")
                note(retry.persist(commit, f"{kind} {repo}"))
            except (ValueError, LookupError, TypeError, RuntimeError, OSError) as error:
                told = " ".join(str(error).replace(token, "…").split())[:200]
                raise DataError(
                    f"Could not push {kind} {repo}: {type(error).__name__}: {told}.", AGAIN
                ) from None


def _write_model(
    run: RunFolder, source: Source, repo: str, target: Path, formats: tuple[str, ...], note: Note
) -> None:
    path = run.path / "recipe.toml"
    recipe = from_toml(Recipe, read_text(path), str(path)) if path.exists() else None
    with building_folder(target) as folder:
        found = {name: write_checked(source, name, folder) for name in formats}
        model_card.write(source, folder, repo, found, recipe, collect(run, ()))
    for line in (line for lines in found.values() for line in lines):
        note(line)


def _write_space(source: Source, repo: str, target: Path) -> None:
    with building_folder(target) as folder:
        write_checked(source, "html", folder)
        (folder / html.file_name(source)).rename(folder / "index.html")
        write_atomic(folder / CARD, SPACE.format(name=repo.partition("/")[2], repo=repo))


@contextlib.contextmanager
def _transfer(endpoint: str, note: Note) -> Iterator[None]:
    """Without Xet where a mirror is asked: the client would use it wherever it is installed."""
    before = constants.HF_HUB_DISABLE_XET
    if endpoint != HUB and not before:
        note("HF_ENDPOINT names a mirror: sent without Xet, which mirrors lack.")
        constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = before


def _commit(api: HfApi, kind: str, repo: str, folder: Path, public: bool, title: str) -> str:
    """What came of it, in a sentence. The repository is made where there is none, and public only
    when all is there.
    """
    sdk = "static" if kind == "space" else None
    api.create_repo(repo, repo_type=kind, private=True, exist_ok=True, space_sdk=sdk)
    info: Any = api.repo_info(repo, repo_type=kind)
    if not info.private and not public:
        raise DataError(f"The {kind} {repo} is public.", "Say so with --public, or name another.")
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    stale = {file.rfilename for file in info.siblings or ()} - files.keys()
    for name in sorted(stale):
        if _matches(name, WEIGHTS) and not _matches(name, OURS):
            raise DataError(
                f"The {kind} {repo} holds another model: {name}.", "Name another repository."
            )
    operations = [
        CommitOperationAdd(name, _card(path, info.card_data) if name == CARD else str(path))
        for name, path in files.items()
    ]
    gone = [CommitOperationDelete(name) for name in sorted(stale) if _matches(name, OURS)]
    try:
        made = api.create_commit(
            repo,
            [*operations, *gone],
            commit_message=title,
            repo_type=kind,
            parent_commit=info.sha,
        )
    except RuntimeError as error:  # around what went wrong with one file
        raise error.__cause__ or error from None
    if public and info.private:
        api.update_repo_settings(repo, private=False, repo_type=kind)
    what = (
        "Nothing has changed" if made.oid == info.sha else f"Pushed as one commit, {made.oid[:8]}"
    )
    place = f"{api.endpoint}/{'spaces/' if kind == 'space' else ''}{repo}"
    return f"{what}: {place} ({'public' if public else 'private'})"


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _card(path: Path, before: ModelCardData | None) -> bytes:
    """The card, with the license that was chosen on the Hub."""
    stated = before.to_dict() if before else {}
    chosen = {key: value for key, value in stated.items() if key.startswith("license")}
    header = f"---\n{ModelCardData(**chosen).to_yaml()}\n" if chosen else "---\n"
    return path.read_text(encoding="utf-8").replace("---\n", header, 1).encode()
