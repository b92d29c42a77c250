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
# what was judged, and what training reads of it: pairs, and answers that were written instead
MARKS, PAIRS, CORRECTIONS = "marks.jsonl", "pairs.jsonl", "corrections.jsonl"
COUNTED = ("marks", "pairs", "corrections")
Row = dict[str, Any]
router = APIRouter(prefix="/api/runs/{name}/feedback", responses=ERRORS)


class FeedbackRequest(protocol.Model):
    """One answer and its mark or the answer that should have been given, or two answers and the
    place of the better one; null takes back what was said before.
    """

    prompt: Annotated[list[protocol.ChatMessage], Field(min_length=1)]
    answers: Annotated[list[protocol.Content], Field(min_length=1, max_length=2)]
    mark: Literal["good", "bad"] | None = None
    better: Literal[0, 1] | None = None
    correction: protocol.Text | None = None

    @model_validator(mode="after")
    def _one_judgement(self) -> "FeedbackRequest":
        others = ("better",) if len(self.answers) == 1 else ("mark", "correction")
        for other in others:
            if getattr(self, other) is not None:
                raise wrong("one answer has a mark or a correction; of two, one is better", other)
        if self.mark is not None and self.correction is not None:
            raise wrong("an answer is marked or corrected, one at a time", "correction")
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
        if len(answers) == 2:
            _check_pair(row["prompt"], *answers)
            return row | {"answers": answers, "better": self.better}
        if "correction" not in self.model_fields_set:
            return row | {"answer": answers[0], "mark": self.mark}
        if self.correction is not None:
            _check_pair(row["prompt"], self.correction, answers[0])
        return row | {"answer": answers[0], "correction": self.correction}


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
    """The files with one judgement more, each complete or as it was."""
    folder.check_entries()
    with waiting_lock(folder.feedback / ".lock"):
        old = _read(folder, MARKS)
        old += b"" if old.endswith(b"\n") or not old else b"\n"  # edited by hand
        marks = old + b"".join(_lines([row], MOST - len(old)))
        rows = [_known(line, folder, i) for i, line in enumerate(marks.splitlines(), 1)]
        made = {PAIRS: preference_rows(rows), CORRECTIONS: correction_rows(rows)}
        files = {name: b"".join(_lines(found, MOST)) for name, found in made.items()}
        for file, content in {MARKS: marks, **files}.items():
            write_atomic(folder.feedback / file, content)
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
    latest one marked good, and each marked good with the latest bad one; a comparison of two, or a
    correction of one, stands above their marks.
    """
    judgements = list(judgements)
    marks: dict[str, dict[str, str | None]] = {}
    compared: dict[tuple[str, frozenset[str]], tuple[str, str]] = {}
    for row in judgements:
        if "correction" in row:
            continue
        prompt = json.dumps(row["prompt"])
        answers = [json.dumps(answer) for answer in row.get("answers", [row.get("answer")])]
        if len(answers) == 1:
            marks.setdefault(prompt, {}).pop(answers[0], None)  # the latest stands last
            marks[prompt] |= {answers[0]: row.get("mark")}
        else:
            compared.pop((prompt, frozenset(answers)), None)
            if row.get("better") is not None:
                chosen, rejected = answers[:: -1 if row["better"] else 1]
                compared[prompt, frozenset(answers)] = chosen, rejected
    found: dict[tuple[str, frozenset[str]], tuple[str, str]] = {}
    for prompt, known in marks.items():
        good, bad = ([a for a in known if known[a] == mark] for mark in ("good", "bad"))
        for chosen in good:
            for rejected in bad if chosen == good[-1] else bad[-1:]:
                found[prompt, frozenset((chosen, rejected))] = chosen, rejected
    found |= compared
    for (prompt, answer), correction in _corrections(judgements).items():
        found[prompt, frozenset((correction, answer))] = correction, answer
    for (prompt, _), sides in found.items():
        yield _pair(json.loads(prompt), *map(json.loads, sides))


def correction_rows(judgements: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Conversations that end on an answer that was written in place of the model's, as `[sft]
    mixture` reads them: to the same messages, the latest one.
    """
    latest = {prompt: answer for (prompt, _), answer in _corrections(judgements).items()}
    for prompt, answer in latest.items():
        said = {"role": "assistant", "content": json.loads(answer)}
        yield {"messages": [*json.loads(prompt), said]}


def _corrections(judgements: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """What was written in place of an answer to a prompt, the latest last; all three as JSON."""
    found: dict[tuple[str, str], str] = {}
    for row in judgements:
        if "correction" in row:
            key = json.dumps(row["prompt"]), json.dumps(row["answer"])
            found.pop(key, None)
            if row["correction"] is not None:
                found[key] = json.dumps(row["correction"])
    return found


def _check_pair(prompt: list[Row], chosen: Any, rejected: Any) -> None:
    try:
        Preference.from_row(_pair(prompt, chosen, rejected))
    except DataError as error:
        raise DataError(f"These answers make no pair: {error.what.rstrip('.')}.") from error


def _pair(prompt: list[Row], chosen: Any, rejected: Any) -> Row:
    sides = {"chosen": chosen, "rejected": rejected}
    return {"prompt": prompt} | {
        name: [{"role": "assistant", "content": content}] for name, content in sides.items()
    }


def _counts(folder: RunFolder) -> dict[str, Any]:
    counts = {name: _read(folder, f"{name}.jsonl").count(b"\n") for name in COUNTED}
    return counts | {"path": str(folder.feedback / PAIRS)}


def _read(folder: RunFolder, name: str) -> bytes:
    try:
        return read_plain(folder.feedback / name, MOST)
    except FileNotFoundError:
        return b""
