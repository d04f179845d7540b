"""Metrics and tables on held-out scenes and models."""
