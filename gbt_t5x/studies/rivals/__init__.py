"""What a user would pick in place of guidance, each with the same tuning budget.

candidates      the rivals, and the settings to tune each by
study           trains them
scoring         how they compare: CSV files and the table
plot            the figure
"""
