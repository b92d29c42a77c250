"""The shape of a model: one dial (depth), two presets, and what follows from them in parameters and
FLOPs.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal

from chatling.errors import DataError, RecipeError
from chatling.fields import Width, bounded, config

# logits that exist at once on a GPU: 512 MiB of fp32, matrix products large enough to fill it
LOGITS_CHUNK = 1 << 27
# most tokens of a chunk of the loss on CUDA (docs/DECISIONS.md)
LOSS_ROWS = 8192
# of the model that the modern batch and weight decay were tuned at
REFERENCE_DEPTH, REFERENCE_WIDTH = (12, 768)
EPSILON_FP32 = (
    1.1920929e-07  # torch.finfo(float32).eps, what `transformers` needs for bit-equal logits
)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a model's function. Defaults are the classic preset; `modern` sets the
    flags at the end.
    """

    depth: int
    width: int
    heads: int
    kv_heads: int
    vocab_size: int
    context: int
    mlp_width: int
    rope_theta: float = 10_000.0
    norm_eps: float = EPSILON_FP32
    softcap: float = 15.0
    windows: tuple[int, ...] = ()  # attention window of each layer, 0 = full; empty = all full
    qk_scale: float = 1.0
    value_embeddings: bool = (
        False  # a second embedding added to the values of every other layer, behind a gate
    )
    layer_scalars: bool = (
        False  # learned scales of the residual stream and of a skip from the input, per layer
    )
    smear: bool = False  # each token also sees its predecessor's embedding
    backout: bool = False  # part of the mid-layer residual is taken out before the head
    backout_layer: int = -1  # whose residual that is, from 0; -1: (depth - 1) // 2
    modern_init: bool = False
    # after an extension (train/extend.py); layers with a window see no further than before
    window_theta: float = 0.0  # rope_theta of layers with a window; 0: as that of the others
    yarn_factor: float = 1.0  # how many times YaRN made the context of full layers longer
    yarn_context: int = 0  # from which context

    def __post_init__(self) -> None:
        if min(self.width, self.heads, self.kv_heads, self.mlp_width) < 1:
            raise RecipeError("model.width and model.kv_heads must be positive.")
        if self.width % self.heads or self.heads % self.kv_heads:
            raise RecipeError(
                f"Width {self.width} does not divide into {self.heads} heads, or these into"
                f" {self.kv_heads} key/value heads.",
                "Choose model.width, model.head_width and model.kv_heads that divide.",
            )
        if self.head_width % 2:
            raise RecipeError(
                f"Head width {self.head_width} is odd; rotary embeddings need an even one.",
                "Change model.head_width.",
            )
        if min(self.depth, self.width, self.vocab_size, self.context) < 1:
            raise RecipeError("model.depth, width, vocabulary and context must all be positive.")
        if self.yarn_factor < 1 or (self.yarn_factor > 1) != (self.yarn_context > 0):
            raise RecipeError("YaRN makes a context longer: its factor is above 1, from a context.")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def window(self, layer: int) -> int:
        """Attention window of a layer in tokens; 0 means full causal attention."""
        return self.windows[layer] if self.windows else 0

    @property
    def two_rotations(self) -> bool:
        """Whether layers with a window rotate by other angles than full ones."""
        return any(self.windows) and bool(self.window_theta or self.yarn_factor > 1)

    def attention_scale(self, layer: int) -> float:
        """What queries and keys are multiplied by once they are normed: with YaRN, full layers
        attend more sharply (its temperature, arXiv 2309.00071, equation 22).
        """
        longer = 1.0 if self.window(layer) else self.yarn_factor
        return self.qk_scale * (0.1 * math.log(longer) + 1.0)

    def has_value_embedding(self, layer: int) -> bool:
        """Every other layer, the last one included."""
        return self.value_embeddings and layer % 2 == (self.depth - 1) % 2

    @property
    def middle_layer(self) -> int:
        """The layer whose residual `backout` takes out."""
        return (self.depth - 1) // 2 if self.backout_layer < 0 else self.backout_layer

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self) | {"windows": list(self.windows)}
        # as files were before there were these fields
        return {key: value for key, value in found.items() if LATER.get(key) != value}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ModelConfig:
        """Raises DataError when a field is unknown or missing."""
        unknown = set(data) - {field.name for field in fields(ModelConfig)}
        if unknown:
            raise DataError(
                f"Unknown model fields {sorted(unknown)}.",
                "The model was written by another version of chatling.",
            )
        for name, value in data.items():
            if not _sensible(name, value):
                raise DataError(f"The model field {name} is {str(value)[:40]}, which no model has.")
        try:
            config = ModelConfig(**{**data, "windows": tuple(data.get("windows", ()))})
        except TypeError as error:
            raise DataError(f"Incomplete model config ({error}).") from error
        except RecipeError as error:
            raise DataError(error.what) from error
        if config.backout_layer >= config.depth:
            raise DataError(f"The model has no layer {config.backout_layer} to back out.")
        if len(config.windows) not in (0, config.depth):
            raise DataError(
                f"The model has {config.depth} layers and {len(config.windows)} windows."
            )
        return config


