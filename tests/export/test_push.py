"""`chatling push` and `pull` with the real client of the Hub against a small Hub here: one commit,
private, nothing but the model, resumed after a cut, and back again as the same model.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from chatling.cli import main
from chatling.errors import DataError
from chatling.export import push as module
from chatling.export.formats import FORMATS, write_checked
from chatling.export.push import push
from chatling.export.source import Source
from chatling.importing.source import fingerprint
from chatling.run_dir import RunFolder, home
from chatling.train.checkpoint import save_model
from mirror import Fault, Mirror

REPO = "me/tiny"
HF = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
HF |= {"tokenizer_config.json", "custom_generate/generate.py", "custom_generate/calculator.py"}
SECRET = "a secret of mine"


def make_run(source: Source, name: str = "tiny", stage: str = "sft") -> RunFolder:
    """A finished run with all that a run has, each file of it with the secret where it may be."""
    folder = RunFolder(home() / "runs" / name)
    folder.path.mkdir(parents=True)
    source.tokenizer.save(folder.tokenizer)
    save_model(source.model, folder.model(stage), {"stage": stage})
    folder.write_state({"stages": {}, "execution": {"note": SECRET}})
    for place in ("feedback/pairs.jsonl", "data/sft-train/x.bin", "sft/metrics.jsonl", "report/r"):
        (folder.path / place).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / place).write_text(SECRET)
    return folder


@pytest.fixture(autouse=True)
def unchecked(monkeypatch) -> None:
    """Without what the tests of the formats look at."""

    def write(source: Source, name: str, folder: Path) -> list[str]:
        FORMATS[name].write(source, folder, FORMATS[name].types[0])
        return [f"{name} is checked elsewhere"]

    monkeypatch.setattr(module, "write_checked", write)


@pytest.fixture
def run(learned, mirror: Mirror, monkeypatch) -> RunFolder:
    monkeypatch.setenv("HF_TOKEN", mirror.token)
    return make_run(learned("classic", 1, steps=0))


def pushed(hub: Mirror, kind: str = "model") -> dict[str, bytes]:
    return hub.repositories[kind, REPO].files


def header(card: bytes) -> dict:
    return yaml.safe_load(card.decode().split("---\n")[1])


def test_a_push_that_was_cut_resumes_and_comes_back_as_the_same_model(run, mirror, capsys):
    mirror.faults.append(Fault("/lfs/*", status=403))
    assert main(["push", "tiny", REPO, "--gguf"]) == 1
    said = capsys.readouterr()
    assert "resumes" not in said.out
    assert said.err.splitlines()[-1].startswith("chatling: ")  # below the bar of progress
    assert "(403)" in said.err
    assert not pushed(mirror)
    (arrived,) = mirror.blobs
    begun = len(mirror.written)
    assert main(["push", "tiny", REPO, "--gguf"]) == 0
    said = capsys.readouterr().out
    assert f"{mirror.url}/{REPO} (private)" in said
    assert "without Xet" in said
    sent = [path for method, path, _ in mirror.written[begun:] if method == "PUT"]
    assert len(sent) == 1
    assert arrived not in sent[0]
    repository = mirror.repositories["model", REPO]
    assert repository.private
    assert repository.messages == ["sft model"]
    assert set(repository.files) == HF | {"model.gguf", "Modelfile"}
    assert main(["push", "tiny", REPO, "--gguf"]) == 0
    assert "Nothing has changed" in capsys.readouterr().out
    assert main(["pull", REPO, "--run", "back"]) == 0
    assert "chatling chat back" in capsys.readouterr().out
    first, back = (Source.of(RunFolder.open(name), "sft") for name in ("tiny", "back"))
    assert fingerprint(first) == fingerprint(back)
    assert main(["chat", "back", "--prompt", "Hello!", "--max-tokens", "3"]) == 0
    # what an imported run was made from is told when it is pushed itself
    push(RunFolder.open("back"), "me/other", note=lambda line: None)
    assert header(mirror.repositories["model", "me/other"].files["README.md"])["base_model"] == REPO
    # without the file for llama.cpp, the old one does not stay behind
    push(run, REPO, note=lambda line: None)
    assert set(pushed(mirror)) == HF


def test_nothing_but_the_model_leaves_the_machine(run, mirror, tmp_path):
    own = tmp_path / "epistles.jsonl"
    own.write_text(SECRET)
    (run.path / "recipe.toml").write_text(
        '[data]\nsource = "karpathy/fineweb-edu-100b-shuffle"\n'
        f'[sft]\nmixture = [{{task = "{own}"}}, {{task = "GSM8K"}}]\n[dpo]\ndata = "{own}"\n'
    )
    push(run, REPO, space=True, note=lambda line: None)
    assert set(pushed(mirror)) == HF
    assert set(pushed(mirror, "space")) == {"README.md", "index.html"}
    sent = b"".join(body for *_, body in mirror.written)
    sent += b"".join(data for kind in ("model", "space") for data in pushed(mirror, kind).values())
    for kept in (SECRET, "epistles", str(tmp_path), mirror.token, "feedback"):
        assert kept.encode() not in sent
    card = pushed(mirror)["README.md"].decode()
    assert "| files of one's own | not stated | sft |" in card
    assert "| openai/gsm8k | MIT | sft |" in card
    assert "<https://huggingface.co/datasets/openai/gsm8k>" in card
    assert "ODC-By-1.0 | base |" in card
    assert "dpo" not in card  # a stage after the one that was pushed
    assert "openai/gsm8k" in header(card.encode())["datasets"]
    assert mirror.repositories["space", REPO].sdk == "static"
    assert header(pushed(mirror, "space")["README.md"])["models"] == [REPO]


def test_the_card_has_the_scores_and_keeps_the_license_of_the_hub(run, mirror):
    push(run, REPO, note=lambda line: None)
    card = pushed(mirror)["README.md"].decode()
    assert "It has not been evaluated." in card
    assert "That is not recorded." in card
    # the commands of one card do not write over each other's folders
    made = re.findall(r"--out (\S+)", card)
    assert len(set(made)) == len(made) == 2
    run.evals.mkdir()
    row = {"name": "GSM8K", "correct": 3, "total": 40, "accuracy": 0.075, "interval": [0.02, 0.2]}
    files = {
        "sft-chat": [row],
        "sft-bpb": {"validation": 1.25, "train": None},
        "sft-harness": {"boolq": {"acc,none": 0.625, "acc_stderr,none": 0.1, "alias": "boolq"}},
        "base-core": {"core": 0.5, "tasks": {}},
    }
    for name, results in files.items():
        (run.evals / f"{name}.json").write_text(json.dumps({"results": results}))
    repository = mirror.repositories["model", REPO]
    card = repository.files["README.md"]
    repository.files["README.md"] = card.replace(b"---\n", b"---\nlicense: mit\n", 1)
    push(run, REPO, note=lambda line: None)
    card = repository.files["README.md"]
    assert b"| GSM8K | 7.5 % (2 to 20), 3 of 40 |" in card
    assert b"| bits per byte, validation text | 1.2500 |" in card
    meta = header(card)
    assert meta["license"] == "mit"
    (index,) = meta["model-index"]
    found = {
        (result["dataset"]["type"], metric["type"], metric["value"])
        for result in index["results"]
        for metric in result["metrics"]
    }
    expected = {("openai/gsm8k", "accuracy", 0.075), ("chatling", "acc", 0.625)}
    assert found == expected | {("chatling", "bits_per_byte", 1.25)}
    for way in ("chatling pull", "transformers", "ollama", "mlx_lm", "vllm", "--temp 1.15"):
        assert way.encode() in card
    assert b"FOLDER" not in card


def test_it_is_public_only_when_that_is_said(run, mirror, capsys):
    push(run, REPO, note=lambda line: None)
    push(run, REPO, public=True, note=lambda line: None)
    assert not mirror.repositories["model", REPO].private
    assert main(["push", "tiny", REPO]) == 1
    assert "--public" in capsys.readouterr().err


def test_another_models_files_are_not_mixed_with_ours(run, mirror, capsys):
    push(run, REPO, note=lambda line: None)
    pushed(mirror)["pytorch_model.bin"] = b"theirs"
    assert main(["push", "tiny", REPO]) == 1
    assert "pytorch_model.bin" in capsys.readouterr().err


FAULTS = {
    "a wrong token": (Fault("/api/repos/create", status=401), "(401)", "HF_TOKEN"),
    "no right to write": (Fault("/api/repos/create", status=403), "(403)", "HF_TOKEN"),
    "a mirror without uploads": (Fault("/api/repos/create", status=404), "(404)", "mirror"),
    "somebody else's commit": (Fault("*/commit/main", status=412), "(412)", "same command"),
    "a conflict": (Fault("*/commit/main", status=409), "(409)", "same command"),
    "a full account": (
        Fault("*/commit/main", status=402, error=f"Buy more, {Mirror.token}"),
        "402, Buy more",
        "",
    ),
    "too many requests": (Fault("*/commit/main", status=429, times=9), "(429)", "same command"),
    "a broken server": (Fault("*/commit/main", status=500, times=9), "answers 500", "resumes"),
    "a cut connection": (Fault("*/commit/main", cut=9, times=9), "connection broke", "resumes"),
    "a page instead of an answer": (Fault("*/preupload/main", status=200), "preupload", "resumes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_hub_is_one_sentence(run, mirror, name):
    fault, *said = FAULTS[name]
    mirror.faults.append(fault)
    with pytest.raises(DataError) as found:
        push(run, REPO, note=lambda line: None, pause=0.0)
    assert all(part in str(found.value) for part in said), found.value
    assert mirror.token not in str(found.value)
    assert "\n" not in str(found.value)
    mirror.faults.clear()
    push(run, REPO, note=lambda line: None)


def test_a_moment_of_trouble_is_waited_for(run, mirror):
    mirror.faults += [
        Fault("/api/repos/create", status=503),
        Fault("*/commit/main", status=429, headers={"Retry-After": "0"}),
        Fault("*/commit/main", cut=3),
    ]
    push(run, REPO, note=lambda line: None, pause=0.0)
    assert pushed(mirror)


@pytest.mark.parametrize(
    ("words", "token", "said"),
    [
        ("tiny tiny", "hf_x", "OWNER/NAME"),
        ("tiny a/b/c", "hf_x", "OWNER/NAME"),
        ("tiny a/b--c", "hf_x", "OWNER/NAME"),
        ("tiny a/b.git", "hf_x", "OWNER/NAME"),
        ("tiny ../x", "hf_x", "OWNER/NAME"),
        ("tiny", "hf_x", "required"),
        ("none a/b", "hf_x", "no run"),
        ("tiny a/b", "", "no token"),
        ("tiny a/b", "hf_\u00e4", "characters"),
        ("tiny a/b", "hf_\x07", "characters"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_anything_is_written(
    run, mirror, monkeypatch, capsys, words, token, said
):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    assert main(["push", *words.split()]) != 0
    error = capsys.readouterr().err
    assert said in error
    assert not token or token not in error
    assert not mirror.written
    assert not (run.path / "exports").exists()


def test_without_the_network_nothing_is_written(run, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["push", "tiny", REPO]) != 0
    assert "HF_HUB_OFFLINE forbids" in capsys.readouterr().err
    assert not (run.path / "exports").exists()


def test_a_modern_model_is_pushed_with_its_code_alone(learned, mirror, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", mirror.token)
    run = make_run(learned("modern", steps=0))
    assert main(["push", "tiny", REPO, "--gguf"]) == 2
    assert "--model.preset classic" in capsys.readouterr().err
    assert not mirror.written
    push(run, REPO, space=True, note=lambda line: None)
    assert "index.html" in pushed(mirror, "space")
    assert "modeling_chatling.py" in pushed(mirror)
    card = pushed(mirror)["README.md"]
    assert b"ollama" not in card
    assert b"vllm" not in card


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["classic", "modern"])
def test_what_is_pushed_was_checked(learned, mirror, monkeypatch, preset):
    """With the checks, and with all that a preset can be."""
    monkeypatch.setattr(module, "write_checked", write_checked)
    monkeypatch.setenv("HF_TOKEN", mirror.token)
    run, classic = make_run(learned(preset)), preset == "classic"
    said: list[str] = []
    push(run, REPO, gguf=classic, space=True, note=said.append)
    assert any("logits equal within" in line for line in said)
    assert f"/{REPO}" in said[-1]
    card = pushed(mirror)["README.md"].decode()
    assert all(f"- {line}" in card for line in said if line.startswith(("logits", "tokens", "KL")))
