"""Continue many texts at once: python examples/batch_generation.py [RUN]

Requests share one batch, and the same seed gives the same text whatever else is in it.
"""

import sys

from chatling import LLM, SamplingParams

llm = LLM(sys.argv[1] if len(sys.argv) > 1 else "pocket", stage="base", max_batch_size=4)
prompts = ["The capital of France is", "A cat is an", "Monday comes after", "One and two is"]
params = SamplingParams(temperature=0.8, top_k=50, max_tokens=16, seed=1, stop=("\n",))
for prompt, completion in zip(prompts, llm.generate(prompts, params), strict=True):
    print(f"{prompt}|{completion.text}  ({completion.finish_reason}, {len(completion.ids)} tokens)")
