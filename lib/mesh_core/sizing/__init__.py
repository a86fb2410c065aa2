"""What a number of accounts needs, by figures that our own benchmarks measured."""
