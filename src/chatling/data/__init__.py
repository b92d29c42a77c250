"""Corpora on disk as token shards, and the training batches made from them."""
