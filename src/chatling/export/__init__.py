"""Models in the formats of other tools. What was written is read back and compared before it is
kept.
"""
