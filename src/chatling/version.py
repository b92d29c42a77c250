"""The version, which also names the release."""

__version__ = "0.1.0"
