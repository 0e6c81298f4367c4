"""The experiments: each asks one question, and answers with a CSV file, a table and a plot."""
