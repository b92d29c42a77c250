"""The `[extend]` table: a longer context after base."""

from dataclasses import field
from typing import Annotated, Literal

from chatling.config.stages import LaterRates
from chatling.errors import RecipeError
from chatling.fields import BatchTokens, Rate, bounded, config


@config
class ExtendConfig(LaterRates):
    """The `[extend]` table. Layers with a window see as far as before; the others learn to see
    further.
    """

    context: Annotated[int, bounded(ge=2, le=2**20)]
    """Tokens of a row from here on, and of the longest conversation."""
    scaling: Literal["theta", "yarn"] = "theta"
    """A larger rotary base, or YaRN's interpolation by parts."""
    rope_theta: Annotated[float, bounded(ge=1, le=10**12)] | None = None
    """The larger base; empty: the model's, times twice as much as the context grows."""
    share: Annotated[float, bounded(gt=0, le=1)] = 0.03
    """Of base's tokens, how many are trained on; usual: 0.02 to 0.05."""
    long_share: Annotated[float, bounded(gt=0, lt=1)] = 0.333
    """How much of them is documents longer than `model.context`, each whole, as far as there are
    such.
    """
    batch_tokens: BatchTokens | None = None
    """Of a step, a multiple of the context; empty: base's, in whole rows."""
    learning_rate_fraction: Rate = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        """Raises RecipeError for what does not go together."""
        if self.scaling == "yarn" and self.rope_theta is not None:
            raise RecipeError(
                'extend.rope_theta is the base of scaling "theta"; YaRN keeps the model\'s.',
                "Leave it out, or set extend.scaling to theta.",
            )
        if self.batch_tokens is not None and self.batch_tokens % self.context:
            raise RecipeError(
                f"extend.batch_tokens {self.batch_tokens} is not a multiple of extend.context,"
                f" {self.context}.",
                f"Choose {max(1, round(self.batch_tokens / self.context)) * self.context}.",
            )
