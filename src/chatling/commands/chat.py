"""Talk in the terminal."""

from chatling.commands.common import Command, command_parser, open_run
from chatling.run_dir import STAGES


def run(command: Command, words: list[str]) -> None:
    parser = command_parser(command)
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run's name or folder; the one last worked on"
    )
    parser.add_argument("--stage", choices=STAGES, help="which model; the most advanced one")
    parser.add_argument("--prompt", metavar="TEXT", help="answer this once and exit")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0 takes the likeliest token; higher varies more (0)",
    )
    parser.add_argument(
        "--top-k", type=int, default=0, help="choose among this many likeliest tokens; 0 = all (0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (0)")
    parser.add_argument("--max-tokens", type=int, default=256, help="of an answer (256)")
    given = parser.parse(words)
    folder = open_run(given.run)
    stage = folder.finished_stage(given.stage)

    from chatling.data.examples import example_prompts
    from chatling.inference.sampling import SamplingParams
    from chatling.llm import open_engine
    from chatling.terminal.chat import Chat, answer_once

    sampling = SamplingParams(
        given.temperature, given.top_k, seed=given.seed, max_tokens=given.max_tokens
    )
    engine = open_engine(folder, stage)
    if given.prompt is not None:
        answer_once(engine, given.prompt, sampling)
    else:
        print(f"Talking to {folder.name} ({stage}). /help lists commands; Ctrl-D leaves.")
        for path in folder.path.absolute().parent.glob(
            f"{folder.name}-improved-*/improve/kept.json"
        ):
            print(f"An improvement of it was kept: chatling chat {path.parent.parent.name}")
        if examples := example_prompts(folder, stage):
            print("For example:", *examples, sep="\n  ")
        Chat(engine, sampling).run()
