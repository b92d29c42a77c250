"""`/api/runs/{name}/feedback`: what a person thinks of answers, kept in the run as the preference
pairs that `[dpo] data` reads. It stays on this machine; nothing else writes or sends it.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, model_validator

from chatling.data.preferences import Preference
from chatling.errors import DataError
from chatling.files import read_plain
from chatling.messages import Conversation, Message
from chatling.run_dir import RunFolder, waiting_lock, write_atomic
from chatling.serve import protocol, responses
from chatling.serve.errors import ApiError
from chatling.serve.faults import wrong
from chatling.serve.openai import ERRORS
from chatling.tokenizer.chat_template import merge_texts

MOST = 16 << 20  # bytes of either file
MARKS, PAIRS = "marks.jsonl", "pairs.jsonl"
Row = dict[str, Any]
router = APIRouter(prefix="/api/runs/{name}/feedback", responses=ERRORS)


class FeedbackRequest(protocol.Model):
    """One answer and its mark, or two answers and the place of the better one; null takes back what
    was said before.
    """

    prompt: Annotated[list[protocol.ChatMessage], Field(min_length=1)]
    answers: Annotated[list[protocol.Content], Field(min_length=1, max_length=2)]
    mark: Literal["good", "bad"] | None = None
    better: Literal[0, 1] | None = None

    @model_validator(mode="after")
    def _one_judgement(self) -> "FeedbackRequest":
        other = "better" if len(self.answers) == 1 else "mark"
        if getattr(self, other) is not None:
            raise wrong("one answer has a mark; of two, one is better", other)
        return self

    def judgement(self) -> Row:
        """The line of MARKS. Raises DataError for what is no prompt with answers to it, as training
        would.
        """
        prompt = protocol.conversation_of(self.prompt)
        if prompt.messages[-1].role != "user":
            raise DataError("The prompt does not end on the user.")
        contents = [
            protocol.ChatMessage(role="assistant", content=content, parts=None).content_parts
            for content in self.answers
        ]
        answers = [
            Conversation((*prompt.messages, Message("assistant", merge_texts(parts)))).to_dict()[
                "messages"
            ][-1]["content"]
            for parts in contents
        ]
        row: Row = {"prompt": prompt.to_dict()["messages"]}
        if len(answers) == 1:
            return row | {"answer": answers[0], "mark": self.mark}
        try:
            Preference.from_row(_pair(row["prompt"], *answers))
        except DataError as error:
            raise DataError(f"These answers make no pair: {error.what.rstrip('.')}.") from error
        return row | {"answers": answers, "better": self.better}


@router.get("", response_model=responses.Feedback)
async def feedback(name: str, request: Request) -> JSONResponse:
    """How many judgements and preference pairs a run has."""
    models = request.app.state.service.models
    return JSONResponse(await asyncio.to_thread(lambda: _counts(models.folder(name))))


@router.get("/pairs.jsonl", response_class=Response)
async def pairs(name: str, request: Request) -> Response:
    """The preference pairs, as `[dpo] data` reads them."""
    models = request.app.state.service.models
    content = await asyncio.to_thread(lambda: _read(models.folder(name), PAIRS))
    return Response(content, media_type="application/jsonl")


@router.post("", response_model=responses.Feedback)
async def judge(name: str, body: FeedbackRequest, request: Request) -> JSONResponse:
    """Keep a judgement. The latest on an answer, or on two, counts."""
    models, row = request.app.state.service.models, body.judgement()
    return JSONResponse(await asyncio.to_thread(lambda: _keep(models.folder(name), row)))


def _keep(folder: RunFolder, row: Row) -> Row:
    """Both files with one judgement more, each complete or as it was."""
    folder.check_entries()
    with waiting_lock(folder.feedback / ".lock"):
        old = _read(folder, MARKS)
        old += b"" if old.endswith(b"\n") or not old else b"\n"  # edited by hand
        marks = old + b"".join(_lines([row], MOST - len(old)))
        rows = [_known(line, folder, i) for i, line in enumerate(marks.splitlines(), 1)]
        found = b"".join(_lines(preference_rows(rows), MOST))
        write_atomic(folder.feedback / MARKS, marks)
        write_atomic(folder.feedback / PAIRS, found)
        return _counts(folder)


def _lines(rows: Iterable[Row], room: int) -> Iterator[bytes]:
    for row in rows:
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        room -= len(line)
        if room < 0:
            raise ApiError(
                400,
                f"This run's feedback has reached {MOST >> 20} MB, the most that is kept. Move its"
                f" folder feedback/ away to begin another.",
                code="limit_exceeded",
            )
        yield line


def _known(line: bytes, folder: RunFolder, number: int) -> Row:
    try:
        row = json.loads(line)
        FeedbackRequest.model_validate(
            {"answers": row.pop("answers", None) or [row.pop("answer")], **row}
        )
        return json.loads(line)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"Line {number} of {folder.feedback / MARKS} is no judgement of an answer.",
            "Mend the line, or move the file away.",
        ) from error


def preference_rows(judgements: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """The pairs that judgements give. To the same prompt, each answer marked bad is paired with the
    latest one marked good, and each marked good with the latest bad one; a comparison of two stands
    above their marks.
    """
    marks: dict[str, dict[str, str]] = {}
    compared: dict[tuple[str, frozenset[str]], tuple[str, str]] = {}
    for row in judgements:
        prompt = json.dumps(row["prompt"])
        answers = [json.dumps(answer) for answer in row.get("answers", [row.get("answer")])]
        if len(answers) == 1:
            marks.setdefault(prompt, {}).pop(answers[0], None)  # the latest stands last
            marks[prompt] |= {answers[0]: row["mark"]}
        else:
            compared.pop((prompt, frozenset(answers)), None)
            if row["better"] is not None:
                chosen, rejected = answers[:: -1 if row["better"] else 1]
                compared[prompt, frozenset(answers)] = chosen, rejected
    found: dict[tuple[str, frozenset[str]], tuple[str, str]] = {}
    for prompt, known in marks.items():
        good, bad = ([a for a in known if known[a] == mark] for mark in ("good", "bad"))
        for chosen in good:
            for rejected in bad if chosen == good[-1] else bad[-1:]:
                found[prompt, frozenset((chosen, rejected))] = chosen, rejected
    for (prompt, _), sides in (found | compared).items():
        yield _pair(json.loads(prompt), *map(json.loads, sides))


def _pair(prompt: list[Row], chosen: Any, rejected: Any) -> Row:
    sides = {"chosen": chosen, "rejected": rejected}
    return {"prompt": prompt} | {
        name: [{"role": "assistant", "content": content}] for name, content in sides.items()
    }


def _counts(folder: RunFolder) -> dict[str, Any]:
    marks, found = (_read(folder, name).count(b"\n") for name in (MARKS, PAIRS))
    return {"marks": marks, "pairs": found, "path": str(folder.feedback / PAIRS)}


def _read(folder: RunFolder, name: str) -> bytes:
    try:
        return read_plain(folder.feedback / name, MOST)
    except FileNotFoundError:
        return b""
