"""What samples are worth: the judge, the metrics, and the CSV files that hold them."""
