"""What is done with runs: comparisons, tables, figures, and trainings of several.

Every command is `python -m gbt_t5x.studies.NAME`, and has --help:

    compare     runs, or seeds of them, beside a baseline: a table and a figure
    paper       repeats the paper's experiments: a page of its claims
    rivals      trains what a user would pick instead of guidance, tuned by budgets
    schedules   what a guided run learned, as CSV and as a gin file that replays it
    scores      the paper's Tables 3, 6 and 7, from evaluations of T5X
    search      tunes a configuration by Bayesian optimisation
    sources     trains by each source of the guidance gradient, and compares
    transfer    trains a larger model by what a small one learned, and compares

Modules are imported by name: `from gbt_t5x.studies import runs`.
"""
