"""How much a recipe trains on: the batch and the length of the base stage from the model's shape,
and the text that they need.
"""

import math

from chatling.config.recipe import Recipe
from chatling.config.stages import BaseConfig
from chatling.errors import RecipeError
from chatling.model.config import (
    ModelConfig,
    counted_at_depth_12,
    counted_parameters,
    parameter_counts,
)
from chatling.optim.param_groups import REFERENCE_BATCH

# of the tokens: Power Lines, arXiv 2505.13738
BATCH_EXPONENT = 0.383
# English web text at vocabulary 65,536: the reference run's 54 B characters for 11.2 B tokens
CHARACTERS_PER_TOKEN = 4.8
# more text than the tokens need, so that a tokenizer that does a little worse does not meet it
# twice
SPARE_TEXT = 1.05


def base_batch(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """Tokens of a step. Raises RecipeError when the recipe's batch does not hold whole rows.

    Where the recipe gives none: classic 524,288; modern that times (tokens / tokens at depth
    12)^0.383, the nearest power of two. Both numbers of tokens are the preset's, whatever length
    the recipe asks for. The nearest whole rows of that, at least one.
    """
    context = model.context
    if config.batch_tokens is not None:
        if config.batch_tokens < 1 or config.batch_tokens % context:
            raise RecipeError(
                f"base.batch_tokens {config.batch_tokens} is not a multiple of the context,"
                f" {context}.",
                f"Choose {whole_rows(config.batch_tokens, context)}.",
            )
        return config.batch_tokens
    if preset != "modern":
        return whole_rows(REFERENCE_BATCH, context)
    size = counted_parameters(model, preset) / counted_at_depth_12(model, preset)
    return whole_rows(2 ** round(math.log2(REFERENCE_BATCH * size**BATCH_EXPONENT)), context)


def whole_rows(tokens: int, context: int) -> int:
    """Tokens of the rows that are nearest to so many tokens, at least one row."""
    return max(1, round(tokens / context)) * context


def training_tokens(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """How many tokens the recipe trains on: classic 20 a parameter, modern 12 for each of the
    matrices and the head.
    """
    if config.steps is not None:
        return config.steps * base_batch(config, model, preset)
    if config.tokens is not None:
        return config.tokens
    if config.tokens_per_parameter is not None:
        return int(config.tokens_per_parameter * parameter_counts(model)["total"])
    return (12 if preset == "modern" else 20) * counted_parameters(model, preset)


def base_steps(config: BaseConfig, model: ModelConfig, preset: str) -> int:
    """Whole steps that the tokens give. Raises RecipeError when the batch does not hold whole rows,
    or the tokens asked for no step.
    """
    batch, tokens = base_batch(config, model, preset), training_tokens(config, model, preset)
    if tokens < batch and (config.tokens is not None or config.tokens_per_parameter is not None):
        raise RecipeError(
            f"[base] asks for {tokens:,} tokens, and one step takes {batch:,}: not one step would"
            " be trained.",
            "Ask for more with base.tokens, or set a smaller base.batch_tokens.",
        )
    return max(1, tokens // batch)


def base_tokens(recipe: Recipe) -> int:
    """Tokens that the base stage of a recipe trains on, in whole steps."""
    model, preset = recipe.model.resolve(recipe.tokenizer.vocab_size), recipe.model.preset
    return base_steps(recipe.base, model, preset) * base_batch(recipe.base, model, preset)


def text_characters(recipe: Recipe) -> float:
    """How much text to have for a recipe's tokenizer and base stage."""
    wanted = base_tokens(recipe) * CHARACTERS_PER_TOKEN * SPARE_TEXT
    return max(wanted, recipe.tokenizer.characters)


def own_tokens(size: float, vocab_size: int) -> float:
    """About how many tokens so many bytes of text are: 4.5 bytes each at 32,768 tokens and above,
    0.4 fewer at each half of that. Within 4 % of what docs/LOG.md measures on web text.
    """
    return size / max(1.0, 4.5 + min(0.0, 0.4 * math.log2(vocab_size / 32_768)))
