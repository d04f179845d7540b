"""Data sets as USD: stages with time samples, and rendered frames and passes beside them."""