# fields that models are older than, with what they have then
LATER = {"backout_layer": -1, "window_theta": 0.0, "yarn_factor": 1.0, "yarn_context": 0}
MOST = {
    "depth": 10_000,
    "context": 1 << 20,
    "windows": 1 << 20,
    "yarn_context": 1 << 20,
}  # and of the other whole numbers:
MOST_WIDE = 1 << 24


def _sensible(name: str, value: Any) -> bool:
    """Whether a field that was read has the type and a size that a model can have; files are
    untrusted input.
    """
    kind = ModelConfig.__annotations__[name]
    if kind == "bool":
        return isinstance(value, bool)
    if name == "backout_layer":
        return type(value) is int and -1 <= value < MOST["depth"]
    if kind == "int":
        return type(value) is int and 0 < value <= MOST.get(name, MOST_WIDE)
    if kind == "float":
        return type(value) in (int, float) and 0 < value < math.inf
    return isinstance(value, list | tuple) and all(
        type(each) is int and 0 <= each <= MOST[name] for each in value
    )


@config
class ModelRecipe:
    """The `[model]` table. Everything follows from `depth`; the rest overrides what would
    follow.
    """

    preset: Literal["classic", "modern"] = "classic"
    """The classic model, or with what later work found to pay."""
    depth: Annotated[int, bounded(ge=1, le=1024)] = 20
    """Layers; everything else follows."""
    context: Annotated[int, bounded(ge=1, le=2**20)] = 2048
    """Tokens of a row, and of the longest conversation."""
    width: Width | None = None
    """Channels; empty: 64 × depth, rounded up to whole heads where it does not divide into its
    heads.
    """
    head_width: Width = 128
    """Channels of a head: an even number; the width must divide into heads."""
    kv_heads: Width | None = None
    """Key and value heads; empty: as many as heads. Fewer save cache; heads must be a multiple of
    it.
    """
    rope_theta: Annotated[float, bounded(ge=1, le=10**12)] | None = None
    """Base of the rotary wavelengths; empty: classic 10,000, modern 100,000."""
    window_pattern: (
        Annotated[str, bounded(pattern="^[SLsl]{1,1024}$", title="letters S and L")] | None
    ) = None
    """S sees 3/8 of the context, L all of it; repeated over the layers, the last of which always
    sees all. Empty: classic "L", modern "SSSL".
    """

    def resolve(self, vocab_size: int) -> ModelConfig:
        """The full shape for a tokenizer's vocabulary."""
        if min(self.depth, self.head_width, self.context) < 1:
            raise RecipeError("model.depth, head_width and context must all be positive.")
        width = self._usual_width() if self.width is None else self.width
        heads = -(-width // self.head_width)
        modern = self.preset == "modern"
        pattern = (self.window_pattern or ("SSSL" if modern else "L")).upper()
        if set(pattern) - {"S", "L"}:
            raise RecipeError(
                f"model.window_pattern {pattern!r} holds letters other than S and L.",
                'Write for example "SSSL".',
            )
        short = 3 * self.context // 8  # 768 of 2,048
        windows = [
            short if pattern[layer % len(pattern)] == "S" else 0 for layer in range(self.depth)
        ]
        windows[-1] = 0
        return ModelConfig(
            depth=self.depth,
            width=width,
            heads=heads,
            kv_heads=heads if self.kv_heads is None else self.kv_heads,
            vocab_size=vocab_size,
            context=self.context,
            mlp_width=4 * width,
            rope_theta=self.rope_theta or (100_000.0 if modern else 10_000.0),
            windows=tuple(windows) if any(windows) else (),
            qk_scale=1.2 if modern else 1.0,
            value_embeddings=modern,
            layer_scalars=modern,
            smear=modern,
            backout=modern,
            modern_init=modern,
        )

    def _usual_width(self) -> int:
        """64 x depth; where that does not divide into its heads (of an even width), so many heads
        of the full head width.
        """
        width = 64 * self.depth
        heads = -(-width // self.head_width)
        return width if width % heads == 0 and width // heads % 2 == 0 else heads * self.head_width


VALUE_GATE_INPUTS = 12  # the gates look at the first few channels only: cheap, and enough
SMEAR_GATE_INPUTS = 24


def gate_inputs(config: ModelConfig, wanted: int) -> int:
    return min(wanted, config.width)


def parameter_counts(config: ModelConfig) -> dict[str, int]:
    """Parameters by group: embedding, head, matrices, value_embeddings, scalars (gates included),
    and their total.
    """
    c = config
    kv_width = c.kv_heads * c.head_width
    per_layer = 2 * c.width * c.width + 2 * c.width * kv_width + 2 * c.width * c.mlp_width
    value_layers = sum(c.has_value_embedding(layer) for layer in range(c.depth))
    scalars = _value_gates(c)
    scalars += 2 * c.depth if c.layer_scalars else 0
    scalars += gate_inputs(c, SMEAR_GATE_INPUTS) + 1 if c.smear else 0
    scalars += 1 if c.backout else 0
    counts = {
        "embedding": c.vocab_size * c.width,
        "head": c.vocab_size * c.width,
        "matrices": c.depth * per_layer,
        "value_embeddings": value_layers * c.vocab_size * kv_width,
        "scalars": scalars,
    }
    return counts | {"total": sum(counts.values())}


def _value_gates(config: ModelConfig) -> int:
    layers = sum(config.has_value_embedding(layer) for layer in range(config.depth))
    return layers * config.kv_heads * gate_inputs(config, VALUE_GATE_INPUTS)


def counted_parameters(config: ModelConfig, preset: str) -> int:
    """The parameters that the preset's number of tokens goes by: classic all of them, modern the
    matrices, value gates and the head.
    """
    counts = parameter_counts(config)
    return (
        counts["matrices"] + _value_gates(config) + counts["head"]
        if preset == "modern"
        else counts["total"]
    )


def counted_at_depth_12(config: ModelConfig, preset: str) -> float:
    """`counted_parameters` of the model of depth 12 and width 768 with this one's vocabulary, head
    width and share of key/value heads.

    A number without a shape: no whole number of key/value heads need give that share there.
    """
    depth, width, share = REFERENCE_DEPTH, REFERENCE_WIDTH, config.kv_heads / config.heads
    matrices = depth * width * width * (2 + 2 * share + 8)
    if preset != "modern":
        return matrices + 2 * config.vocab_size * width
    gates = depth / 2 * width / config.head_width * share * VALUE_GATE_INPUTS
    return matrices + gates + config.vocab_size * width


def flops_per_token(config: ModelConfig, context: int | None = None, rank: int = 0) -> float:
    """Training FLOPs a token, forward and backward: 6 per matrix weight, plus 12 x width x keys of
    attention a layer. With adapters of a `rank`, the model's own weights are frozen: 4 each, since
    they get no gradient, and 6 for each of the adapters'.

    Keys are counted as min(window, context) without the causal half, as in PaLM (arXiv 2204.02311,
    appendix B), so that utilisation figures compare with published ones.
    """
    context = context or config.context
    counts = parameter_counts(config)
    keys = sum(min(config.window(layer) or context, context) for layer in range(config.depth))
    own = (4 if rank else 6) * (counts["matrices"] + counts["head"])
    return own + 6 * adapter_parameters(config, rank) + 12 * config.width * keys


def adapter_parameters(config: ModelConfig, rank: int) -> int:
    """Parameters of adapters of a rank: a column and a row of each matrix in the blocks."""
    c = config
    kv_width = c.kv_heads * c.head_width
    sides = 2 * (c.width + c.width) + 2 * (c.width + kv_width) + 2 * (c.width + c.mlp_width)
    return c.depth * rank * sides


def model_memory(
    config: ModelConfig, *, training: bool, weight_bytes: int = 4, rank: int = 0, shards: int = 1
) -> int:
    """Bytes of weights, and in training also of fp32 gradients and optimizer state (Muon 1 moment,
    AdamW 2): of all parameters, or with a `rank` of adapters alone. Where blocks are spread over
    processes, of one of so many, with two blocks that are whole for a moment.
    """
    counts = parameter_counts(config)
    if not training:
        return counts["total"] * weight_bytes
    if rank:
        return 4 * (counts["total"] + 3 * adapter_parameters(config, rank))
    blocks, rest = counts["matrices"], counts["total"] - counts["matrices"]
    if shards > 1:
        # in bf16 with gradients of their own, and the sum's input in fp32
        gathered = 2 * 8 * blocks // config.depth
        return 4 * (blocks * 3 + rest * 2) // shards + 4 * rest * 2 + gathered
    return 4 * (blocks * 3 + rest * 4)


def activation_memory(config: ModelConfig, rows: int, element_bytes: int = 2) -> int:
    """Bytes that one micro-batch of `rows` x context tokens keeps for its backward pass: what
    compiled blocks choose to keep, and the loss (tests/rehearsal holds it to whole steps).
    """
    c = config
    kv_width = c.kv_heads * c.head_width
    # the residual stream before and after attention, what each is normed to, attention's output;
    # q, k, v; q and k rotated; the MLP before and after its activation
    per_token = (7 * c.width + 3 * kv_width + 2 * c.mlp_width) * element_bytes
    per_token += c.width * element_bytes if c.layer_scalars else 0
    value_layers = sum(c.has_value_embedding(layer) for layer in range(c.depth))
    ends = 8 * c.width + value_layers * kv_width  # embeddings, and the last states with theirs
    tokens = rows * c.context
    counts = parameter_counts(c)
    # matrices cast to the compute dtype; the head's gradient is made before it is added
    weights = counts["matrices"] * (element_bytes if element_bytes < 4 else 0)
    head_gradient = 4 * counts["head"]
    return tokens * (c.depth * per_token + ends * element_bytes) + weights + head_gradient


def loss_rows(tokens: int) -> int:
    """Tokens of a chunk of the loss on CUDA, of a micro-batch's: an eighth, so that it takes little
    memory where a micro-batch does, but at least a quarter of the most.
    """
    return min(tokens, LOSS_ROWS, max(LOSS_ROWS // 4, tokens // 8))


def logits_memory(config: ModelConfig, rows: int) -> int:
    """Bytes of the loss's logits and what is made of them, three fp32 tensors for one chunk of a
    micro-batch's tokens, as on CUDA.
    """
    return 3 * 4 * config.vocab_size * loss_rows(config.context * rows)
