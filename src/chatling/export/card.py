"""The README of an export: what the model is, how it is run, and what the check found."""

from collections.abc import Sequence
from pathlib import Path

from chatling.export.hf import is_classic
from chatling.export.source import Source
from chatling.files import write_atomic
from chatling.model.config import parameter_counts

RUN = {
    "hf": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)
ids = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello!"}], add_generation_prompt=True, return_tensors="pt"
)["input_ids"]
print(tokenizer.decode(model.generate(ids, tokenizer=tokenizer)[0]))
```

`trust_remote_code=True` lets `custom_generate/generate.py` run the calculator, whose calls the
model writes between `<|python_start|>` and `<|python_end|>`. Without it, results are made up.""",
    "gguf": """```
llama-server -m FOLDER/model.gguf --jinja --temp 1.15
cd FOLDER && ollama create mine -f Modelfile && ollama run mine
```

These programs leave out the model's last softcap: the likeliest token stays the same, the
distribution is sharper, and temperature 1.15 is nearest to 1.0 here. They run no calculator: what
the model writes between `<|python_start|>` and `<|python_end|>` gets no result.""",
    "mlx": """```
mlx_lm.generate --model FOLDER --prompt "Hello!"
```

It runs no calculator: what the model writes between `<|python_start|>` and `<|python_end|>` gets no
result.""",
    "html": "Open the page in a browser. It works offline, and nothing that is typed leaves it.",
}
VLLM = "vLLM: `vllm serve FOLDER --model-impl transformers`. It runs no calculator either."
LITERAL = (
    "Text that spells a special token such as `<|bos|>` becomes that token in the chat template"
    " here; in chatling it stays text."
)


def about(source: Source) -> str:
    """What the model is, in a sentence."""
    config = source.model.config
    return (
        f"The {source.stage} model of the run `{source.run}`, trained with chatling:"
        f" {parameter_counts(config)['total']:,} parameters, {config.depth} layers, width"
        f" {config.width}, vocabulary {config.vocab_size:,}, context {config.context:,} tokens."
    )


def how_to_run(source: Source, name: str, folder: str = "FOLDER") -> str:
    """The commands for a format, and what to know of them."""
    # vLLM's paged cache does not keep what the modern preset's smear gate looks at
    more = f"\n\n{VLLM}" if name == "hf" and is_classic(source.model.config) else ""
    return (RUN[name] + more).replace("FOLDER", folder)


def listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def write(source: Source, folder: Path, name: str, dtype: str, found: Sequence[str]) -> None:
    """`README.md`."""
    lines = [
        f"# {source.run}",
        about(source),
        "## Run it",
        how_to_run(source, name),
        "## Checked",
        f"Weights as {dtype}, read back after writing:",
        listed(found),
        LITERAL,
    ]
    write_atomic(folder / "README.md", "\n\n".join(lines) + "\n")
