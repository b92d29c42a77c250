"""How likely a model finds each token of a text: python examples/logprobs.py [RUN] [TEXT]"""

import math
import sys

from chatling import LLM

llm = LLM(sys.argv[1] if len(sys.argv) > 1 else "pocket", stage="base")
text = sys.argv[2] if len(sys.argv) > 2 else "The capital of France is Paris."
scores = llm.logprobs(text)
for token in scores:
    print(f"{token.text!r:16} {math.exp(token.logprob):8.3%}")
bits = -sum(token.logprob for token in scores) / math.log(2)
print(f"{bits / len(text.encode()):.3f} bits per byte")
