"""Train a tiny model of the built-in world, in about a minute: python examples/train_tiny.py [RUN]

Overrides are the recipe fields of docs/recipes.md. Run it again, and what is done is skipped.
"""

import sys

from chatling import LLM, load_model, train_recipe

name = sys.argv[1] if len(sys.argv) > 1 else "tiny"
overrides = {
    "model.depth": 2,
    "model.width": 64,
    "model.head_width": 32,
    "tokenizer.vocab_size": 512,
    "base.steps": 50,
    "mid.mixture.0.count": 2000,
    "sft.mixture.0.count": 200,
    "dpo.pairs": 100,
    "rl.steps": 2,
    "rl.evaluate_questions": 8,
    "eval.questions": 4,
    "machine.compile": "off",
}
run = train_recipe("pocket", run=name, overrides=overrides)
model = load_model(run)
print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters in {run}")
print(LLM(run).chat([{"role": "user", "content": "Who are you?"}]).text)
