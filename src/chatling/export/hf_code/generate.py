"""generate() with the calculator: what the model writes between its python tokens is worked out,
and the result handed back to it.
"""

import warnings

import torch

from .calculator import calculate

TOOLS = ("<|python_start|>", "<|python_end|>", "<|output_start|>", "<|output_end|>")
# of generate()'s own arguments, those that hold for each part of an answer as well
PASSED_ON = ("do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def generate(
    inputs=None,
    generation_config=None,
    *,
    model,
    tokenizer=None,
    input_ids=None,
    attention_mask=None,
    max_new_tokens=None,
    **kwargs,
):
    """Answers to prompts (B, T), padded on the left as usual: ids (B, T + longest answer), padded
    on the right. Pass `tokenizer=`, which the calculator reads with.
    """
    prompts = inputs if input_ids is None else input_ids
    if tokenizer is None:
        raise ValueError("Pass tokenizer=: the calculator has to read what the model writes.")
    config = generation_config or model.generation_config
    most = max_new_tokens or config.max_new_tokens or 256
    passed = {name: kwargs.pop(name) for name in PASSED_ON if kwargs.get(name) is not None}
    if ignored := sorted(name for name, value in kwargs.items() if value not in (None, False)):
        warnings.warn(f"generate() with the calculator ignores {', '.join(ignored)}.", stacklevel=2)
    if generation_config is not None:
        passed["generation_config"] = generation_config
    masks = torch.ones_like(prompts) if attention_mask is None else attention_mask
    answers = [
        _answer(model, tokenizer, prompt[mask.bool()], most, passed)
        for prompt, mask in zip(prompts, masks, strict=True)
    ]
    longest = max(len(answer) for answer in answers)
    pad = model.generation_config.pad_token_id
    rows = [answer + [pad] * (longest - len(answer)) for answer in answers]
    return torch.cat((prompts, prompts.new_tensor(rows).view(len(rows), longest)), dim=1)


def _answer(model, tokenizer, prompt, most, passed):
    """The new ids of one prompt (T,), calculations among them. Those of a calculation's result
    count towards the context, not towards `most`, as in chatling.
    """
    python_start, python_end, output_start, output_end = tokenizer.convert_tokens_to_ids(TOOLS)
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends)
    # the last token is not read, so one more than the context has room for
    ids, sampled, room = prompt[None], 0, model.config.max_position_embeddings + 1
    while sampled < most and ids.shape[1] < room:
        before = ids.shape[1]
        ids = type(model).generate(
            model,
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=min(most - sampled, room - before),
            eos_token_id=[*ends, python_end],
            **passed,
        )
        sampled += ids.shape[1] - before
        written = ids[0].tolist()
        answer = written[len(prompt) :]
        if written[-1] != python_end:
            break
        if python_start not in answer:
            continue
        start = len(answer) - answer[::-1].index(python_start)
        if python_end in answer[start:-1]:
            continue
        result = calculate(tokenizer.decode(answer[start:-1]))
        if result is not None:
            text = tokenizer.encode(result, add_special_tokens=False)
            forced = [output_start, *text, output_end]
            ids = torch.cat((ids, ids.new_tensor([forced])), dim=1)[:, :room]
    return ids[0, len(prompt) :].tolist()
