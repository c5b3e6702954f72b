"""Adapters between Flink's keyed state and the pure folds of `waypost.model`; no rule lives here."""
