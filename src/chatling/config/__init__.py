"""Recipes: TOML files and typed overrides."""
