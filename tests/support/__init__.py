"""What the tests share: cases, data, an independent oracle, and the functions that judge."""
