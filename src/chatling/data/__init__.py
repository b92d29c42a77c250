"""Corpora on disk as token shards, and the training batches made from them."""

IGNORE = -1  # a target that is not trained on
