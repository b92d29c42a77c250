"""Chat with a trained run: python examples/chat.py [RUN]"""

import sys

from chatling import LLM, SamplingParams

llm = LLM(sys.argv[1] if len(sys.argv) > 1 else "pocket")
params = SamplingParams(temperature=0, max_tokens=24)
messages = [{"role": "user", "content": "Who are you?"}]
answer = llm.chat(messages, params)
print(answer.text)

messages += [llm.message(answer), {"role": "user", "content": "Thanks!"}]
for event in llm.stream(messages, params):
    print(event.text, end="", flush=True)
print(f"\n({len(messages)} messages)")
