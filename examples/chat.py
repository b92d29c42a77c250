"""Chat with a trained run: python examples/chat.py [RUN]"""

import sys

from chatling import LLM

llm = LLM(sys.argv[1] if len(sys.argv) > 1 else "pocket")
messages = []
for question in ("Who are you?", "What is the capital of France?", "What is 17 plus 25?"):
    messages.append({"role": "user", "content": question})
    answer = llm.chat(messages)
    print(f"> {question}\n{answer.text}")
    messages.append(llm.message(answer))

print("> Thanks!")
for event in llm.stream([*messages, {"role": "user", "content": "Thanks!"}]):
    print(event.text, end="", flush=True)
print()
