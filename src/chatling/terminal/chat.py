"""Talking to a model in the terminal: streamed answers, a few commands, Ctrl-C that stops the
answer and not the program.
"""

import dataclasses
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from rich.console import Console

from chatling.errors import ChatlingError
from chatling.inference.engine import Engine, Event, Request, SamplingParams
from chatling.messages import Conversation, Message, PartKind
from chatling.run_dir import write_json
from chatling.signals import stop_requests
from chatling.tokenizer.chat_template import fit, parse_completion, render_prompt

HELP = """\
/reset        forget the conversation
/regen        answer the last message again
/temp X       sampling temperature; 0 always takes the likeliest token
/save FILE    write the conversation as JSON
/exit         leave (so do Ctrl-D, and Ctrl-C where you type)"""
_CONTROL = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def answer_once(
    engine: Engine, prompt: str, sampling: SamplingParams, *, out: TextIO | None = None
) -> None:
    """Answer one message and print only the answer. Raises ChatlingError when the prompt does not
    fit the context.
    """
    answer(engine, Conversation.of(prompt), sampling, console_for(out))


def answer(
    engine: Engine, conversation: Conversation, sampling: SamplingParams, console: Console
) -> list[int]:
    """Stream the answer to a conversation that ends on the user; returns its token ids. Ctrl-C ends
    it early.
    """
    stream = engine.stream(Request(tuple(render_prompt(engine.tokenizer, conversation)), sampling))
    writer, ids = AnswerWriter(console), []
    try:
        with stop_requests((signal.SIGINT,)) as pressed:
            for event in stream:
                writer.write(event)
                if event.token is not None:
                    ids.append(event.token)
                if pressed():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        writer.say(" (stopped)", dim=True)
    finally:
        stream.close()  # type: ignore[attr-defined]
        writer.say("\n")
    return ids


def console_for(out: TextIO | None) -> Console:
    """Plain text where the output is no terminal; nothing of what is printed is read as markup."""
    return Console(
        file=out or sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=True
    )


class AnswerWriter:
    """Prints events as they come. A calculator call is shown dim: `[12+7 = 19]`."""

    def __init__(self, console: Console):
        self.console = console
        self.part: PartKind | None = None  # the part that is being written
        self.in_call = self.after_call = False  # between the brackets; right behind them

    def write(self, event: Event) -> None:
        for chunk in event.chunks:
            begins = chunk.kind != self.part
            if chunk.kind == "text" or (chunk.kind == "python" and begins):
                self._end_call()
            if chunk.kind == "python" and begins:
                self.say("[", dim=True)
                self.in_call = True
            elif chunk.kind == "output" and begins and self.in_call:
                self.say(" = ", dim=True)
            elif self.after_call and chunk.text:
                self.say(" " if chunk.text[0].isalnum() else "")
                self.after_call = False
            self.say(chunk.text, dim=self.in_call)
            self.part = None if chunk.ends else chunk.kind
            if chunk.ends and chunk.kind == "output":
                self._end_call()
        if event.finish_reason:
            self._end_call()

    def say(self, text: str, *, dim: bool = False) -> None:
        """Print without what could steer the terminal: control characters are the model's whim."""
        self.console.print(text.translate(_CONTROL), end="", style="dim" if dim else None)

    def _end_call(self) -> None:
        if self.in_call:
            self.say("]", dim=True)
            self.in_call, self.after_call = False, True


class Chat:
    """A conversation and the commands that act on it. `run` reads lines until the end of input,
    /exit, or Ctrl-C at the prompt.
    """

    def __init__(self, engine: Engine, sampling: SamplingParams, *, out: TextIO | None = None):
        self.engine, self.sampling, self.console = engine, sampling, console_for(out)
        self.messages: list[Message] = []
        self.answers = 0  # each answer gets a seed of its own, or /regen would repeat itself
        self.commands: dict[str, Callable[[str], None]] = {
            "/reset": self.reset,
            "/regen": self.regenerate,
            "/temp": self.set_temperature,
            "/save": self.save,
            "/help": self.help,
        }

    def run(self, lines: Iterable[str] | None = None) -> None:
        """Talk until the input ends. `lines` stands in for the keyboard."""
        for line in typed_lines() if lines is None else lines:
            line = line.strip()
            if line in ("/exit", "/quit"):
                break
            if line:
                self.take(line)

    def take(self, line: str) -> None:
        """One line: a command, or a message to answer. What goes wrong is said in one sentence and
        the chat continues.
        """
        name, _, argument = line.partition(" ")
        try:
            if name in self.commands:
                self.commands[name](argument.strip())
            elif name.startswith("/") and name[1:].isalpha():
                self.note(f"There is no {name}; /help lists what there is.")
            else:
                self.ask([*self.messages, Message.of("user", line)])
        except ChatlingError as error:
            self.note(str(error))

    def ask(self, messages: list[Message]) -> None:
        """Answer messages that end on the user; they become the conversation if something is said
        to them.
        """
        sampling = dataclasses.replace(self.sampling, seed=self.sampling.seed + self.answers)
        self.answers += 1
        parts = parse_completion(
            self.engine.tokenizer,
            answer(self.engine, self._fitting(messages), sampling, self.console),
        )
        if any(part.text.strip() for part in parts):
            self.messages = [*messages, Message("assistant", parts)]
        else:
            self.note("(no answer)")

    def reset(self, _: str = "") -> None:
        self.messages = []
        self.note("The conversation starts over.")

    def regenerate(self, _: str = "") -> None:
        if not self.messages:
            self.note("There is nothing to answer again yet.")
            return
        if self.sampling.greedy:
            self.note("The temperature is 0, so the answer is the same; /temp 0.8 varies it.")
        self.ask(self.messages[:-1])

    def set_temperature(self, value: str) -> None:
        try:
            self.sampling = dataclasses.replace(self.sampling, temperature=float(value))
        except ValueError:
            self.note(
                f"/temp takes a number, such as /temp 0.8; it is {self.sampling.temperature:g} now."
            )
        else:
            self.note(f"Temperature {self.sampling.temperature:g}.")

    def save(self, name: str) -> None:
        if not name or not self.messages:
            self.note(
                "There is nothing to save yet."
                if name
                else "/save takes a file name, such as /save talk.json."
            )
            return
        path = Path(name).expanduser()
        try:
            write_json(path, Conversation(tuple(self.messages)).to_dict())
        except OSError as error:  # what the person typed may be a folder, or lie below a file
            raise ChatlingError(
                f"Cannot write {path}: {error.strerror}.", "Choose another place."
            ) from error
        self.note(f"Saved to {path}.")

    def help(self, _: str = "") -> None:
        self.note(HELP)

    def note(self, text: str) -> None:
        self.console.print(text.translate(_CONTROL), style="italic dim")

    def _fitting(self, messages: list[Message]) -> Conversation:
        """Without as many of the oldest turns as the context has no room for, some room kept for
        the answer.
        """
        room = self.engine.context - min(self.sampling.max_tokens, self.engine.context // 4)
        conversation, first = fit(self.engine.tokenizer, Conversation(tuple(messages)), room)
        if first:
            self.note(
                f"(The context is full: the model no longer sees the first {first} messages.)"
            )
        return conversation


def typed_lines() -> Iterable[str]:
    """Lines from the keyboard, with a prompt and line editing when it is one; ends at Ctrl-D or
    Ctrl-C.
    """
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        import readline  # noqa: F401 - arrow keys and history for input()
    while True:
        try:
            yield input("› " if terminal else "")
        except (EOFError, KeyboardInterrupt):
            if terminal:
                print()
            return
