"""Experiments: many runs as one question. A matrix of cells, the claims they decide, the tables and figures they fill."""
