"""Models that were trained elsewhere, or exported from here, become runs."""
