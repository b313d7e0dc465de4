"""What takes how long, beside others: every contender in one run, interleaved, medians."""
