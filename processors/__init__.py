"""What we decide: pure functions of values. No input, no output, no clock, no await."""
