"""The configuration of a chatling model for transformers."""

from transformers import PretrainedConfig


class ChatlingConfig(PretrainedConfig):
    """A decoder with the parts of chatling's `modern` preset; fields as `config.json` has them."""

    model_type = "chatling"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - as in transformers

    def __init__(
        self,
        vocab_size=65536,
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=20,
        num_attention_heads=10,
        num_key_value_heads=10,
        max_position_embeddings=2048,
        rope_theta=100000.0,
        rms_norm_eps=1.1920929e-07,
        final_logit_softcapping=15.0,
        sliding_window=None,
        layer_types=None,
        qk_scale=1.2,
        value_embedding_layers=(),
        value_gate_inputs=12,
        layer_scalars=False,
        smear=False,
        smear_gate_inputs=24,
        backout=False,
        backout_layer=None,
        window_theta=0.0,
        yarn_factor=1.0,
        yarn_context=0,
        use_cache=True,
        **kwargs,
    ):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.intermediate_size, self.num_hidden_layers = intermediate_size, num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = hidden_size // num_attention_heads
        self.max_position_embeddings, self.rope_theta = max_position_embeddings, rope_theta
        self.rms_norm_eps, self.final_logit_softcapping = rms_norm_eps, final_logit_softcapping
        self.sliding_window, self.qk_scale = sliding_window, qk_scale
        self.layer_types = list(layer_types or ["full_attention"] * num_hidden_layers)
        self.value_embedding_layers = list(value_embedding_layers)
        self.value_gate_inputs, self.smear_gate_inputs = value_gate_inputs, smear_gate_inputs
        self.layer_scalars, self.smear, self.backout = layer_scalars, smear, backout
        usual = (num_hidden_layers - 1) // 2
        self.backout_layer = usual if backout_layer is None else backout_layer
        self.window_theta = window_theta
        self.yarn_factor, self.yarn_context = yarn_factor, yarn_context
        self.use_cache = use_cache
        kwargs.pop("tie_word_embeddings", None)
        super().__init__(tie_word_embeddings=False, **kwargs)
