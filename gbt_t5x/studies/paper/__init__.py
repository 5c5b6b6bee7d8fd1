"""The paper's experiments at the size of two cores, and the page of its claims.

experiments     what its figures and tables are made of
study           trains that, and writes the numbers
measured        the numbers: CSV files, one for each figure and table
claims          what they say of each claim
webpage         the page, of webpage.html
"""
