"""Small programs that train with fastconv: run them by their path, `python examples/digits.py`."""
