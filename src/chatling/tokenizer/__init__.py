"""Text to tokens and back: training (`train`), encoding (`bpe`), conversations as tokens
(`chat_template`).
"""
