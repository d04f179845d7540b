"""The papers' training recipes, on accelerate."""
