"""The README of an exported model."""

from pathlib import Path

from chatling.export.source import Source
from chatling.files import write_atomic
from chatling.model.config import parameter_counts

RUN = {
    "hf": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
ids = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello!"}], add_generation_prompt=True, return_tensors="pt"
)["input_ids"]
print(tokenizer.decode(model.generate(ids, tokenizer=tokenizer)[0]))
```

`trust_remote_code=True` lets `custom_generate/generate.py` run the calculator, whose calls the
model writes between `<|python_start|>` and `<|python_end|>`. Without it, results are made up.
vLLM: `vllm serve FOLDER --model-impl transformers`.""",
    "gguf": """```
llama-server -m model.gguf --jinja --temp 1.15
ollama create NAME -f Modelfile && ollama run NAME
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


def write(source: Source, folder: Path, name: str, dtype: str, found: list[str]) -> None:
    """`README.md`: what the model is, how it is run, and what the check after the export found."""
    config = source.model.config
    facts = (
        f"{parameter_counts(config)['total']:,} parameters, {config.depth} layers, width"
        f" {config.width}, vocabulary {config.vocab_size:,}, context {config.context:,} tokens"
    )
    lines = [
        f"# {source.run}",
        f"The {source.stage} model of the run `{source.run}`, trained with chatling: {facts}.",
        "## Run it",
        RUN[name],
        "## Checked",
        f"Weights as {dtype}, read back after writing:\n\n"
        + "\n".join(f"- {line}" for line in found),
        "Text that spells a special token such as `<|bos|>` becomes that token in the chat template"
        " here; in chatling it stays text.",
    ]
    write_atomic(folder / "README.md", "\n\n".join(lines) + "\n")
