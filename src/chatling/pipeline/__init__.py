"""The stages of a run: planned, downloaded, run, evaluated."""
