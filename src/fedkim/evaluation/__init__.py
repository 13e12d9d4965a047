"""Evaluation: scores with intervals by patient, beside every reference that could explain them away.

A method's answers become :class:`~fedkim.evaluation.predictions.Predictions`; :func:`~fedkim.evaluation.scoring.score_rows`
turns those of several methods on one task into an entry of the run's result, and
:func:`~fedkim.evaluation.tables.render_table` prints the whole.
"""
